"""Data sources, the tile store, and training examples and their stream."""
