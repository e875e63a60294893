"""Pictures of how well masks agree with labels: confusion matrix, training curves, frames with the lowest agreement.

Each is a PNG about 1500 pixels wide, made without global state.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from restore_dit.clouds import scores
from restore_dit.clouds.scores import CLASSES, Counts
from restore_dit.pictures.composites import COMPOSITES, Composite, natural_composite, robust_stretch
from restore_dit.pictures.panels import INK, panel_grid, show_images
from restore_dit.series import CLEAR

CLASS_COLOURS = ("#e9ece6", "#0072b2", "#8ecdf0", "#3a2c22")
"""Colours of clear, thick cloud, thin cloud and shadow."""

NO_DATA_COLOUR = "#f0c800"

_LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Line colours that colour-blind readers can distinguish (Okabe and Ito)."""

_SHOWN = 8
_DOTS_PER_INCH = 150


@dataclass(frozen=True)
class ComparedFrame:
    """A frame of reflectance [C, H, W], NaN where there are no data, and two masks of it, uint8 [H, W]."""

    values: NDArray[np.float32]
    bands: tuple[str, ...]
    name: str
    labels: NDArray[np.uint8]
    predictions: NDArray[np.uint8]

    @property
    def disagreement(self) -> float:
        """Share of the pixels known in both masks that only one of them calls clear."""
        return float(scores.disagreement(self.labels, self.predictions))


def confusion_picture(counts: Counts, title: str) -> bytes:
    """The confusion matrix as PNG, with labels as rows and predictions as columns: share and number of each label's
    pixels."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(7.2, 6.2))
    axes = figure.add_axes((0.2, 0.06, 0.77, 0.72))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        share, count = shares[row, column], counts[row, column]
        text = f"{100 * share:.1f} %\n{count:,}".replace(",", " ") if counts[row].any() else "–"
        axes.text(
            column, row, text, ha="center", va="center", fontsize=11, color="white" if share > 0.55 else INK
        )  # fmt: skip
    axes.set_xticks(range(len(CLASSES)), CLASSES)
    axes.set_yticks(range(len(CLASSES)), CLASSES)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("predicted", fontsize=11, labelpad=8)
    axes.set_ylabel("labelled", fontsize=11)
    axes.tick_params(length=0, labelsize=11)
    axes.spines[:].set_visible(False)
    figure.text(0.03, 0.97, title, fontsize=12, weight="bold", va="top", color=INK)
    figure.text(0.03, 0.925, "Share of each label's pixels, and their number", fontsize=10, va="top", color=INK)
    return _png(figure)


def curves_picture(history: Sequence[Mapping[str, float]], best_step: int) -> bytes:
    """The training curves as PNG: the loss, and three scores of the validations on the held-out part of each store.

    Args:
        history: values by name at a `step`: `loss`, and `validation/STORE/SCORE`.
        best_step: the validation whose weights are kept; 0: none.
    """
    panels = {
        "F1 of cloud": ("cloud_f1", 1),
        "F1 of shadow": ("shadow_f1", 1),
        "clear land flagged, %": ("clear_flagged", 100),
    }
    stores = list(dict.fromkeys(name.split("/")[1] for line in history for name in line if name.count("/") == 2))
    figure = Figure(figsize=(10, 6.4))
    grid = figure.subplots(2, 2, sharex=True).ravel()
    figure.subplots_adjust(left=0.07, right=0.98, top=0.93, bottom=0.15, hspace=0.2, wspace=0.16)
    grid[0].plot(*_curve(history, "loss"), color=INK, linewidth=1)
    _describe(grid[0], "training loss")
    for axes, (what, (score, unit)) in zip(grid[1:], panels.items(), strict=True):
        for store, colour in zip(stores, _LINES * len(stores), strict=False):
            steps, values = _curve(history, f"validation/{store}/{score}")
            shown = [unit * value for value in values]
            axes.plot(steps, shown, color=colour, linewidth=1.8, marker="o", markersize=3, label=store)
        if best_step:
            axes.axvline(best_step, color="#999999", linewidth=1, linestyle=(0, (4, 3)), label="weights kept")
        _describe(axes, what)
    for axes in grid[2:]:
        axes.set_xlabel("step", fontsize=10)
    handles, labels = grid[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=max(len(labels), 1), frameon=False, fontsize=10)
    return _png(figure)


def _curve(history: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    """Steps and values of one curve."""
    points = [(line["step"], line[name]) for line in history if name in line]
    return [step for step, _ in points], [value for _, value in points]


def examples_picture(frames: Sequence[ComparedFrame], title: str) -> bytes:
    """The frames whose masks agree least about what is clear, as PNG, worst first: composites, labels, predictions.

    Frames whose size or bands differ from those of the worst one are left out.
    """
    order = sorted(frames, key=lambda frame: -frame.disagreement)
    kind = order[0].bands, order[0].labels.shape
    alike = [frame for frame in order if (frame.bands, frame.labels.shape) == kind]
    shown = alike[:_SHOWN]
    composites = _composites(shown[0].bands)
    rows = [composite.name for composite in composites] + ["labels", "predicted"]
    size = shown[0].labels.shape
    grid = panel_grid(rows, [frame.name for frame in shown], (size[0], size[1]), title=title, footed=1)
    clear = np.stack([(frame.labels == CLEAR) & (frame.predictions == CLEAR) for frame in alike])
    for panels, composite in zip(grid.rows, composites, strict=False):
        images = composite.pick(np.stack([frame.values for frame in alike]), shown[0].bands)
        show_images(panels, images[: len(shown)], robust_stretch(images, clear))
    for panel, frame in zip(grid.rows[-2], shown, strict=True):
        panel.imshow(class_image(frame.labels))
    for panel, frame in zip(grid.rows[-1], shown, strict=True):
        panel.imshow(class_image(frame.predictions))
        panel.set_xlabel(f"{100 * frame.disagreement:.0f} % differ", fontsize=9, labelpad=3, color=INK)
    handles = [
        Patch(facecolor=colour, edgecolor=INK, linewidth=0.4, label=label)
        for colour, label in zip((*CLASS_COLOURS, NO_DATA_COLOUR), (*CLASSES, "no data"), strict=True)
    ]
    grid.legend(handles, "")
    return _png(grid.figure)


def class_image(mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """A mask [H, W] as an image in the colours of its classes, [H, W, 3]."""
    colours = np.array([to_rgb(colour) for colour in (*CLASS_COLOURS, NO_DATA_COLOUR)])
    return colours[np.minimum(mask, len(CLASS_COLOURS))]


def _composites(bands: tuple[str, ...]) -> list[Composite]:
    """The natural-colour composite, and the most informative other one that the bands allow."""
    first = natural_composite(bands)
    others = [one for one in reversed(COMPOSITES) if one.available(bands) and one != first]
    return [first, *others[:1]]


def _describe(axes: Axes, what: str) -> None:
    axes.set_title(what, loc="left", fontsize=10.5, color=INK, pad=4)
    axes.grid(color="#dddddd", linewidth=0.5)
    axes.tick_params(labelsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DOTS_PER_INCH)
    return content.getvalue()
