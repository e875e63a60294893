"""From stored tiles to the examples that a network is trained and validated on."""
