"""Figures of reconstructed series: image strips with and without truth, and vegetation over time.

Every function takes reflectance [T, C, H, W] and returns a matplotlib `Figure`, created without pyplot and therefore
without global state; `to_png` and `save_figure` write it. Figures are 10 inches wide and legible at 1000 pixels.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from restore_dit.data.storage import write_bytes_atomically
from restore_dit.indices import vegetation_index
from restore_dit.pictures.composites import FALSE_COLOUR, TRUE_COLOUR, Composite, natural_composite, robust_stretch
from restore_dit.pictures.panels import (
    GAP_COLOUR,
    INK,
    OUTLINE_COLOUR,
    WIDTH,
    PanelGrid,
    outline,
    panel_grid,
    show_images,
)
from restore_dit.reconstruction.batch import Reconstructed
from restore_dit.series import NO_DATA, REFLECTANCE_SCALE, UNCERTAINTY

FloatArray = NDArray[np.floating]
Mask = NDArray[np.bool_]

ERROR_COLOURS = "magma_r"
LINE_STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#0072b2", "linestyle": "-", "linewidth": 2.2},
    {"color": "#d55e00", "linestyle": (0, (5, 2)), "linewidth": 1.6},
    {"color": "#009e73", "linestyle": (0, (1, 1.2)), "linewidth": 1.9},
    {"color": "#cc79a7", "linestyle": (0, (5, 1.5, 1, 1.5)), "linewidth": 1.6},
)
"""Distinguishable for colour-blind readers (palette of Okabe and Ito) and, by their dashes, in greyscale."""


def to_png(figure: Figure, dots_per_inch: int = 150) -> bytes:
    """The figure as PNG, by default 1500 pixels wide."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dots_per_inch)
    return content.getvalue()


def save_figure(figure: Figure, uri: str, dots_per_inch: int = 150) -> None:
    """Writes the figure as PNG to any URI."""
    write_bytes_atomically(uri, to_png(figure, dots_per_inch))


def choose_frames(gap_mask: Mask, count: int = 6) -> list[int]:
    """Indices of frames worth showing: of each of `count` equal parts of the series, the frame closest to half
    missing."""
    missing = np.asarray(gap_mask.mean(axis=(1, 2)))
    parts = np.array_split(np.arange(len(gap_mask)), min(count, len(gap_mask)))
    # Slightly above one half, so that an entirely missing frame is preferred to one without a gap.
    return [int(part[np.argmin(np.abs(missing[part] - 0.55))]) for part in parts]


def choose_pixels(index: FloatArray, gap_mask: Mask, count: int = 3) -> list[tuple[int, int]]:
    """(row, column) of pixels worth showing: with much change over time and many gaps, and not close together."""
    known = np.isfinite(index).any(axis=0)
    change = np.nanstd(np.where(known, index, 0), axis=0) + 1e-9
    worth = np.asarray(change * (gap_mask.mean(axis=0) + 0.05))
    rows, columns = np.indices(worth.shape)
    chosen: list[tuple[int, int]] = []
    while len(chosen) < min(count, worth.size):
        row, column = (int(at) for at in np.unravel_index(np.argmax(worth), worth.shape))
        chosen.append((row, column))
        near = np.hypot(rows - row, columns - column) < max(worth.shape) / 4
        worth = np.where(near, worth * 1e-3, worth)
        worth[row, column] = -1
    return chosen


def strip_figure(
    target: FloatArray,
    reconstructions: Mapping[str, FloatArray],
    gap_mask: Mask,
    dates: NDArray[np.datetime64],
    bands: Sequence[str],
    *,
    target_cloud_mask: Mask | None = None,
    frames: Sequence[int] | None = None,
    title: str | None = None,
) -> Figure:
    """Input, reconstructions, truth and errors for several dates, one column per date.

    Args:
        target: the truth, reflectance [T, C, H, W].
        reconstructions: by method, reflectance [T, C, H, W].
        gap_mask: [T, H, W], true where the input was missing.
        target_cloud_mask: [T, H, W], true where the truth itself is cloudy and errors cannot be computed.

    Errors are absolute errors averaged over bands, on the same colour scale for all methods.
    """
    shown = list(frames) if frames is not None else choose_frames(gap_mask)
    unknown = np.asarray(np.isnan(target).any(axis=1))
    if target_cloud_mask is not None:
        unknown = unknown | target_cloud_mask
    composite = natural_composite(bands)
    truth = composite.pick(target, bands)
    stretch = robust_stretch(truth[shown], ~unknown[shown])
    errors = {
        name: np.where(unknown, np.nan, np.abs(values.astype(np.float64) - target).mean(axis=1))[shown]
        for name, values in reconstructions.items()
    }
    norm = Normalize(0, max(_usual_error(error, gap_mask[shown]) for error in errors.values()))

    error_labels = ["error"] if len(errors) == 1 else [f"error\n{name}" for name in errors]
    grid = panel_grid(
        ["cloudy input", *reconstructions, "true", *error_labels],
        _iso_dates(dates, shown),
        (target.shape[2], target.shape[3]),
        title=title,
        right=1.1,
        footed=len(errors),
    )
    above, below = grid.rows[: -len(errors)], grid.rows[-len(errors) :]
    show_images(above[0], truth[shown], stretch, hidden=gap_mask[shown])
    for panels, values in zip(above[1:-1], reconstructions.values(), strict=True):
        show_images(panels, composite.pick(values, bands)[shown], stretch)
    show_images(above[-1], truth[shown], stretch)
    colours = colormaps[ERROR_COLOURS].with_extremes(bad=GAP_COLOUR)
    for panels, error in zip(below, errors.values(), strict=True):
        for panel, one, gaps in zip(panels, error, gap_mask[shown], strict=True):
            picture = panel.imshow(one, cmap=colours, norm=norm)
            inside = one[gaps & np.isfinite(one)]
            panel.set_xlabel(f"{inside.mean():.3f} in gaps" if inside.size else "–", fontsize=9, labelpad=2)
    _colour_bar(grid, below, picture, "mean absolute error,\nreflectance")
    meaning = "missing in the input, or truth unknown" if unknown[shown].any() else "missing in the input"
    grid.legend([Patch(facecolor=GAP_COLOUR, edgecolor=INK, linewidth=0.5, label=meaning)], _named(composite))
    return grid.figure


def reconstruction_figure(
    cloudy: FloatArray,
    reconstructed: FloatArray,
    gap_mask: Mask,
    dates: NDArray[np.datetime64],
    bands: Sequence[str],
    *,
    uncertainty: FloatArray | None = None,
    composites: Sequence[Composite] | None = None,
    frames: Sequence[int] | None = None,
    title: str | None = None,
) -> Figure:
    """A real cloudy series above its reconstruction, two rows per composite, without a known truth; below, if given,
    the uncertainty of what was filled.

    Args:
        cloudy: reflectance [T, C, H, W] as acquired (NaN: no data).
        reconstructed: reflectance [T, C, H, W].
        gap_mask: [T, H, W], true where pixels were treated as missing; outlined.
        uncertainty: standard deviations in reflectance [T, C, H, W], of which the mean over bands is shown in the gaps.
    """
    shown = list(frames) if frames is not None else choose_frames(gap_mask)
    chosen = list(composites) if composites is not None else [natural_composite(bands)]
    rows = ("acquired", "reconstructed")
    labels = [f"{row}\n{composite.name}" if len(chosen) > 1 else row for composite in chosen for row in rows]
    size, uncertain = (cloudy.shape[2], cloudy.shape[3]), uncertainty is not None
    labels += ["uncertainty"] * uncertain
    grid = panel_grid(labels, _iso_dates(dates, shown), size, title=title, right=1.1 if uncertain else 0.1)
    images = grid.rows[: 2 * len(chosen)]
    for composite, above, below in zip(chosen, images[::2], images[1::2], strict=True):
        filled = composite.pick(reconstructed, bands)[shown]
        stretch = robust_stretch(filled, np.ones(filled.shape[:3], bool))
        show_images(above, composite.pick(cloudy, bands)[shown], stretch)
        show_images(below, filled, stretch)
        for panel, gaps in zip(above, gap_mask[shown], strict=True):
            outline(panel, gaps)
    if uncertainty is not None:
        filled_only = np.where(gap_mask[shown], uncertainty[shown].mean(axis=1), np.nan)
        inside = filled_only[gap_mask[shown]]
        norm = Normalize(0, max(float(np.percentile(inside, 98)) if inside.size else 0.0, 1e-3))
        colours = colormaps[ERROR_COLOURS].with_extremes(bad="white")
        for panel, one in zip(grid.rows[-1], filled_only, strict=True):
            picture = panel.imshow(one, cmap=colours, norm=norm)
        _colour_bar(grid, grid.rows[-1:], picture, "standard deviation,\nreflectance")
    border = Line2D([], [], color=OUTLINE_COLOUR, linewidth=1.5, label="outline of pixels treated as missing")
    grid.legend([border], "; ".join(_named(composite) for composite in chosen))
    return grid.figure


def series_figure(
    target: FloatArray,
    reconstructions: Mapping[str, FloatArray],
    gap_mask: Mask,
    dates: NDArray[np.datetime64],
    bands: Sequence[str],
    *,
    target_cloud_mask: Mask | None = None,
    half_width: FloatArray | None = None,
    pixels: Sequence[tuple[int, int]] | None = None,
    title: str | None = None,
) -> Figure:
    """A vegetation index over time at some pixels (row, column): observed and hidden values, and each method.

    Arrays as in `strip_figure`. The time around dates on which the pixel was missing, up to halfway to the neighbouring
    dates, is shaded. half_width: [T, H, W], of the index's 80 % interval by the first method; drawn around its line.

    Raises:
        ValueError: the bands allow no vegetation index.
    """
    found = vegetation_index(target, bands)
    if found is None:
        raise ValueError(f"bands {', '.join(bands)} allow neither NDVI (B08 or B8A, B04) nor NDRE (B8A, B05)")
    name, truth = found
    if target_cloud_mask is not None:
        truth = np.where(target_cloud_mask, np.nan, truth)
    lines = {label: vegetation_index(values, bands) for label, values in reconstructions.items()}
    places = list(pixels) if pixels is not None else choose_pixels(truth, gap_mask)
    times = dates.astype("datetime64[D]").astype("datetime64[s]")
    edges = _edges(times)

    heading = 0.35 if title else 0.0
    height = 1.75 * len(places) + 1.15 + heading
    figure = Figure(figsize=(WIDTH, height))
    panels = figure.subplots(len(places), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    figure.subplots_adjust(left=0.075, right=0.985, top=1 - (0.6 + heading) / height, bottom=0.5 / height, hspace=0.22)
    for panel, (row, column) in zip(panels, places, strict=True):
        gaps = gap_mask[:, row, column]
        for first, last in _runs(gaps):
            panel.axvspan(edges[first], edges[last + 1], color=GAP_COLOUR, alpha=0.6, linewidth=0, zorder=0)
        curves: list[Any] = [values[1][:, row, column] if values else [] for values in lines.values()]
        if half_width is not None:
            margin = np.nan_to_num(half_width[:, row, column])
            style = {"color": LINE_STYLES[0]["color"], "alpha": 0.25, "linewidth": 0}
            panel.fill_between(times, curves[0] - margin, curves[0] + margin, **style, zorder=1)
        for curve, style in zip(curves, cycle(LINE_STYLES)):
            panel.plot(times, curve, **style, zorder=2)
        at = truth[:, row, column]
        panel.plot(times[gaps], at[gaps], "o", markersize=6, markerfacecolor="white", color=INK, zorder=3)
        panel.plot(times[~gaps], at[~gaps], "o", markersize=5.5, color=INK, zorder=4)
        panel.set_xlim(edges[0], edges[-1])
        panel.set_ylabel(name, fontsize=10)
        panel.set_title(f"row {row}, column {column}", loc="left", fontsize=9, pad=3, color=INK)
        panel.margins(y=0.15)
        panel.grid(axis="y", color="#cccccc", linewidth=0.5)
        panel.tick_params(labelsize=9)
        panel.spines[["top", "right"]].set_visible(False)
    locator = AutoDateLocator(minticks=4, maxticks=9)
    panels[-1].xaxis.set_major_locator(locator)
    years = ["", "%Y", "%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%d"]  # for ticks at years, months, days, hours, …
    panels[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator, offset_formats=years))
    handles: list[Any] = [Line2D([], [], label=label, **style) for label, style in zip(lines, cycle(LINE_STYLES))]
    if half_width is not None:
        handles.insert(1, Patch(facecolor=LINE_STYLES[0]["color"], alpha=0.25, label="80 % interval"))
    marker: dict[str, Any] = {"linestyle": "none", "marker": "o", "color": INK}
    handles += [
        Line2D([], [], label="observed", markersize=5.5, **marker),
        Line2D([], [], label="hidden truth", markersize=6, markerfacecolor="white", **marker),
        Patch(facecolor=GAP_COLOUR, alpha=0.6, label="missing"),
    ]
    figure.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.53, 1 - heading / height), ncols=len(handles),
        frameon=False, fontsize=10,
    )  # fmt: skip
    if title:
        figure.text(0.075, 1 - 0.08 / height, title, fontsize=12, va="top", weight="bold", color=INK)
    return figure


def _colour_bar(grid: PanelGrid, rows: Sequence[Sequence[Axes]], picture: AxesImage, label: str) -> None:
    """Adds the colour bar of some rows of panels to their right."""
    top, bottom = rows[0][-1].get_position(), rows[-1][-1].get_position()
    inch = 1 / float(grid.figure.get_size_inches()[0])
    axes = grid.figure.add_axes((top.x1 + 0.1 * inch, bottom.y0, 0.13 * inch, top.y1 - bottom.y0))
    bar = grid.figure.colorbar(picture, cax=axes, extend="max")
    bar.ax.tick_params(labelsize=9)
    bar.set_label(label, fontsize=9)


def _usual_error(error: FloatArray, gap_mask: Mask) -> float:
    """Upper end of the colour scale for errors [T, H, W]: large for a typical frame, and insensitive to a single bad
    frame."""
    inside = [one[gaps & np.isfinite(one)] for one, gaps in zip(error, gap_mask, strict=True)]
    return max(float(np.median([np.percentile(one, 99) for one in inside if one.size] or [0.0])), 1e-3)


def _named(composite: Composite) -> str:
    return f"{composite.name} ({', '.join(composite.bands)})"


def _iso_dates(dates: NDArray[np.datetime64], frames: Sequence[int]) -> list[str]:
    return [str(dates[frame].astype("datetime64[D]")) for frame in frames]


def _edges(times: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    """The T + 1 boundaries halfway between T dates, and three days beyond the first and the last."""
    margin = np.timedelta64(3 * 86_400, "s")
    return np.concatenate([times[:1] - margin, times[:-1] + np.diff(times) / 2, times[-1:] + margin])


def _runs(flags: Mask) -> list[tuple[int, int]]:
    """(first, last) of each run of true values."""
    changes = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(first), int(end) - 1) for first, end in zip(changes[::2], changes[1::2], strict=True)]


def picture_of(done: Reconstructed) -> bytes:
    """The picture as PNG, in true and false colour as far as the bands allow."""
    bands = done.clear.optical.bands
    order = [done.cloudy.optical.bands.index(band) for band in bands]
    cloudy, uncertainty = done.cloudy.optical.values[:, order], done.clear.layers.get(UNCERTAINTY)
    figure = reconstruction_figure(
        np.where(cloudy == NO_DATA, np.nan, cloudy / REFLECTANCE_SCALE),
        done.clear.optical.values / REFLECTANCE_SCALE,
        done.gap_mask,
        done.clear.optical.dates,
        bands,
        uncertainty=None if uncertainty is None else uncertainty / REFLECTANCE_SCALE,
        composites=[one for one in (TRUE_COLOUR, FALSE_COLOUR) if one.available(bands)] or None,
        title=done.cloudy.tile_id,
    )
    return to_png(figure)
