"""Simulated Sentinel-like tiles with a known truth below their clouds."""

from restore_dit.data.simulation.simulator import LandCover, simulate_landcover, simulate_tile, simulate_tiles

__all__ = ["LandCover", "simulate_landcover", "simulate_tile", "simulate_tiles"]
