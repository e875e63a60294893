"""The PromQL of the dashboard and of the alert rules, and what it names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from cluster.monitoring import dashboard

FOLDER = Path(__file__).resolve().parents[2] / "cluster" / "monitoring"
METRIC = re.compile(r"\b(ray_\w+|up)\b(?:\{([^}]*)\})?")
GROUPED = re.compile(r"\b(?:by|on|without|ignoring|group_left) \(([^)]*)\)")


def dashboard_expressions() -> list[str]:
    """Those of its panels, with every job, run and submission chosen."""
    panels = json.loads(dashboard.text())["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    return [re.sub(r"\$(job_name|run|submission)", ".*", expression) for expression in found]


def alert_expressions() -> list[str]:
    """Those of every rule."""
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def metrics_of(expression: str) -> dict[str, set[str]]:
    """Metric → labels that the expression expects of it."""
    grouped = {label.strip() for labels in GROUPED.findall(expression) for label in labels.split(",")} - {""}
    found: dict[str, set[str]] = {}
    for name, matchers in METRIC.findall(GROUPED.sub("", expression)):
        found.setdefault(name, set(grouped)).update(re.findall(r"(\w+)\s*=~?", matchers))
    return found
