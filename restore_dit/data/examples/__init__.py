"""Makes the examples that a network is trained and validated on from stored tiles."""
