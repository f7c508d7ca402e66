"""Sources that the stream is kept in step with: connectors list and fetch what a source has, `sync` compares."""
