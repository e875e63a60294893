"""The cloud-detection network: architecture, inputs, inference over tiles, and published weights."""
