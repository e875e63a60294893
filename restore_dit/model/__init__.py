"""The denoising networks, and the import of published weights."""
