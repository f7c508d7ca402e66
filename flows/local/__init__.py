"""Launchers: a Prefect server, a worker and PostgreSQL on this machine, and the two demos that run
on them.
"""
