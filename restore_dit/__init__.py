"""RESTORE-DiT: gap-free Sentinel-2 series from what is visible, the radar series and the dates."""

__version__ = "0.1.0"
