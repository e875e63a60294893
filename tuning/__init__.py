"""Hyperparameter sweeps with Ray Tune, mainly over diffusion schedules."""
