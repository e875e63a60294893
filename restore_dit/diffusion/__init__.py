"""Noise schedules, training objective, samplers: pure functions of tensors."""
