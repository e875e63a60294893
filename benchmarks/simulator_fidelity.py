"""Compares statistics of simulated and real series in a table and, with `--output`, a figure.

`python -m benchmarks.simulator_fidelity --real STORE [--pastis FOLDER] [--output figure.png]` reads real sites from a
tile store (`restore-dit ingest-cubes … STORE`), simulates tiles on the dates of each site, and prints every statistic
of both with their ratio and, as the last line, JSON. FOLDER contains PASTIS-R's `NORM_S2_patch.json`, and
`pastis_stats.json` and `pastis_r_dates_by_tile.json` as the tests read them.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.simulation import simulate_tile
from restore_dit.data.simulation.fidelity import (
    LAGS,
    PASTIS_TILES,
    SeriesStatistics,
    counterparts_of,
    counterparts_of_pastis,
    describe_series,
)
from restore_dit.data.store.tile_store import TileStore
from restore_dit.pictures.composites import FALSE_COLOUR, SHORTWAVE, TRUE_COLOUR, Composite
from restore_dit.series import DECIBEL_SCALE, TileSeries

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

SEED = 1
SEASONS = (("winter", 45), ("spring", 125), ("summer", 205), ("cloudy", 150))
"""Columns of the figure, with the day of the year that their frames should be close to."""

HIGHEST = {TRUE_COLOUR: (2200, 2200, 2200), FALSE_COLOUR: (5500, 3000, 2600), SHORTWAVE: (4200, 5500, 3000)}
"""Stored reflectance shown as full red, green and blue."""


@dataclass(frozen=True)
class Pair:
    """A real site and its simulated counterparts."""

    site: TileSeries
    simulated: list[TileSeries]

    def statistics(self) -> tuple[SeriesStatistics, SeriesStatistics]:
        """Statistics of the site and of its counterparts."""
        bands = self.site.optical.bands
        return describe_series([self.site], bands), describe_series(self.simulated, bands)


def rows_of(real: SeriesStatistics, simulated: SeriesStatistics) -> list[tuple[str, float, float]]:
    """Rows (statistic, real, simulated) of the table; means over bands average the per-band statistics."""
    rows = [
        (f"{title} {band}", float(getattr(real, name)[number]), float(getattr(simulated, name)[number]))
        for name, title in (("mean", "mean"), ("deviation", "deviation"), ("interpolation", "interpolation error"))
        for number, band in enumerate(real.bands)
    ]
    for name, title in (("all_mean", "mean with clouds"), ("all_deviation", "deviation with clouds")):
        rows.append((f"{title}, mean of bands", getattr(real, name).mean(), getattr(simulated, name).mean()))
    for first, second in (("B02", "B04"), ("B04", "B08"), ("B05", "B8A"), ("B8A", "B11"), ("B11", "B12")):
        if {first, second} <= set(real.bands):
            entry = (real.bands.index(first), real.bands.index(second))
            rows.append((f"correlation {first} {second}", real.correlation[entry], simulated.correlation[entry]))
    rows += [
        (f"median NDVI, month {month}", real.ndvi[month - 1, 1], simulated.ndvi[month - 1, 1])
        for month in (2, 5, 8, 11)
        if np.isfinite(real.ndvi[month - 1, 1])
    ]
    for row, (days, _, _) in enumerate(LAGS):
        rows.append((f"change in {days} days, mean of bands", real.change[row].mean(), simulated.change[row].mean()))
    for row, pixels in enumerate((1, 2, 5, 10)):
        title = f"difference {pixels} pixels apart, mean of bands"
        rows.append((title, real.roughness[row].mean(), simulated.roughness[row].mean()))
    rows += [
        (title, getattr(real, name), getattr(simulated, name))
        for name, title in (
            ("clear_frames", "frames < 5 % missing"),
            ("bad_frames", "frames > 10 % missing"),
            ("covered_frames", "frames > 50 % missing"),
            ("patchiness", "edges in partly cloudy masks"),
            ("neighbour_days", "days between neighbours of a clear frame"),
        )
    ]
    for band in ("VV", "VH"):
        for part, title in enumerate(("mean", "deviation", "texture")):
            rows.append((f"{band} {title}, dB", real.radar[band][part], simulated.radar[band][part]))
    return rows


def pastis_rows(folder: Path, count: int) -> list[tuple[str, float, float]]:
    """Rows (statistic, real, simulated) for PASTIS-R."""
    facts = json.loads((folder / "pastis_stats.json").read_text())
    folds = json.loads((folder / "NORM_S2_patch.json").read_text()).values()
    tiles = {name: describe_series(counterparts_of_pastis(folder, name, count, SEED)) for name in PASTIS_TILES}
    bad = facts["bad_frames_per_tile"]
    weights = np.array([bad[name]["patches"] * bad[name]["T"] for name in tiles], float)
    weights /= weights.sum()
    mean = weights @ np.stack([tile.all_mean for tile in tiles.values()])
    square = weights @ np.stack([tile.all_mean**2 + tile.all_deviation**2 for tile in tiles.values()])
    rows = [(f"bad frames {name}", bad[name]["mean_bad_fraction"], tile.bad_frames) for name, tile in tiles.items()]
    for title, key, values in (("mean", "mean", mean), ("deviation", "std", np.sqrt(square - mean**2))):
        real = np.mean([fold[key] for fold in folds], axis=0)
        bands = next(iter(tiles.values())).bands
        rows += [(f"{title} {band}, all pixels", *pair) for band, *pair in zip(bands, real, values, strict=True)]
    for band in ("VV", "VH"):
        real_radar = facts["s1_from_olmoearth_pretrain_monthly_means_dB"][band.lower()]
        means, deviations = np.transpose([tile.monthly_radar[band] for tile in tiles.values()])
        rows.append((f"{band} mean of months, dB", real_radar["mean"], float(means.mean())))
        rows.append((f"{band} deviation of months, dB", real_radar["std"], float(deviations.mean())))
    return rows


def print_rows(title: str, rows: list[tuple[str, float, float]]) -> None:
    """Prints a Markdown table; correlations and values in dB are compared by difference, all others by ratio."""
    print(f"\n{title}\n\n| statistic | real | simulated | ratio or difference |\n|---|---|---|---|")
    for what, real, simulated in rows:
        digits = 0 if abs(real) >= 100 else 3 if abs(real) < 1 else 2
        apart = what.endswith("dB") or what.startswith("correlation")
        compared = f"{simulated - real:+.2f}" if apart else f"{simulated / real:.2f}"
        print(f"| {what} | {real:.{digits}f} | {simulated:.{digits}f} | {compared} |")


def frame_near(tile: TileSeries, season: str, day: int) -> int:
    """Index of the clear frame (for the season `cloudy`, the partly cloudy frame) nearest to a day of the year."""
    share = tile.missing().mean(axis=(1, 2))
    wanted = (share > 0.25) & (share < 0.65) if season == "cloudy" else share < 0.01
    dates = tile.optical.dates
    number = (dates - dates.astype("datetime64[Y]").astype("datetime64[D]")).astype(int) + 1
    apart = np.abs((number - day + 182) % 365 - 182).astype(float)
    apart[~wanted] += 1000
    return int(apart.argmin())


def draw_frame(panel: Axes, tile: TileSeries, frame: int, composite: Composite | None) -> None:
    """Draws a composite of a frame or, without a composite, the radar acquisition nearest in time."""
    if composite is not None:
        image = composite.pick(tile.optical.values[[frame]].astype(np.float32), tile.optical.bands)[0]
        panel.imshow((image / np.array(HIGHEST[composite])).clip(0, 1) ** 0.75)
        return
    series = next(iter(tile.radar.values()))
    nearest = int(np.abs(series.dates - tile.optical.dates[frame]).argmin())
    # Average 2×2 pixels, because the real product has 20 m pixels.
    power = 10 ** (series.values[nearest] / (10 * DECIBEL_SCALE))
    rows, columns = (size // 2 for size in tile.size)
    blocks = power[:, : 2 * rows, : 2 * columns].reshape(2, rows, 2, columns, 2).mean(axis=(2, 4))
    first, second = 10 * np.log10(blocks)
    image = np.stack([(first + 20) / 18, (second + 26) / 18, (first - second) / 16], axis=-1)
    panel.imshow(image.clip(0, 1))


def draw_figure(pair: Pair, shown: int, path: Path) -> None:
    """Draws frames of the site beside those of counterpart number `shown`, and curves of the statistics."""
    real, simulated = pair.statistics()
    figure = plt.figure(figsize=(15, 12.4), layout="constrained")
    images, curves = figure.subfigures(2, 1, height_ratios=(8.6, 3.2))
    panels = images.subplots(4, 2 * len(SEASONS))
    for row, composite in enumerate((TRUE_COLOUR, FALSE_COLOUR, SHORTWAVE, None)):
        name = f"{composite.name}\n{' '.join(composite.bands)}" if composite else "radar\nVV VH VV−VH"
        for column, (season, day) in enumerate(SEASONS):
            for side, tile in enumerate((pair.site, pair.simulated[shown])):
                panel, frame = panels[row, 2 * column + side], frame_near(tile, season, day)
                draw_frame(panel, tile, frame, composite)
                panel.set_xticks([])
                panel.set_yticks([])
                if row == 0:
                    panel.set_title(f"{('real', 'simulated')[side]}\n{tile.optical.dates[frame]}", fontsize=9)
        panels[row, 0].set_ylabel(name, fontsize=9)
    draw_curves(curves.subplots(1, 5), real, simulated)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def draw_curves(panels: NDArray[Any], real: SeriesStatistics, simulated: SeriesStatistics) -> None:
    """Draws curves of seasons, change over time, difference in space, band statistics and interpolation errors."""
    months, bands = np.arange(1, 13), np.arange(len(real.bands))
    shown = [real.bands.index(band) for band in ("B04", "B08", "B11")]
    for (name, statistics), style in zip((("real", real), ("simulated", simulated)), ("-", "--"), strict=True):
        shade = "tab:blue" if name == "real" else "tab:orange"
        panels[0].plot(months, statistics.ndvi[:, 1], style, color=shade, label=name)
        panels[0].fill_between(months, statistics.ndvi[:, 0], statistics.ndvi[:, 2], color=shade, alpha=0.2)
        for band, colour in zip(shown, ("tab:red", "tab:purple", "tab:brown"), strict=True):
            label = real.bands[band] if name == "real" else None
            panels[1].plot([lag[0] for lag in LAGS], statistics.change[:, band] / 1e4, style, color=colour, label=label)
            panels[2].plot((1, 2, 5, 10), statistics.roughness[:, band] / 1e4, style, color=colour)
        offset = -0.12 if name == "real" else 0.12
        panels[3].errorbar(
            bands + offset, statistics.mean / 1e4, statistics.deviation / 1e4, fmt="o", markersize=3, color=shade
        )
        panels[4].plot(bands, statistics.interpolation / 1e4, f"o{style}", markersize=3, color=shade)
    titles = ("NDVI: median, 10–90 %", "change with time (RMS)", "difference in space (RMS)", "mean ± deviation")
    labels = ("month", "days apart", "pixels apart", "", "")
    for panel, title, label in zip(panels, (*titles, "error of interpolation (RMSE)"), labels, strict=True):
        panel.set_title(title, fontsize=9)
        panel.set_xlabel(label, fontsize=8)
        panel.tick_params(labelsize=7)
    for panel in panels[3:]:
        panel.set_xticks(bands, real.bands, rotation=60)
    panels[0].legend(fontsize=7)
    panels[1].legend(fontsize=7, title="solid real, dashed simulated", title_fontsize=7)


def seconds_a_tile(tiles: int) -> float:
    """CPU time in seconds to simulate a tile of 128×128 pixels with both radar tracks."""
    simulate_tile(SimulationConfig(), SEED, 0)
    start = time.process_time()
    for index in range(tiles):
        simulate_tile(SimulationConfig(), SEED, index)
    return (time.process_time() - start) / tiles


def main() -> None:
    """Prints the tables and draws the figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--real", required=True, help="tile store of real sites")
    parser.add_argument("--climate", default="flanders", help="climate of the real sites (default flanders)")
    parser.add_argument("--pastis", type=Path, help="folder with the statistics of PASTIS-R")
    parser.add_argument("--tiles", type=int, default=12, help="simulated tiles per site (default 12)")
    parser.add_argument("--shown", type=int, default=1, help="number of the simulated tile in the figure (default 1)")
    parser.add_argument("--output", type=Path, help="file for a figure of the first site that has B02 and B08")
    given = parser.parse_args()
    store = TileStore.open(given.real)
    result: dict[str, dict[str, tuple[float, float]]] = {}
    for tile_id in store.tile_ids:
        site = store.load(tile_id).series()
        pair = Pair(site, list(counterparts_of(site, given.climate, given.tiles, SEED)))
        rows = rows_of(*pair.statistics())
        print_rows(f"{tile_id}: {len(site.optical)} frames, {given.tiles} simulated tiles on its dates", rows)
        result[tile_id] = {what: (float(one), float(other)) for what, one, other in rows}
        if given.output is not None and {"B02", "B08"} <= set(site.optical.bands):
            draw_figure(pair, given.shown, given.output)
            given.output = None
    if given.pastis is not None:
        rows = pastis_rows(given.pastis, given.tiles)
        print_rows(f"PASTIS-R: {given.tiles} simulated patches of each tile on its dates", rows)
        result["PASTIS-R"] = {what: (float(one), float(other)) for what, one, other in rows}
    seconds = seconds_a_tile(4)
    print(f"\na tile of 128×128 pixels: {seconds:.2f} s on one core")
    print(json.dumps({"benchmark": "simulator_fidelity", "seconds_a_tile": seconds, "statistics": result}))


if __name__ == "__main__":
    main()
