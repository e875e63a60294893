"""Simulated Sentinel-like tiles with a known truth below their clouds."""

from restore_dit.data.simulation.simulator import simulate_tile, simulate_tiles

__all__ = ["simulate_tile", "simulate_tiles"]
