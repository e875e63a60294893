"""Thresholds of the physical rule that finds clouds and shadows without a network."""

from __future__ import annotations

from restore_dit.config.tree import Section


class RuleConfig(Section):
    """Thresholds of the physical rule."""
