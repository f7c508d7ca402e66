"""A round of the ledger."""

from cmt.bank.rounds import Round

ROUND = Round(
    round_id="2031-01/0001",
    number=1,
    slice_id="2031-01/0001",
    slice_digest="s" * 64,
    compressor="c" * 64,
    row_format="int8-text",
    params_digest="p" * 64,
    state="started",
    version_before=1,
)
"""A started round; tests `replace` the fields they need."""
