"""Training losses: each term of the papers as a small module or function."""
