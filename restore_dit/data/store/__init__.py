"""The tile store: its files, its manifest, reading, writing and describing it."""
