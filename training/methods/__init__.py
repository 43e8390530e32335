"""One recipe file per method. The trainer finds them by listing this folder."""
