"""Sweeps over diffusion schedules with Ray Tune."""
