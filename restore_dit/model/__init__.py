"""The denoiser, and weights published elsewhere."""
