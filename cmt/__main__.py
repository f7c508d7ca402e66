"""`python -m cmt` is `cmt`."""

from cmt.cli.main import main

main()
