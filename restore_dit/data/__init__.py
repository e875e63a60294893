"""Sources, tile store, training examples and their stream."""
