"""`python -m cmt` is `cmt`."""

from cmt.cli import main

main()
