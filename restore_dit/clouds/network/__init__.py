"""The cloud network: its layers, what goes in, how it runs over tiles, and weights published elsewhere."""
