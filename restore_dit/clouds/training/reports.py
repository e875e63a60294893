"""Reports of a running training. The `str` of a report is the line shown on a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from restore_dit.clouds import scores
from restore_dit.clouds.scores import Counts


@dataclass(frozen=True)
class Started:
    """The training starts or resumes at `step`. `shares`: share of the examples by name of the store."""

    step: int
    steps: int
    parameters: int
    shares: Mapping[str, float]

    def __str__(self) -> str:
        begun = f"resuming at step {self.step}" if self.step else "starting"
        shares = ", ".join(f"{100 * share:.0f} % from {name}" for name, share in self.shares.items())
        return f"{begun} of {self.steps}, {self.parameters / 1e6:.2f} M parameters; examples: {shares}"


@dataclass(frozen=True)
class Learned:
    """Progress: the mean loss and speed since the last such report."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    examples_per_second: float
    seconds_left: float

    def __str__(self) -> str:
        left = timedelta(seconds=round(self.seconds_left))
        speed = f"{self.examples_per_second:.0f} examples/s"
        return f"step {self.step}/{self.steps}  loss {self.loss:.4f}  {speed}  {left} left"


@dataclass(frozen=True)
class Validated:
    """A validation on held-out frames: confusion counts by name of the store, and the `criterion` (see
    `validation.criterion`)."""

    step: int
    counts: Mapping[str, Counts]
    criterion: float
    is_best: bool

    def __str__(self) -> str:
        best = " (best so far)" if self.is_best else ""
        lines = "; ".join(f"{name}: {score_line(counts)}" for name, counts in self.counts.items())
        return f"step {self.step}: {lines}{best}"


@dataclass(frozen=True)
class Noticed:
    """A warning, which does not stop the training."""

    line: str

    def __str__(self) -> str:
        return self.line


Report = Started | Learned | Validated | Noticed


def score_line(counts: Counts) -> str:
    """The main scores, on one line."""
    flagged = scores.clear_flagged(counts)
    main = {"cloud": scores.cloud_f1(counts), "shadow": scores.shadow_f1(counts), "hidden": scores.hidden_f1(counts)}
    parts = [f"{name} F1 {value:.3f}" for name, value in main.items() if not math.isnan(value)]
    if not math.isnan(flagged):
        parts.append(f"{100 * flagged:.1f} % of clear land flagged")
    return ", ".join(parts) or "no labelled pixel"
