"""The results as a dot plot: one row per site and protocol, one mark per method at its difference from the best
baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.quality.table import MIN_GAIN, PROTOCOLS, TREES, Mean, Row, Score, mean_over_sites, scored
from restore_dit.evaluation.baselines import BASELINES
from restore_dit.evaluation.figures import to_png
from restore_dit.pictures.panels import INK

MIN_SHOWN, MAX_SHOWN = -2.5, 5.0
"""Limits of the horizontal axis in dB; marks beyond are drawn open, at the edge."""

BASELINE_MARKS = dict(zip(BASELINES, "<>oXPs^D", strict=True))
BARS = ("linear", "kriging", "kriging_offset")
"""The strongest baselines, drawn darker."""

TREES_COLOUR = "#009e73"
MODEL_COLOURS = ("#d55e00", "#0072b2", "#cc79a7", "#e69f00", "#56b4e9")
"""Distinguishable for colour-blind readers (Okabe and Ito)."""

MEAN = "mean of real sites"
ROW_HEIGHT = 0.5  # inches

Line = tuple[str, str, Mapping[str, Score | Mean]]
"""One row: the protocol, the site or `MEAN`, and the scores by method."""


def draw(rows: Sequence[Row], models: Sequence[str]) -> bytes:
    """The figure as PNG. In each row, learned methods with their intervals are above, baselines below."""
    lines = [line for protocol in PROTOCOLS for line in _lines(rows, protocol)]
    used = {method for _, _, scores in lines for method in scores}
    styles = {method: style for method, style in _styles(models).items() if method in used}
    figure = Figure(figsize=(10, 1.9 + ROW_HEIGHT * len(lines)), layout="constrained")
    panel = figure.subplots()
    _axes(panel, lines)
    heights = _heights(list(styles))
    for place, (protocol, name, scores) in enumerate(lines):
        if name == MEAN:
            panel.axhspan(place - 0.5, place + 0.5, color="#eff1f4", zorder=0)
            floor = MIN_GAIN[protocol]
            panel.plot((floor, floor), (place - 0.5, place + 0.5), color=INK, linestyle=(0, (2, 1.5)), linewidth=1.4)
        for method, score in scores.items():
            _mark(panel, place + heights[method], score, styles[method], interval=method not in BASELINES)
    floor_line = Line2D([], [], color=INK, linestyle=(0, (2, 1.5)), linewidth=1.4, label="floor of the mean")
    handles = [Line2D([], [], linestyle="none", label=method, **style) for method, style in styles.items()]
    figure.legend(handles=[*handles, floor_line], loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    return to_png(figure)


def _lines(rows: Sequence[Row], protocol: str) -> list[Line]:
    """Rows of a protocol from top to bottom: the sites and, with several real ones, their mean."""
    lines: list[Line] = [(protocol, row.site, row.scores) for row in rows if row.protocol == protocol and row.scores]
    real = scored(rows, protocol)
    if len(real) > 1:
        methods = dict.fromkeys(method for row in real for method in row.scores)
        means = {method: mean for method in methods if (mean := mean_over_sites(rows, protocol, method)) is not None}
        lines.append((protocol, MEAN, means))
    return lines


def _styles(models: Sequence[str]) -> dict[str, dict[str, Any]]:
    shared = {"markeredgewidth": 0.7}
    styles: dict[str, dict[str, Any]] = {
        name: shared | {"marker": mark, "color": "#5d626b" if name in BARS else "#a9aeb7", "markersize": 5.5}
        for name, mark in BASELINE_MARKS.items()
    }
    styles[TREES] = shared | {"marker": "D", "color": TREES_COLOUR, "markersize": 7}
    for index, model in enumerate(models):
        styles[model] = shared | {"marker": "o", "color": MODEL_COLOURS[index % len(MODEL_COLOURS)], "markersize": 8}
    return styles


def _heights(methods: Sequence[str]) -> dict[str, float]:
    """Vertical offset of each method within its row, so that marks do not hide each other."""
    baselines, learned = [[m for m in methods if (m in BASELINES) == wanted] for wanted in (True, False)]
    step = min(0.16, 0.4 / max(len(learned), 1))
    above = {method: -0.22 + (index - (len(learned) - 1) / 2) * step for index, method in enumerate(learned)}
    return above | {method: 0.06 + 0.36 * index / len(baselines) for index, method in enumerate(baselines)}


def _mark(panel: Axes, height: float, score: Score | Mean, style: dict[str, Any], interval: bool) -> None:
    lowest, highest = panel.get_xlim()
    place = min(max(score.gain, lowest), highest)
    if interval and isinstance(score, Score) and score.gain_interval is not None:
        panel.plot(score.gain_interval, (height, height), color=style["color"], linewidth=1.4, alpha=0.6, zorder=2)
    colours = {"markerfacecolor": style["color"], "markeredgecolor": "white"}
    if place != score.gain:
        colours = {"markerfacecolor": "white", "markeredgecolor": style["color"]}
    panel.plot(place, height, linestyle="none", clip_on=False, zorder=4 if interval else 3, **(style | colours))


def _axes(panel: Axes, lines: Sequence[Line]) -> None:
    gains = [score.gain for _, _, scores in lines for score in scores.values()]
    panel.set_xlim(max(min(gains) - 0.2, MIN_SHOWN), max(min(max(gains) + 0.5, MAX_SHOWN), 1.2))
    panel.set_ylim(len(lines) - 0.5, -0.5)
    panel.set_yticks(range(len(lines)), [f"{name} · {protocol}" for protocol, name, _ in lines])
    panel.tick_params(axis="y", length=0, pad=10)
    panel.grid(axis="x", color="#d9dbe0", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.axvline(0, color=INK, linewidth=1, zorder=1)
    for place in range(1, len(lines)):
        ends = lines[place][0] != lines[place - 1][0]
        panel.axhline(place - 0.5, color=INK if ends else "#e3e5e9", linewidth=0.9 if ends else 0.6, zorder=1)
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.set_xlabel("PSNR of missing pixels minus that of the best baseline, dB (line: 95 %; open: beyond the edge)")
