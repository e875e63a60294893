"""Training: the loop, the engine around the optimiser, resume state, and Ray Train."""
