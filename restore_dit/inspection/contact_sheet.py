"""The contact sheet of a tile store: one row per tile, with its frames through the year, its radar and its clouds."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.dates import AutoDateLocator, DateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError
from restore_dit.inspection.description import evenly
from restore_dit.inspection.tile_overview import STRIP_CLASSES, Picture, TileOverview, overview_of, parts_of
from restore_dit.pictures.composites import TRUE_COLOUR, Stretch
from restore_dit.pictures.panels import INK, OUTLINE_COLOUR, outline

MAX_TILES = 12
"""Maximum number of rows if no tiles are specified."""

PARTS = 8
"""Number of parts of the period; the clearest frame of each is shown."""

_THREADS = 4
"""Tiles read and decoded in parallel."""

NO_DATA_COLOUR = "#00d0ff"
"""A colour that neither land nor cloud has in any composite."""

_CLASS_COLOURS = dict(zip(STRIP_CLASSES, ("#8d8d98", "#c9c9d1", "#4b4b57", NO_DATA_COLOUR), strict=True))
_INDEX_COLOUR, _SHOWN_COLOUR, _BAD_COLOUR = "#00845f", INK, "#d7191c"
_TRACK_COLOURS = ("#b5530a", "#6a3fb0", "#a01a58", "#00707a")

_RADAR_STRETCH = Stretch(np.array([-20.0, -27.0, 2.0]), np.array([-3.0, -9.0, 14.0]))
"""Typical range over land of VV, VH and VV−VH in dB."""

_SHORT = np.timedelta64(120, "D")
"""Shorter periods get more than one tick per month."""

_INDEX_RANGE = (-0.1, 0.95)
_INDEX_COLOURS = "YlGn"

# Inches.
_PANEL, _SPACING, _LEFT, _RIGHT = 1.12, 0.07, 0.5, 0.4
_TITLE, _FACTS, _CAPTION, _STRIP, _TICKS, _BETWEEN, _LEGEND = 0.42, 0.26, 0.17, 0.55, 0.2, 0.16, 0.5


def contact_sheet(store: TileStore, tile_ids: Sequence[str] | None = None) -> bytes:
    """A picture of the store as PNG.

    Args:
        store: the opened store.
        tile_ids: the tiles to show; by default up to 12, evenly chosen.

    Raises:
        UserError: the store lacks one of the tiles or has none at all, or a file is damaged.
    """
    shown = list(tile_ids) if tile_ids else evenly(store.tile_ids, MAX_TILES)
    records = [store.record(tile_id) for tile_id in shown]
    dates = [date for record in records for date in (record.optical.first_date, record.optical.last_date) if date]
    if not dates:
        raise UserError(f"{store.uri}: contains no acquisition that could be drawn")
    borders = parts_of((np.datetime64(min(dates), "D"), np.datetime64(max(dates), "D")), PARTS)
    with ThreadPoolExecutor(_THREADS) as pool:
        tiles = list(pool.map(lambda tile_id: overview_of(store, tile_id, borders), shown))
    figure = _draw(store, tiles, borders)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def _draw(store: TileStore, tiles: Sequence[TileOverview], borders: NDArray[np.datetime64]) -> Figure:
    columns = PARTS + 3
    width = _LEFT + columns * (_PANEL + _SPACING) - _SPACING + _RIGHT
    tall = [_panel_height(tile) for tile in tiles]
    row_rest = _FACTS + _CAPTION + _STRIP + _TICKS + _BETWEEN
    height = _TITLE + sum(tall) + len(tiles) * row_rest + _LEGEND
    figure = Figure(figsize=(width, height), facecolor="white")

    def axes_at(left: float, top: float, wide: float, high: float) -> Axes:
        return figure.add_axes((left / width, 1 - (top + high) / height, wide / width, high / height))

    def text_at(left: float, top: float, text: str, **style: Any) -> None:
        figure.text(left / width, 1 - top / height, text, va="top", color=INK, **style)

    quarantined = f", {len(store.manifest.quarantined)} quarantined" if store.manifest.quarantined else ""
    of = f"{len(tiles)} of {len(store)} tiles" if len(tiles) < len(store) else f"{len(store)} tiles"
    text_at(_LEFT, 0.1, f"{store.location.name} · {store.manifest.source or 'tile store'} · {of}{quarantined}",
            fontsize=13, weight="bold")  # fmt: skip
    stretches = _stretches(tiles)
    top = _TITLE
    for tile, high in zip(tiles, tall, strict=True):
        text_at(_LEFT, top, tile.tile_id, fontsize=10, weight="bold")
        text_at(width - _RIGHT, top + 0.02, f"{tile.facts} · {_named(tile)}", fontsize=8.5, ha="right")
        top += _FACTS + _CAPTION
        panels = [axes_at(_LEFT + at * (_PANEL + _SPACING), top, _PANEL, high) for at in range(columns)]
        _show_frames(panels[: PARTS + 1], tile, stretches[tile.composite.name])
        _show_picture(panels[PARTS + 1], tile.radar, "no radar")
        _show_picture(panels[PARTS + 2], tile.vegetation, "no index")
        top += high
        strip_width = width - _LEFT - _RIGHT
        _show_strip(axes_at(_LEFT, top + 0.06, strip_width, _STRIP - 0.06), tile, borders)
        top += _STRIP + _TICKS + _BETWEEN
    _legend(figure, tiles, height)
    return figure


def _panel_height(tile: TileOverview) -> float:
    rows, columns = tile.size
    return _PANEL * float(np.clip(rows / columns, 0.3, 2.5))


def _stretches(tiles: Sequence[TileOverview]) -> dict[str, Stretch]:
    """One stretch for all tiles with the same bands, so that a tile in wrong units stands out.

    Wide enough for nearly all frames, except those with undetected cloud. The three bands of true colour share one
    stretch, which preserves colour balance.
    """
    found = {}
    for composite in {tile.composite for tile in tiles}:
        frames = [frame for tile in tiles if tile.composite == composite for frame in tile.frames if frame]
        clear = [frame.image[~frame.hidden & np.isfinite(frame.image).all(axis=-1)] for frame in frames]
        limits = np.array([np.percentile(pixels, (1, 99), axis=0) for pixels in clear if len(pixels)])
        if not len(limits):
            found[composite.name] = Stretch(np.zeros(3), np.full(3, 0.3))
            continue
        low, high = np.percentile(limits[:, 0], 15, axis=0), np.percentile(limits[:, 1], 75, axis=0)
        if composite is TRUE_COLOUR:
            low, high = np.full(3, low.min()), np.full(3, high.max())
        found[composite.name] = Stretch(low, np.maximum(high, low + 1e-3))
    return found


def _named(tile: TileOverview) -> str:
    one = len(set(tile.composite.bands)) == 1
    return f"{tile.composite.name} in grey" if one else f"{tile.composite.name} ({', '.join(tile.composite.bands)})"


def _bare(panel: Axes) -> None:
    panel.set_xticks([])
    panel.set_yticks([])
    for spine in panel.spines.values():
        spine.set_linewidth(0.4)


def _show_frames(panels: Sequence[Axes], tile: TileOverview, stretch: Stretch) -> None:
    for panel, frame in zip(panels, (*tile.frames, tile.cloudy), strict=True):
        _bare(panel)
        if frame is None:
            _absent(panel, "no cloud" if panel is panels[-1] else "no acquisition")
            continue
        _show(panel, stretch.apply(frame.image))
        outline(panel, frame.hidden)
        hidden = "" if frame.hidden_share is None else f"  {frame.hidden_share:.0%}"
        panel.set_title(f"{frame.date}{hidden}", fontsize=8, pad=2.5, color=INK)


def _show_picture(panel: Axes, picture: Picture | None, without: str) -> None:
    _bare(panel)
    if picture is None:
        _absent(panel, without)
    elif picture.image.ndim == 3:
        _show(panel, _RADAR_STRETCH.apply(picture.image))
    else:
        low, high = _INDEX_RANGE
        coloured = colormaps[_INDEX_COLOURS](np.clip((picture.image - low) / (high - low), 0, 1))[..., :3]
        _show(panel, np.where(np.isfinite(picture.image)[..., None], coloured, np.nan))
    if picture is not None:
        panel.set_title(picture.caption, fontsize=8, pad=2.5, color=INK)


def _show(panel: Axes, coloured: NDArray[np.floating]) -> None:
    missing = ~np.isfinite(coloured).all(axis=-1, keepdims=True)
    panel.imshow(np.where(missing, to_rgb(NO_DATA_COLOUR), coloured), interpolation="nearest")


def _absent(panel: Axes, why: str) -> None:
    panel.set_facecolor("#f1f1f4")
    panel.text(0.5, 0.5, why, transform=panel.transAxes, ha="center", va="center", fontsize=8, color="#77777f")


def _show_strip(panel: Axes, tile: TileOverview, borders: NDArray[np.datetime64]) -> None:
    """Draws, above the line, what hides the land at each optical acquisition and the vegetation index, and below it the
    radar dates."""
    days = tile.dates.astype("datetime64[D]").astype(float)
    bottom = np.zeros(len(days))
    for column, name in enumerate(STRIP_CLASSES):
        share = tile.shares[:, column]
        panel.bar(days, share, bottom=bottom, width=1.6, color=_CLASS_COLOURS[name], linewidth=0, zorder=2)
        bottom += share
    # A clear acquisition has no bar, so its date is marked on the line.
    panel.plot(days, np.zeros(len(days)), "|", color=INK, markersize=4, markeredgewidth=0.7, zorder=3)
    shown = [frame.date.astype("datetime64[D]").astype(float) for frame in (*tile.frames, tile.cloudy) if frame]
    panel.plot(shown, np.full(len(shown), 1.12), "v", color=_SHOWN_COLOUR, markersize=4, clip_on=False, zorder=5)
    known = np.isfinite(tile.index)
    panel.plot(days[known], tile.index[known], color=_INDEX_COLOUR, linewidth=1.3, marker="o", markersize=2.2, zorder=4)
    depth = 0.0
    for (_, dates), colour in zip(tile.radar_dates.items(), _TRACK_COLOURS, strict=False):
        depth -= 0.2
        at = dates.astype("datetime64[D]").astype(float)
        panel.plot(at, np.full(len(at), depth), "|", color=colour, markersize=5, markeredgewidth=0.9, zorder=3)
    bad = days[tile.bad]
    panel.plot(bad, np.full(len(bad), 0.5), "x", color=_BAD_COLOUR, markersize=5, markeredgewidth=1.5, zorder=6)
    panel.axhline(0, color=INK, linewidth=0.5, zorder=3)
    for border in borders[1:-1].astype(float):
        panel.axvline(border, color="#dcdce2", linewidth=0.6, zorder=0)
    panel.set_xlim(float(borders[0].astype(float)) - 3, float(borders[-1].astype(float)) + 3)
    panel.set_ylim(depth - 0.15, 1.03)
    panel.set_yticks([0, 1])
    panel.tick_params(labelsize=7, length=2, pad=1.5)
    panel.spines[["top", "right"]].set_visible(False)
    panel.xaxis.set_major_locator(AutoDateLocator(minticks=5, maxticks=14))
    panel.xaxis.set_major_formatter(DateFormatter("%Y-%m-%d" if borders[-1] - borders[0] < _SHORT else "%Y-%m"))


def _legend(figure: Figure, tiles: Sequence[TileOverview], height: float) -> None:
    tracks = list(dict.fromkeys(track for tile in tiles for track in tile.radar_dates))
    indices = list(dict.fromkeys(tile.index_name for tile in tiles if tile.index_name))
    dot: dict[str, Any] = {"linestyle": "none", "markersize": 6}
    handles: list[Any] = [Line2D([], [], color=OUTLINE_COLOUR, linewidth=1.5, label="border of cloud and shadow")]
    handles += [Patch(facecolor=colour, label=name) for name, colour in _CLASS_COLOURS.items()]
    if indices:
        label = f"{' or '.join(indices)}, clear pixels"
        handles.append(Line2D([], [], color=_INDEX_COLOUR, marker="o", markersize=3, label=label))
    handles += [
        Line2D([], [], marker="v", color=_SHOWN_COLOUR, label="shown above", **dot),
        Line2D([], [], marker="|", color=INK, label="optical", **dot),
    ]
    if any(tile.bad.any() for tile in tiles):
        handles.append(Line2D([], [], marker="x", color=_BAD_COLOUR, label="listed as bad", **dot))
    handles += [
        Line2D([], [], marker="|", color=colour, label=f"radar {track}", **dot)
        for track, colour in zip(tracks, _TRACK_COLOURS, strict=False)
    ]
    left = _LEFT / float(figure.get_size_inches()[0])
    figure.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(left, 0.24 / height), ncols=len(handles), frameon=False,
        fontsize=8.5, borderpad=0, borderaxespad=0, columnspacing=1.2, handlelength=1.4, handletextpad=0.5,
    )  # fmt: skip
    note = (
        "The clearest frame of each eighth of the period, then one half hidden by cloud, with the share that is cloud, "
        "shadow or no data. One stretch for all tiles. Radar as VV, VH, VV−VH in red, green, blue."
    )
    figure.text(left, 0.06 / height, note, fontsize=8, va="bottom", color="#55555d")
