"""RESTORE-DiT: gap-free Sentinel-2 series from what is visible, the radar series and the dates."""

from restore_dit.threads import settle

__version__ = "0.1.0"

settle()  # before anything loads PyTorch
