"""Figures of a sweep. They do not use pyplot, which has global state."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from tuning.records import Score, Trial

WIDTH = 10.0
"""Width of a figure, in inches."""

COLOURS = colormaps["viridis"]
ACCENT, MUTED = "#0072b2", "#9aa5b1"
MAX_LABELS = 12
"""Maximum number of labels in a figure; more would overlap."""


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (seconds, PSNR) on the Pareto front, fastest first."""
    order = sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1]))
    front: list[int] = []
    for index in order:
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front


def pareto_figure(trials: Sequence[Trial]) -> Figure:
    """PSNR against sampling time, with the Pareto front."""
    scored = [(trial, trial.best) for trial in trials if trial.best is not None]
    points = [(score.seconds, score.psnr) for _, score in scored]
    figure, axes = _axes(height=5.2)
    for status, marker in (("finished", "o"), ("stopped", "x"), ("running", "+")):
        chosen = [point for point, (trial, _) in zip(points, scored, strict=True) if trial.status == status]
        if chosen:
            seconds, quality = zip(*chosen, strict=True)
            axes.scatter(seconds, quality, marker=marker, s=42, color=MUTED, label=status, zorder=2)
    front = pareto_front(points)
    axes.plot(*zip(*(points[i] for i in front), strict=True), color=ACCENT, marker="o", zorder=3, label="front")
    for index in front[:MAX_LABELS]:
        label = _label(scored[index][0])
        axes.annotate(label, points[index], xytext=(6, -12), textcoords="offset points", fontsize=8, color=ACCENT)
    axes.set_xscale("log")
    axes.set_xlabel("sampling time per series, s")
    axes.set_ylabel("PSNR of missing pixels, dB")
    axes.margins(x=0.15, y=0.12)
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
    return figure


def curves_figure(trials: Sequence[Trial], curves: Mapping[str, Sequence[Score]]) -> Figure:
    """Validation PSNR over optimiser steps, one line per trial."""
    figure, axes = _axes(height=5.2)
    for rank, trial in reversed(list(enumerate(trials))):
        curve = curves.get(trial.name, ())
        if not curve:
            continue
        style: dict[str, Any] = {"color": MUTED, "linewidth": 1, "alpha": 0.8}
        if rank < 3:
            style = {"color": COLOURS(0.75 - 0.3 * rank), "linewidth": 2.2, "label": f"{rank + 1}: {_label(trial)}"}
        line = ":" if trial.status == "stopped" else "-"
        steps, values = [score.step for score in curve], [score.psnr for score in curve]
        axes.plot(steps, values, line, marker=".", **style)
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("validation PSNR, dB")
    best = [score.psnr for curve in curves.values() for score in curve if math.isfinite(score.psnr)]
    if best:  # without a lower limit, a family that has learned nothing yet would compress the other curves
        axes.set_ylim(bottom=max(min(best) - 0.1, float(np.percentile(best, 10)) - 1.5))
    axes.legend(frameon=False, loc="lower right", title="best trials")
    return figure


def parallel_figure(trials: Sequence[Trial]) -> Figure:
    """Parallel coordinates: one axis per parameter, one line per trial, coloured by PSNR."""
    scored = [(trial, trial.best) for trial in trials if trial.best is not None]
    names = list(dict.fromkeys(name for trial, _ in scored for name in trial.values))
    figure, axes = _axes(height=5.5)
    qualities = [score.psnr for _, score in scored]
    low, high = float(np.percentile(qualities, 10)), max(qualities)
    scale = Normalize(low if low < high else high - 1, high, clip=True)
    scales = [_ParameterScale([trial.values[name] for trial, _ in scored if name in trial.values]) for name in names]
    for trial, score in reversed(scored):
        heights = [
            scales[column].place(trial.values[name]) if name in trial.values else math.nan
            for column, name in enumerate(names)
        ]
        colour = COLOURS(scale(score.psnr))
        axes.plot(
            [*range(len(names)), len(names)], [*heights, scale(score.psnr)], color=colour, linewidth=1.6, alpha=0.85
        )
    for column, each in enumerate(scales):
        axes.axvline(column, color="#c4ccd4", linewidth=1, zorder=0)
        for place, text in each.ticks():
            axes.annotate(text, (column, place), xytext=(4, 3), textcoords="offset points", fontsize=7.5)
    axes.axvline(len(names), color="#c4ccd4", linewidth=1, zorder=0)
    axes.set_xticks([*range(len(names) + 1)], [*(_short(name) for name in names), "PSNR"], fontsize=8)
    axes.set_xlim(-0.1, len(names) + 0.25)
    axes.set_ylim(-0.06, 1.1)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    figure.colorbar(ScalarMappable(scale, COLOURS), ax=axes, label="PSNR of missing pixels, dB", pad=0.02)
    return figure


def importance_figure(importance: Mapping[str, float]) -> Figure:
    """Bar chart of the importance of each parameter."""
    figure, axes = _axes(height=1.2 + 0.45 * len(importance))
    names = sorted(importance, key=lambda name: importance[name])
    axes.barh(names, [importance[name] for name in names], color=ACCENT)
    axes.set_xlabel("importance (share)")
    axes.grid(visible=False, axis="y")
    return figure


def seeds_figure(trials: Sequence[tuple[str, Sequence[float]]]) -> Figure:
    """PSNR of every seed of each repeated trial, with mean and standard deviation."""
    figure, axes = _axes(height=1.6 + 0.6 * len(trials))
    for row, (_, values) in enumerate(reversed(trials)):
        axes.scatter(values, [row] * len(values), color=MUTED, zorder=2)
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        axes.errorbar(float(np.mean(values)), row, xerr=spread, fmt="o", color=ACCENT, capsize=5, zorder=3)
    axes.set_yticks(range(len(trials)), [name for name, _ in reversed(trials)])
    axes.set_ylim(-0.6, len(trials) - 0.4)
    axes.set_xlabel("PSNR of missing pixels, dB: each seed (grey), mean and standard deviation (blue)")
    return figure


def values_over_time_figure(trials: Sequence[Trial]) -> Figure:
    """Values of a population over optimiser steps: one panel per parameter that changed, one line per trial."""
    changed = sorted(
        {
            name
            for trial in trials
            for exploit in trial.exploits
            for name in exploit.before.keys() | trial.values.keys()
            if len({str(values.get(name)) for _, _, values in _stretches(trial)}) > 1
        }
    )
    figure = Figure(figsize=(WIDTH, 0.6 + 2.1 * max(len(changed), 1)), layout="constrained")
    for axes, name in zip(
        figure.subplots(max(len(changed), 1), sharex=True, squeeze=False)[:, 0], changed, strict=False
    ):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, color="#e6eaee", linewidth=0.8)
        known = [values[name] for trial in trials for _, _, values in _stretches(trial) if name in values]
        scale = _ParameterScale(known)
        for rank, trial in reversed(list(enumerate(trials))):
            steps: list[int] = []
            heights: list[float] = []
            for begin, end, values in _stretches(trial):
                steps += [begin, end]
                heights += [scale.place(values[name]) if name in values else math.nan] * 2
            style: dict[str, Any] = {"color": MUTED, "linewidth": 1.2, "alpha": 0.8}
            if rank == 0:
                style = {"color": ACCENT, "linewidth": 2.4, "label": f"best: {trial.name}"}
            axes.plot(steps, heights, **style)
        places, texts = zip(*scale.ticks(), strict=True)
        axes.set_yticks(places, texts, fontsize=8)
        axes.set_title(name, fontsize=9, loc="left")
    figure.axes[-1].set_xlabel("optimiser step")
    if changed:
        figure.axes[0].legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def _stretches(trial: Trial) -> list[tuple[int, int, Mapping[str, Any]]]:
    """The intervals between exploits: (first step, last step, values)."""
    steps = [0, *(exploit.step for exploit in trial.exploits), max(trial.step, 1)]
    values = [*(exploit.before for exploit in trial.exploits), trial.values]
    return list(zip(steps, steps[1:], values, strict=False))


CLOSEST_LABELS = 0.07
"""Minimum distance between two labels, as a share of the axis."""


class _ParameterScale:
    """Maps a parameter's values to an axis from 0 to 1: numbers by magnitude, others in order of appearance."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        self.values: list[Any] = sorted(set(values)) if self.numeric else list(dict.fromkeys(map(str, values)))
        self.logarithmic = self.numeric and self.values[0] > 0 and self.values[-1] / self.values[0] > 8

    def place(self, value: Any) -> float:
        if len(self.values) == 1:
            return 0.5
        if not self.numeric:
            return self.values.index(str(value)) / (len(self.values) - 1)
        change: Callable[[float], float] = math.log if self.logarithmic else float
        low, high = change(self.values[0]), change(self.values[-1])
        return (change(value) - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        few: list[Any] = []
        for value in self.values if len(self.values) <= MAX_LABELS else [self.values[0], self.values[-1]]:
            if not few or abs(self.place(value) - self.place(few[-1])) >= CLOSEST_LABELS:
                few.append(value)
        return [(self.place(value), f"{value:.3g}" if isinstance(value, float) else str(value)) for value in few]


def _axes(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="#e6eaee", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _short(name: str) -> str:
    return name.rpartition(".")[2].replace("_", "\n")


def _label(trial: Trial) -> str:
    """A short label: the first four values of a trial."""
    words = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in trial.values.values()]
    return ", ".join(words[:4]) or trial.name
