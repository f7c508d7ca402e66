"""Sources that the stream follows: connectors list and fetch what a source has, `sync` compares it
with the stream.
"""
