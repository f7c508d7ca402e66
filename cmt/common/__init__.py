"""Helpers that every package may import: progress, files, dates, text, digests, provenance,
plots.
"""
