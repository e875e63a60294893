"""The loop, the engine around the optimiser, resume state, Ray Train."""
