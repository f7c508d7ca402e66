"""Entry point of `python -m cmt`."""

from cmt.cli.main import main

main()
