"""Training of the denoiser: its objective, examples and validation, as a task of the trainer."""
