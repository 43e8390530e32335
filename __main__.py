"""`python -m facewright` is the `facewright` command."""

from .headless.cli import main

main()
