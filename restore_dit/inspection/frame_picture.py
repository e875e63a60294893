"""A picture of the frames of a few tiles: the colour of each border shows whether it may be a target, or why not."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure
from numpy.typing import NDArray

from restore_dit.config import TargetConfig
from restore_dit.data.examples.dilation import dilated
from restore_dit.data.examples.targets import DECISIONS, TARGET, Decision
from restore_dit.inspection.target_decisions import FrameStrip
from restore_dit.pictures.composites import TRUE_COLOUR, Stretch, robust_stretch
from restore_dit.pictures.panels import INK, OUTLINE_COLOUR
from restore_dit.series import CLEAR, CLOUD_NO_DATA, SHADOW

COLUMNS = 20
"""Frames per row."""

DECISION_COLOURS: dict[Decision, str] = {
    "target": "#12a150",
    "no_data": "#3f8fd2",
    "cloud_and_shadow": "#d7263d",
    "haze": "#f08c00",
    "source_classes": "#8e44ad",
    "source_list": "#222222",
}
_SOURCE_REASONS: dict[str, str] = {"source_classes": "by its source", "source_list": "listed as bad"}
"""Descriptions of frames that only the source rules out."""

CLOUD_COLOUR, SHADOW_COLOUR, NO_DATA_COLOUR = OUTLINE_COLOUR, "#ffe600", "#00d0ff"

# Pixels of the picture.
_DOTS_PER_INCH = 110
_IMAGE, _BORDER, _GAP, _CAPTION = 84, 5, 5, 30
_MARGIN, _HEADER, _BETWEEN, _LEGEND = 22, 52, 18, 62
_MIN_COLUMNS = 11
"""Minimum number of columns, the width of the legend."""


@dataclass(frozen=True)
class Layout:
    """Positions, in pixels from the upper left, of the frames of tiles whose images may have different shapes."""

    strips: tuple[FrameStrip, ...]

    @property
    def columns(self) -> int:
        """Frames per row."""
        return max(_MIN_COLUMNS, min(COLUMNS, max(len(strip.dates) for strip in self.strips)))

    def image(self, strip: FrameStrip) -> tuple[int, int]:
        """(height, width) of one frame's image."""
        height, width = strip.size
        longest = max(height, width)
        return max(round(_IMAGE * height / longest), 8), max(round(_IMAGE * width / longest), 8)

    def tall(self, strip: FrameStrip) -> int:
        """Height of a tile's section, including its header."""
        rows = -(-len(strip.dates) // self.columns)
        return _HEADER + rows * self.pitch(strip)[0] + _BETWEEN

    def pitch(self, strip: FrameStrip) -> tuple[int, int]:
        """Distance from one row to the next, and from one column to the next."""
        return self.image(strip)[0] + 2 * _BORDER + _CAPTION, _IMAGE + 2 * _BORDER + _GAP

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the picture."""
        width = 2 * _MARGIN + self.columns * (_IMAGE + 2 * _BORDER + _GAP) - _GAP
        return _MARGIN + sum(map(self.tall, self.strips)) + _LEGEND, width

    def tops(self) -> list[int]:
        """Top of each tile's section."""
        return [_MARGIN + sum(map(self.tall, self.strips[:index])) for index in range(len(self.strips))]

    def place(self, index: int, frame: int) -> tuple[int, int]:
        """(top, left) of the border around a frame of a tile."""
        strip = self.strips[index]
        row, column = divmod(frame, self.columns)
        down, right = self.pitch(strip)
        return self.tops()[index] + _HEADER + row * down, _MARGIN + column * right


def frame_picture(strips: Sequence[FrameStrip], config: TargetConfig) -> bytes:
    """The tiles below one another as PNG, with the rule that decided in the legend."""
    layout = Layout(tuple(strips))
    height, width = layout.size
    figure = Figure(figsize=(width / _DOTS_PER_INCH, height / _DOTS_PER_INCH), dpi=_DOTS_PER_INCH, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    lines = np.zeros((height, width, 4), np.float32)
    for index, strip in enumerate(layout.strips):
        _draw_header(axes, strip, layout.tops()[index], width)
        _draw_frames(axes, layout, index, lines)
    axes.imshow(lines, extent=(0, width, height, 0), interpolation="nearest", zorder=2)
    _draw_legend(axes, layout, config)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_aspect("auto")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DOTS_PER_INCH)
    return content.getvalue()


def _draw_frames(axes: Axes, layout: Layout, index: int, lines: NDArray[np.float32]) -> None:
    """Draws a tile's images, and their borders and mask outlines into `lines` [h, w, 4] of the whole picture."""
    strip = layout.strips[index]
    tall, wide = layout.image(strip)
    coloured = _coloured(strip)
    for frame, decision in enumerate(strip.decisions):
        top, left = layout.place(index, frame)
        lines[top : top + tall + 2 * _BORDER, left : left + wide + 2 * _BORDER] = to_rgba(DECISION_COLOURS[decision])
        first, start = top + _BORDER, left + _BORDER
        inside = lines[first : first + tall, start : start + wide]
        inside[:] = 0
        if strip.clouds is not None:
            _outline(inside, strip.clouds[frame])
        axes.imshow(coloured[frame], extent=(start, start + wide, first + tall, first), zorder=1)
        below = top + tall + 2 * _BORDER + 2
        style: dict[str, Any] = {"fontsize": 6.3, "va": "top", "ha": "left"}
        axes.text(left, below, str(strip.dates[frame]), color=INK, **style)
        axes.text(left, below + 12, _detail(strip, frame), color=DECISION_COLOURS[decision], **style)


def _detail(strip: FrameStrip, frame: int) -> str:
    """The value that the decision is based on."""
    decision = strip.decisions[frame]
    if decision == "no_data":
        return f"{_percent(strip.no_data[frame])} no data"
    if decision == "haze":
        return f"haze {strip.haze[frame]:.3f}"
    if decision in _SOURCE_REASONS:
        return _SOURCE_REASONS[decision]
    if decision == TARGET and strip.clouds is None:
        return "target"
    return f"{_percent(strip.hidden[frame])} hidden"


def _percent(share: float) -> str:
    """A share as a percentage, in which a nonzero share below 10 % has one decimal."""
    return f"{share:.1%}" if 0 < share < 0.1 else f"{share:.0%}"


def _coloured(strip: FrameStrip) -> NDArray[np.float64]:
    """Images [n, H, W, 3] between 0 and 1. The three bands of true colour share one stretch, which preserves colour
    balance."""
    clear = np.ones(strip.images.shape[:3], bool) if strip.clouds is None else strip.clouds == CLEAR
    stretch = robust_stretch(strip.images, clear)
    if strip.composite == TRUE_COLOUR:
        stretch = Stretch(np.full(3, stretch.low.min()), np.full(3, stretch.high.max()))
    missing = ~np.isfinite(strip.images).all(axis=-1, keepdims=True)
    return np.where(missing, to_rgb(NO_DATA_COLOUR), stretch.apply(strip.images))


def _outline(image: NDArray[np.float32], clouds: NDArray[np.uint8]) -> None:
    """Draws the inner border of each kind of masked area [H, W], one pixel wide, into `image` [h, w, 4]."""
    height, width = image.shape[:2]
    rows = np.arange(height) * clouds.shape[0] // height
    columns = np.arange(width) * clouds.shape[1] // width
    shown = clouds[np.ix_(rows, columns)]
    cloud = (shown != CLEAR) & (shown != SHADOW) & (shown != CLOUD_NO_DATA)
    for mask, colour in (
        (shown == CLOUD_NO_DATA, NO_DATA_COLOUR),
        (shown == SHADOW, SHADOW_COLOUR),
        (cloud, CLOUD_COLOUR),
    ):
        around = dilated(np.pad(~mask, 1, constant_values=True), 1)[1:-1, 1:-1]
        image[mask & around] = to_rgba(colour)


def _draw_header(axes: Axes, strip: FrameStrip, top: int, width: int) -> None:
    axes.text(_MARGIN, top, strip.tile_id, fontsize=11, weight="bold", va="top", color=INK)
    shown = len(strip.dates)
    of = f"{shown} of {strip.acquisitions}" if shown < strip.acquisitions else str(shown)
    facts = f"{strip.size[0]}×{strip.size[1]} pixels · {of} acquisitions · {strip.composite.name}"
    axes.text(width - _MARGIN, top + 2, facts, fontsize=8, va="top", ha="right", color=INK)
    entries = [
        (DECISION_COLOURS[decision], f"{strip.counts[decision]} {_named(decision)}") for decision in _order(strip)
    ]
    _draw_swatches(axes, entries, top + 26)


def _order(strip: FrameStrip) -> list[Decision]:
    return [decision for decision in DECISIONS if strip.counts[decision]]


def _named(decision: Decision) -> str:
    return ({"target": "targets"} | _SOURCE_REASONS).get(decision, decision.replace("_", " "))


def _draw_swatches(axes: Axes, entries: Sequence[tuple[str, str]], top: int, *, hollow: bool = False) -> None:
    left = float(_MARGIN)
    for colour, text in entries:
        xs, ys = [left, left + 11, left + 11, left, left], [top, top, top + 11, top + 11, top]
        if hollow:
            axes.plot(xs, ys, color=colour, linewidth=1.2, zorder=3)
        else:
            axes.fill(xs, ys, color=colour, linewidth=0, zorder=3)
        axes.text(left + 17, top + 5.5, text, fontsize=8, va="center", color=INK)
        left += 17 + 6.6 * len(text) + 20


def _draw_legend(axes: Axes, layout: Layout, config: TargetConfig) -> None:
    top = layout.size[0] - _LEGEND
    kinds = [decision for decision in DECISIONS if any(strip.counts[decision] for strip in layout.strips)]
    names: dict[Decision, str] = {
        "target": "may be a target",
        "source_classes": "refused by its source",
        "source_list": "in the source's list of bad frames",
    }
    borders = [
        (DECISION_COLOURS[decision], names.get(decision, f"too much {decision.replace('_', ' ')}"))
        for decision in kinds
    ]
    _draw_swatches(axes, borders, top)
    outlines = [(CLOUD_COLOUR, "cloud"), (SHADOW_COLOUR, "shadow"), (NO_DATA_COLOUR, "no data")]
    _draw_swatches(axes, outlines, top + 18, hollow=True)
    rule = config.model_dump(exclude_none=True)
    keys = ["by"] if config.by == "source_list" and not config.also_by_source else list(rule)
    note = "data.targets: " + ", ".join(f"{key}={rule[key]}" for key in keys)
    axes.text(_MARGIN, top + 46, note, fontsize=8, va="center", color="#55555d")
