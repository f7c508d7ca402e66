"""The frozen language model: fetching, converting, loading, prompting, decoding."""

import os

# Every use of a tokenizer goes through this package, so the variable is set before the first one:
# tokenizers then starts no threads. They would compete with torch for the cores, and a process that
# forks after they started (for the loaders of a training) would warn. A value that the user has set
# stays.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
