"""The description of a tile store as aligned plain text, for a terminal or a file."""

from __future__ import annotations

import calendar
from collections.abc import Sequence

from restore_dit.data.crs import shown_sides
from restore_dit.inspection.description import (
    CLEAR_FRAME_SHARE,
    HIDDEN_FRAME_SHARE,
    BandDescription,
    CloudDescription,
    FrameClouds,
    SeriesDescription,
    StoreDescription,
    TargetDescription,
    TileDescription,
)

_MAX_TILES = 40
"""Maximum number of tiles listed."""

_MAX_KINDS = 8
"""Maximum number of sizes, CRSs and so on listed, the most common ones."""

_BAR = 20
"""Characters of a bar that represents 100 %."""


def description_text(store: StoreDescription) -> str:
    """Several short tables below one another; lists of more than 40 tiles are truncated."""
    lines = [
        *_about(store),
        "",
        *_table(
            ("series", "tiles", "frames", "per tile: min", "median", "max", "days between", "first", "last"),
            [_series_row(name, series) for name, series in store.series.items()],
        ),
    ]
    if store.clouds:
        lines += ["", *_clouds(store.clouds, store)]
    if store.targets:
        lines += ["", *_targets(store.targets)]
    if store.optical:
        among = "clear pixels" if store.clouds else "all pixels"
        lines += ["", *_bands(f"optical, reflectance of {among}", store.optical)]
    for track, bands in store.radar.items():
        lines += ["", *_bands(f"radar {track}, dB", bands)]
    header = ("tile", "pixels", "m", "bands", "optical", "radar", "cloud", "clear frames", "first", "last")
    lines += ["", *_table(header, [_tile_row(tile) for tile in store.tiles[:_MAX_TILES]])]
    if len(store.tiles) > _MAX_TILES:
        lines.append(f"… and {len(store.tiles) - _MAX_TILES} more tiles")
    for name, tiles in (("quarantined", store.quarantined), ("unreadable", store.unreadable)):
        if tiles:
            lines += ["", name] + [f"  {tile}: {reason}" for tile, reason in tiles.items()]
    return "\n".join(lines)


def readable_bytes(count: float) -> str:
    """A number of bytes in readable units, such as 5.9 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _about(store: StoreDescription) -> list[str]:
    quarantined = f"{len(store.quarantined)} quarantined"
    entries = {
        "tile store": store.uri,
        "format": f"{store.format}; generation {store.generation}, fingerprint {store.fingerprint}",
        "source": store.source or "unknown",
        "tiles": f"{len(store.tiles)}, {quarantined}; {store.objects} objects, {readable_bytes(store.bytes)}",
        "pixels": f"{store.pixels} in {_counts(store.sizes)}",
        "crs": _counts(store.crs),
        "bands": ", ".join(store.bands) or "none",
        "radar": ", ".join(store.radar_tracks) or "none",
        "layers": _counts(store.layers),
        "masks": _counts(store.masks),
        "folds": _counts(store.folds),
        "dates": f"{store.first_date} to {store.last_date}" if store.first_date else "none",
    }
    return [f"{name:<12} {text}" for name, text in entries.items()]


def _counts(counts: dict[str, int]) -> str:
    most = sorted(counts, key=lambda name: -counts[name])[:_MAX_KINDS]
    shown = [f"{name} ({counts[name]} tile{'s' * (counts[name] != 1)})" for name in counts if name in most]
    more = [f"… and {len(counts) - len(most)} more"] if len(counts) > len(most) else []
    return ", ".join([*shown, *more]) or "none"


def _series_row(name: str, series: SeriesDescription) -> tuple[str, ...]:
    return (
        name,
        str(series.tiles),
        str(series.frames),
        str(series.fewest),
        f"{series.median:g}",
        str(series.most),
        "-" if series.revisit_days is None else f"{series.revisit_days:g}",
        str(series.first_date or "-"),
        str(series.last_date or "-"),
    )


def _clouds(clouds: CloudDescription, store: StoreDescription) -> list[str]:
    shares = ", ".join(f"{name.replace('_', ' ')} {share:.1%}" for name, share in clouds.classes.items())
    clear = f"clear ≥ {CLEAR_FRAME_SHARE:.0%}"
    hidden = f"clear < {HIDDEN_FRAME_SHARE:.0%}"
    rows = [(calendar.month_abbr[month], *_frames_row(frames)) for month, frames in clouds.months.items()]
    some = f"  months: of {store.dated_tiles} of {len(store.tiles)} tiles"
    return [
        f"clouds of {clouds.tiles} tiles: {shares}",
        *_table(("frames", "number", clear, hidden, "hidden"), [("all", *_frames_row(clouds.frames)), *rows]),
        *([some] if store.dated_tiles < len(store.tiles) else []),
    ]


def _frames_row(frames: FrameClouds) -> tuple[str, ...]:
    return (
        str(frames.frames),
        f"{frames.clear_frames / frames.frames:.1%}",
        f"{frames.hidden_frames / frames.frames:.1%}",
        f"{frames.mean_hidden:6.1%} {'█' * round(frames.mean_hidden * _BAR)}",
    )


def _targets(targets: TargetDescription) -> list[str]:
    by_source = targets.rule["also_by_source"]
    limits = {} if targets.rule["by"] == "source_list" and not by_source else targets.rule
    thresholds = [f"{key}={value:g}" for key, value in limits.items() if isinstance(value, float)]
    by = str(targets.rule["by"]).replace("_", " ") + (" and by the source's classes" if by_source else "")
    rule = f"by {by} ({', '.join(thresholds)})" if thresholds else f"by {by}"
    lines = [f"targets of {targets.tiles} tile{'s' * (targets.tiles != 1)} {rule}"]
    total = sum(targets.frames.values())
    if total:
        rows = [
            (name.replace("_", " "), str(count), f"{count / total:6.1%} {'█' * round(count / total * _BAR)}")
            for name, count in targets.frames.items()
            if count
        ]
        lines += [
            *_table(("decision", "frames", "share"), rows),
            f"  targets per tile: min {targets.fewest}, median {targets.median:g}, max {targets.most}",
        ]
    for what, tiles in (("no target", targets.without_target), ("no cloud masks", targets.undecided)):
        if tiles:
            more = f", … and {len(tiles) - _MAX_KINDS} more" if len(tiles) > _MAX_KINDS else ""
            lines.append(f"  {what}: {', '.join(tiles[:_MAX_KINDS])}{more}")
    return lines


def _bands(name: str, bands: dict[str, BandDescription]) -> list[str]:
    rows = [
        (band, f"{entry.mean:.4f}", f"{entry.std:.4f}", str(entry.count), f"{entry.no_data_share:.1%}")
        for band, entry in bands.items()
    ]
    return _table((name, "mean", "std", "pixels", "no data"), rows)


def _tile_row(tile: TileDescription) -> tuple[str, ...]:
    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.1%}"

    return (
        tile.tile_id,
        f"{tile.size[0]}×{tile.size[1]}",
        "-" if tile.pixel_size is None else shown_sides(tile.pixel_size),
        str(len(tile.bands)),
        str(tile.optical_acquisitions),
        " ".join(f"{track}:{count}" for track, count in tile.radar_acquisitions.items()) or "-",
        share(tile.cloud_share),
        share(tile.clear_frame_share),
        str(tile.first_date or "-"),
        str(tile.last_date or "-"),
    )


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]
