"""The physical rule: clouds and shadows without a network and without weights."""

from restore_dit.clouds.rule.bands import require_rule_bands
from restore_dit.clouds.rule.masks import RULE_VERSION, rule_masks

__all__ = ["RULE_VERSION", "require_rule_bands", "rule_masks"]
