"""The physical rule, which detects clouds and shadows by thresholds, without a network or weights."""

from restore_dit.clouds.rule.cloud_tests import require_rule_bands
from restore_dit.clouds.rule.masks import rule_identity, rule_masks

__all__ = ["require_rule_bands", "rule_identity", "rule_masks"]
