"""Fixtures of the tests of answering."""

from tests.helpers.scripted import bank, lm, other_lm, script, textless_bank

__all__ = ["bank", "lm", "other_lm", "script", "textless_bank"]
