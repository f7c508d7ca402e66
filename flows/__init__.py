"""Prefect, and only here: flows that order calls of cmt, and the demo that runs them."""
