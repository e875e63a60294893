"""A grid of image panels, laid out in inches so that nothing overlaps for any image shape."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from restore_dit.pictures.composites import Stretch

WIDTH = 10.0
"""Width in inches of a figure with as many panels as fit."""

WIDEST = 1.85
"""Maximum width of one image in inches."""

GAP_COLOUR = "#d0d0d8"
OUTLINE_COLOUR = "#e6009e"
INK = "#222222"

NARROW = 7.5
"""Figure width in inches below which a legend and its note do not fit side by side."""

SPACING, HEADER, FOOT, LEGEND = 0.06, 0.3, 0.22, 0.36
"""Inches: between panels, above them for the dates, below each panel of a row with a foot line, and at the bottom for
the legend."""

LABEL_LINE, TITLE_LINE, LEGEND_LINE = 0.17, 0.24, 0.2
"""Height in inches of one line of a row's name, of the title, and of the legend."""


@dataclass(frozen=True)
class PanelGrid:
    """A figure and its panels, [row][column]."""

    figure: Figure
    rows: list[list[Axes]]

    def legend(self, handles: Sequence[Any], note: str) -> None:
        """Adds a legend below all panels: handles on the left, the note on the right or, in a narrow figure, below the
        handles."""
        width, height = (float(inches) for inches in self.figure.get_size_inches())
        left = self.rows[-1][0].get_position().x0
        narrow = width < NARROW
        self.figure.legend(
            handles=handles, loc="lower left", bbox_to_anchor=(left, (0.05 + LEGEND_LINE * narrow) / height),
            ncols=len(handles), frameon=False, fontsize=9, borderpad=0, borderaxespad=0,
        )  # fmt: skip
        at = left if narrow else self.rows[-1][-1].get_position().x1
        self.figure.text(at, 0.05 / height, note, fontsize=9, ha="left" if narrow else "right", va="bottom", color=INK)


def panel_grid(
    labels: Sequence[str],
    headers: Sequence[str],
    size: tuple[int, int],
    *,
    title: str | None = None,
    right: float = 0.1,
    footed: int = 0,
) -> PanelGrid:
    """A grid with one row of panels per label and one column per header, for images of `size` (H, W).

    `right` inches beside the panels stay free for a colour bar. The last `footed` rows have space for a line of text
    below each panel. A label may contain line breaks.
    """
    letters = 11  # per inch of a row's name
    across = (WIDTH - 3 * LABEL_LINE - right) / len(headers) - SPACING
    names = [_wrapped(label, int(min(WIDEST, across) * size[0] / size[1] * letters)) for label in labels]
    left = 0.2 + LABEL_LINE * max(name.count("\n") + 1 for name in names)
    panel = min(WIDEST, (WIDTH - left - right) / len(headers) - SPACING)
    tall = panel * size[0] / size[1]
    width = max(left + len(headers) * (panel + SPACING) + right, 5.0)
    title = _wrapped(title, int((width - left) * 8)) if title else ""
    above = HEADER + (0.06 + TITLE_LINE * (title.count("\n") + 1) if title else 0)
    below = LEGEND + (LEGEND_LINE if width < NARROW else 0)
    height = above + len(labels) * (tall + SPACING) + footed * FOOT + below
    upper = height - above
    figure = Figure(figsize=(width, height))
    rows = []
    for number, name in enumerate(names):
        row = [
            figure.add_axes(
                ((left + column * (panel + SPACING)) / width, (upper - tall) / height, panel / width, tall / height)
            )
            for column in range(len(headers))
        ]
        for axes in row:
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_linewidth(0.4)
        longest = max(len(line) for line in name.split("\n"))
        row[0].set_ylabel(name, fontsize=min(10, 10 * tall * letters / longest), color=INK, labelpad=4)
        upper -= tall + SPACING + (FOOT if number >= len(labels) - footed else 0)
        rows.append(row)
    for axes, header in zip(rows[0], headers, strict=True):
        axes.set_title(header, fontsize=10, pad=4, color=INK)
    if title:
        figure.text(left / width, 1 - 0.06 / height, title, fontsize=12, va="top", weight="bold", color=INK)
    return PanelGrid(figure, rows)


def show_images(
    panels: Sequence[Axes],
    images: NDArray[np.floating],
    stretch: Stretch,
    hidden: NDArray[np.bool_] | None = None,
) -> None:
    """Shows images [T, H, W, 3] on T panels, with `hidden` [T, H, W] and non-finite pixels in the gap colour."""
    blank = ~np.isfinite(images).all(axis=-1)
    if hidden is not None:
        blank = blank | hidden
    coloured = np.where(blank[..., None], to_rgb(GAP_COLOUR), stretch.apply(images))
    for panel, image in zip(panels, coloured, strict=True):
        panel.imshow(image)


def outline(panel: Axes, mask: NDArray[np.bool_]) -> None:
    """Draws the border of a mask [H, W] on a panel that shows an image of the same size, including along the image's
    edge."""
    if not mask.any():
        return
    height, width = mask.shape
    limits = panel.get_xlim(), panel.get_ylim()
    drawn = panel.contour(
        np.arange(-1, width + 1), np.arange(-1, height + 1), np.pad(mask, 1).astype(float),
        levels=[0.5], colors=[OUTLINE_COLOUR], linewidths=1.2,
    )  # fmt: skip
    drawn.set_clip_on(False)  # otherwise half of the line is cut off along the edge
    panel.set_xlim(limits[0])
    panel.set_ylim(limits[1])


def _wrapped(label: str, width: int) -> str:
    lines = (
        textwrap.fill(line, max(width, 10), break_on_hyphens=False, break_long_words=False)
        for line in label.split("\n")
    )
    return "\n".join(lines)
