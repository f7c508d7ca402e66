"""Prefect flows: they order calls of `cmt`. Nothing else imports Prefect."""
