"""Ensembles of possible series: how far they scatter, what they look like, and what they cost.

`python -m benchmarks.ensembles MODEL --sites A B` hides every sixth clear date of a site, beginning with the first, the
third and the fifth in turn, fills them with an ensemble and compares the members with what was observed: beside
independent noise of the same standard deviations, and beside the network sampled in several steps with several seeds.
It prints tables and, as the last line, JSON; `--picture` draws one hidden date and the power spectra of the first site.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.quality.__main__ import SHARED
from benchmarks.quality.sites import SOURCES, Site, prepare
from restore_dit.config import DataConfig, RadarConfig
from restore_dit.data.examples.cutting import BOTH_TRACKS
from restore_dit.data.examples.decoded_tile import DecodedTile
from restore_dit.data.examples.maker import ExampleMaker
from restore_dit.data.examples.normalisation import BRIGHT_CEILING, OPTICAL_CEILING
from restore_dit.data.loader import tile_reader
from restore_dit.errors import UserError
from restore_dit.evaluation.figures import to_png
from restore_dit.indices import normalised_difference, pair_of
from restore_dit.pictures.composites import natural_composite, robust_stretch
from restore_dit.reconstruction.calibration import LEVELS
from restore_dit.reconstruction.gap_free import GapFree, fill_gaps
from restore_dit.reconstruction.model_directory import Model, load_model
from restore_dit.reconstruction.sampling import SamplingOptions
from restore_dit.series import CLEAR, NO_DATA, SAMPLES, THICK_CLOUD, UNCERTAINTY, Acquisitions, TileSeries

STRIDE = 6
"""Of as many clear dates, one is hidden."""

STEPS = 4
"""Steps in which the network is sampled for comparison."""

BLOCKS = (1, 8, 64)
"""Side lengths in pixels of the areas whose means are compared; the last is a whole tile."""

FREQUENCIES = (0.5, 2.5, 9, 32)
"""Limits of the three ranges of spatial frequency, in periods per tile of 64 pixels."""

TEN_METRES = ("B02", "B03", "B04", "B08")

FloatArray = NDArray[np.floating]


@dataclass(frozen=True)
class Trial:
    """Hidden dates of one tile: the `truth` and what was `filled` [n, C, H, W] with its standard `deviation`, each in
    stored units, the members of each kind of ensemble [n, K, C, H, W], and where the truth is `known` [n, H, W]."""

    bands: tuple[str, ...]
    truth: FloatArray
    filled: FloatArray
    deviation: FloatArray
    ensembles: dict[str, FloatArray]
    known: NDArray[np.bool_]


def trials_of(site: Site, model: Model, members: int, seeds: int, turns: int) -> list[Trial]:
    """Fills the hidden dates of each tile of a site, a sixth of all clear ones in each turn."""
    maker = ExampleMaker(DataConfig(targets=site.targets), site.bands, seed=0)
    reader = tile_reader(site.store, DataConfig(targets=site.targets, radar=RadarConfig(track=BOTH_TRACKS)), keep=1)
    found = []
    for tile_id, first in itertools.product(site.tile_ids, range(0, 2 * turns, 2)):
        hidden = slice(first, None, STRIDE)
        series, known = hidden_series(reader(tile_id).series(), maker, hidden)
        options = SamplingOptions(samples=members, mask_dilation=0)
        gap_free = fill_gaps(model, series, options)
        bands = gap_free.series.optical.bands
        order = [series.optical.bands.index(band) for band in bands]
        truth = series.optical.values[hidden][:, order].clip(0, BRIGHT_CEILING).astype(np.float64)
        filled, deviation = values_of(gap_free, hidden), gap_free.series.layers[UNCERTAINTY][hidden].astype(np.float64)
        noise = np.random.default_rng(0).standard_normal((len(truth), members, *truth.shape[1:]), np.float32)
        ensembles = {
            "ensemble": gap_free.series.layers[SAMPLES][hidden].astype(np.float64),
            "independent noise": (filled[:, None] + deviation[:, None] * noise).clip(0, BRIGHT_CEILING),
        }
        if seeds:
            several = [replace(options, samples=0, steps=STEPS, seed=seed) for seed in range(seeds)]
            runs = [values_of(fill_gaps(model, series, one), hidden) for one in several]
            ensembles[f"{STEPS} steps"] = np.stack(runs, axis=1)
        found.append(Trial(bands, truth, filled, deviation, ensembles, known))
    return found


def hidden_series(whole: TileSeries, maker: ExampleMaker, hidden: slice) -> tuple[TileSeries, NDArray[np.bool_]]:
    """The clear dates of a tile with some hidden, and where what is hidden is known [n, H, W]."""
    tile, order = DecodedTile(whole), [whole.optical.bands.index(band) for band in maker.bands]
    values, frames = whole.optical.values[:, order], maker.clear_frames(tile, "all")
    unknown = maker.unknown(tile)[frames] | (values[frames] == NO_DATA).any(axis=1)
    clouds = np.where(unknown, THICK_CLOUD, CLEAR).astype(np.uint8)
    clouds[hidden] = THICK_CLOUD
    optical = Acquisitions(values[frames], whole.optical.dates[frames], maker.bands)
    return replace(whole, optical=optical, clouds=clouds, layers={}, other_clouds={}), ~unknown[hidden]


def values_of(gap_free: GapFree, hidden: slice) -> NDArray[np.float64]:
    """What was filled on the hidden dates."""
    return gap_free.series.optical.values[hidden].astype(np.float64)


def scatter(trials: list[Trial], kind: str) -> dict[str, Any]:
    """How the members of one kind scatter: against the standard deviations, and around the truth."""
    spread, deviation, errors, of_mean = [], [], [], []
    covered: dict[int, list[FloatArray]] = {side: [] for side in BLOCKS}
    for trial in trials:
        members, known = trial.ensembles[kind], np.broadcast_to(trial.known[:, None], trial.truth.shape)
        spread.append(members.std(axis=1, ddof=1)[known])
        deviation.append(trial.deviation[known])
        errors.append((trial.filled - trial.truth)[known])
        of_mean.append((members.mean(axis=1) - trial.truth)[known])
        for side in BLOCKS:
            truth, drawn = blocks(trial.truth, side), blocks(members, side)
            whole = np.broadcast_to((blocks(trial.known.astype(float), side) == 1)[:, None], truth.shape)
            covered[side].append(within(truth, drawn)[:, whole])
    joined = [np.concatenate(each) for each in (spread, deviation, errors, of_mean)]
    return {
        "spread": float(rms(joined[0]) / rms(joined[1])),
        "correlation": float(np.corrcoef(joined[0], joined[1])[0, 1]),
        "psnr": decibel(joined[2]),
        "psnr_of_mean": decibel(joined[3]),
        "covered": {side: np.concatenate(each, axis=1).mean(axis=1).tolist() for side, each in covered.items()},
    }


def within(truth: FloatArray, members: FloatArray) -> NDArray[np.bool_]:
    """Whether the truth [n, …] lies within the central intervals of `LEVELS` of the members [n, K, …], [3, n, …]."""
    found = []
    for level in LEVELS:
        low, high = np.quantile(members, [0.5 - level / 2, 0.5 + level / 2], axis=1, method="weibull")
        found.append((truth >= low) & (truth <= high))
    return np.stack(found)


def index_spread(trials: list[Trial], name: str) -> dict[str, Any] | None:
    """The standard deviation of an index over the members, and that of independent bands, against its errors; None
    without its bands."""
    try:
        pair = pair_of(name, trials[0].bands)
    except UserError:
        return None
    error, by_members, by_bands = [], [], []
    for trial in trials:
        first, second = (trial.bands.index(band) for band in pair)
        truth, filled = (normalised_difference(each, trial.bands, *pair) for each in (trial.truth, trial.filled))
        drawn = np.stack(
            [normalised_difference(of_date, trial.bands, *pair) for of_date in trial.ensembles["ensemble"]]
        )
        total = trial.filled[:, first] + trial.filled[:, second]
        parts = [trial.filled[:, one] * trial.deviation[:, other] for one, other in ((second, first), (first, second))]
        usable = trial.known & np.isfinite(truth) & np.isfinite(filled) & np.isfinite(drawn).all(axis=1) & (total > 0)
        error.append((filled - truth)[usable])
        by_members.append(drawn.std(axis=1, ddof=1)[usable])
        by_bands.append((2 / np.maximum(total, 1) ** 2 * np.hypot(*parts))[usable])
    errors = np.concatenate(error)
    found: dict[str, Any] = {"bands": "−".join(pair), "rms_error": rms(errors)}
    for way, each in (("members", by_members), ("independent", by_bands)):
        deviation = np.concatenate(each)
        widths = np.array([0.6745, 1.2816, 1.96])
        covered = (np.abs(errors) <= widths[:, None] * deviation).mean(axis=1)
        found[way] = {"rms": rms(deviation), "covered": covered.tolist()}
    return found


def power(images: FloatArray) -> FloatArray:
    """Power by radial frequency 1 … N/2, mean of images less their means, with a Hann window.

    images: [..., H, W], of which a square of N×N pixels is used.
    """
    side = min(images.shape[-2:])
    images = images[..., :side, :side]
    window = np.hanning(side)[:, None] * np.hanning(side)
    spectra = np.abs(np.fft.fft2((images - images.mean(axis=(-2, -1), keepdims=True)) * window)) ** 2
    frequency = np.fft.fftfreq(side) * side
    radius = np.rint(np.hypot(frequency[:, None], frequency)).astype(int)
    mean = spectra.reshape(-1, side * side).mean(axis=0)
    return np.array([mean[radius.ravel() == one].mean() for one in range(1, side // 2 + 1)])


def spectra_of(trials: list[Trial]) -> dict[str, FloatArray]:
    """The power of the truth, the filled values and the members, mean over bands in units of the truth's; of dates that
    are entirely known, and of the bands of 10 m where there are any: others may be interpolated."""
    found: dict[str, list[FloatArray]] = {}
    for trial in trials:
        whole = trial.known.all(axis=(1, 2))
        images = {"truth": trial.truth, "filled": trial.filled} | trial.ensembles
        for band in [trial.bands.index(one) for one in TEN_METRES if one in trial.bands] or range(len(trial.bands)):
            of_band = {name: power(values[whole][..., band, :, :]) for name, values in images.items()}
            for name, spectrum in of_band.items():
                found.setdefault(name, []).append(spectrum / of_band["truth"])
    return {name: np.mean(each, axis=0) for name, each in found.items()}


def blocks(values: FloatArray, side: int) -> FloatArray:
    """Means over squares of side×side pixels, or the whole tile if that is smaller; what is left over is dropped."""
    *leading, height, width = values.shape
    tall, wide = min(side, height), min(side, width)
    cut = values[..., : height // tall * tall, : width // wide * wide]
    mean: FloatArray = cut.reshape(*leading, height // tall, tall, width // wide, wide).mean(axis=(-3, -1))
    return mean


def rms(values: FloatArray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.square(values).mean()))


def decibel(errors: FloatArray) -> float:
    """PSNR in dB on the published scale."""
    return float(-20 * np.log10(rms(errors) / OPTICAL_CEILING))


def draw(trial: Trial, spectra: dict[str, FloatArray]) -> bytes:
    """The hidden date of the median error as observed, filled and in three members, with one stretch, and the spectra
    below."""
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1, 1.1))
    errors = np.square(trial.truth - trial.filled).mean(axis=(1, 2, 3))
    frame = int(np.argsort(errors)[len(errors) // 2])
    images = {"observed": trial.truth[frame], "filled": trial.filled[frame]}
    images |= {f"member {member + 1}": trial.ensembles["ensemble"][frame, member] for member in range(3)}
    several = next((name for name in trial.ensembles if name.endswith("steps")), None)
    if several is not None:
        images[several] = trial.ensembles[several][frame, 0]
    colours = natural_composite(trial.bands).pick(np.stack(list(images.values())), trial.bands)
    stretch = robust_stretch(colours[:1], np.ones(colours[:1].shape[:3], bool))
    for panel, name, colour in zip(upper.subplots(1, len(images)), images, colours, strict=True):
        panel.imshow(stretch.apply(colour), interpolation="nearest")
        panel.set_title(name, fontsize=9)
        panel.set_axis_off()
    panel = lower.subplots()
    for name, spectrum in spectra.items():
        panel.plot(np.arange(1, len(spectrum) + 1), spectrum, label=name, color="black" if name == "truth" else None)
    panel.set(xscale="log", yscale="log", xlabel="periods per tile", ylabel="power / that of the truth")
    panel.legend(frameon=False, fontsize=9)
    return to_png(figure)


def seconds(site: Site, model: Model) -> dict[int, float]:
    """CPU time to fill the first tile of a site with ensembles of several sizes, in seconds."""
    maker = ExampleMaker(DataConfig(targets=site.targets), site.bands, seed=0)
    reader = tile_reader(site.store, DataConfig(targets=site.targets, radar=RadarConfig(track=BOTH_TRACKS)), keep=1)
    series, _ = hidden_series(reader(site.tile_ids[0]).series(), maker, slice(0, None, STRIDE))
    found = {}
    for samples in (0, 1, 4, 8):
        begin = time.process_time()
        fill_gaps(model, series, SamplingOptions(samples=samples, mask_dilation=0))
        found[samples] = time.process_time() - begin
    return found


def main() -> int:
    """Scores all sites and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="default", help="model directory (default: the shipped one)")
    parser.add_argument("--sites", nargs="+", choices=list(SOURCES), default=["A", "B"], metavar="SITE")
    parser.add_argument("--members", type=int, default=40, help="members of an ensemble (default 40)")
    parser.add_argument("--seeds", type=int, default=4, help="seeds of the network in several steps; 0: leave it out")
    parser.add_argument("--turns", type=int, choices=(1, 2, 3), default=3, help="how often other dates are hidden")
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the sites' files")
    parser.add_argument("--folder", type=Path, help="folder for the tile stores (default: a temporary folder)")
    parser.add_argument("--picture", type=Path, help="file for the picture of the first site")
    given = parser.parse_args()
    model, results = load_model(given.model), {}
    print(
        "| site, dates | members | spread / σ | PSNR filled, mean | pixels | 8×8 | tile | power: coarse, middle, fine |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as temporary:
        for name in given.sites:
            site = prepare(name, given.data, given.folder or Path(temporary), "both")
            trials = trials_of(site, model, given.members, given.seeds, given.turns)
            spectra = spectra_of(trials)
            of_site: dict[str, Any] = {"dates": sum(len(trial.truth) for trial in trials), "kinds": {}}
            for kind in trials[0].ensembles:
                found = scatter(trials, kind) | {"power": in_ranges(spectra[kind])}
                of_site["kinds"][kind] = found
                covered = " | ".join(shares(found["covered"][side]) for side in BLOCKS)
                print(
                    f"| {name}, {of_site['dates']} | {kind} | {found['spread']:.2f} | {found['psnr']:.2f}, "
                    f"{found['psnr_of_mean']:.2f} | {covered} | {ratios(found['power'])} |"
                )
            of_site["filled_power"] = in_ranges(spectra["filled"])
            of_site["indices"] = {index: index_spread(trials, index) for index in ("ndvi", "ndre")}
            of_site["seconds"] = seconds(site, model)
            print(f"\n{name}: power of the filled values {ratios(of_site['filled_power'])}")
            print(f"{name}: CPU seconds by members {', '.join(f'{k}: {s:.1f}' for k, s in of_site['seconds'].items())}")
            for index, its in of_site["indices"].items():
                for way in ("members", "independent") if its is not None else ():
                    print(
                        f"{name}: {index} ({its['bands']}), σ by {way}: {its[way]['rms']:.3f}, error "
                        f"{its['rms_error']:.3f}, in 50/80/95 % intervals {shares(its[way]['covered'])}"
                    )
            print(flush=True)
            results[name] = of_site
            if given.picture is not None and name == given.sites[0]:
                given.picture.write_bytes(draw(trials[0], spectra))
    print(json.dumps({"benchmark": "ensembles", "model": given.model, "members": given.members, "sites": results}))
    return 0


def in_ranges(spectrum: FloatArray) -> list[float | None]:
    """The mean of a spectrum in the ranges of `FREQUENCIES`, for a tile of any side; None where it has none."""
    frequency = np.arange(1, len(spectrum) + 1) * (32 / len(spectrum))
    ranges = itertools.pairwise(FREQUENCIES)
    chosen = [spectrum[(frequency > low) & (frequency <= high)] for low, high in ranges]
    return [float(one.mean()) if len(one) else None for one in chosen]


def ratios(power: list[float | None]) -> str:
    """Ratios of powers, such as `1.02, 0.98, –`."""
    return ", ".join("–" if one is None else f"{one:.2f}" for one in power)


def shares(covered: list[float]) -> str:
    """Shares in per cent, such as `50 / 80 / 95`."""
    return " / ".join(f"{100 * share:.0f}" for share in covered)


if __name__ == "__main__":
    sys.exit(main())
