"""`python -m agssp` is the `agssp` command."""

from .cli import main

main()
