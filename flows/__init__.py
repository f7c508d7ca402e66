"""Prefect flows that call `cmt` in order; Prefect is imported here only."""
