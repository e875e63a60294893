"""The tile store: its files and manifest, and code that reads, writes and describes it."""
