"""Suspect pixels: what is found of cloud, haze and shadow that masks miss, what is mistaken for it, and what replacing
it gains.

`python -m benchmarks.suspects` prints three tables and, as the last line, JSON. The first two are on simulated tiles
whose true masks are known, and on real sites: the share of pixels that is suspect. The third fills the gaps of the
protocols in whole series, once with the masks as they are and once without a tenth of their pieces of cloud and shadow,
and scores always the same pixels, which are clear by all masks.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.any_date import SHARED
from benchmarks.quality.sites import SOURCES, prepare
from restore_dit.config import DataConfig, RadarConfig, TargetConfig
from restore_dit.config.jobs import EvaluationConfig
from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.examples.cutting import BOTH_TRACKS
from restore_dit.data.examples.decoded_tile import DecodedTile
from restore_dit.data.examples.dilation import hidden_pixels, mistaken_ground
from restore_dit.data.examples.maker import ExampleMaker
from restore_dit.data.examples.normalisation import stored_to_published_scale
from restore_dit.data.loader import tile_reader
from restore_dit.data.simulation import simulate_tile
from restore_dit.data.store.masks import SOURCE_CLOUDS, TRUTH
from restore_dit.evaluation.protocols import trials
from restore_dit.pictures.composites import natural_composite
from restore_dit.reconstruction.model_directory import Model, load_model
from restore_dit.reconstruction.reconstruct import reconstruct_with_deviation
from restore_dit.reconstruction.sampling import SamplingOptions
from restore_dit.reconstruction.suspects import find_suspects
from restore_dit.series import (
    CLEAR,
    CLOUD_NO_DATA,
    NO_DATA,
    REFLECTANCE_SCALE,
    SHADOW,
    THICK_CLOUD,
    THIN_CLOUD,
    Acquisitions,
    TileSeries,
)

DILATION = 2
"""Pixels by which masks are dilated, as for the shipped model."""

MISSED = 0.1
"""Share of the pieces of cloud and shadow that are taken out of the masks."""

BANDS = {
    "ten bands": ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
    "six of 20 m": ("B05", "B06", "B07", "B8A", "B11", "B12"),
    "four of 10 m": ("B02", "B03", "B04", "B08"),
}

ABRUPT = 0.25
"""Least change of the ground's NDVI since the observation before, or until the one after, that counts as abrupt."""


def without_pieces(clouds: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Masks [T, H, W] without a share `MISSED` of their connected pieces of cloud and shadow, drawn at random."""
    missed = clouds.copy()
    for frame, mask in zip(missed, clouds, strict=True):
        pieces, count = ndimage.label((mask != CLEAR) & (mask != CLOUD_NO_DATA), np.ones((3, 3), bool))
        chosen = np.flatnonzero(random.random(count) < MISSED) + 1
        frame[np.isin(pieces, chosen)] = CLEAR
    return missed


def observed_pixels(series: TileSeries, clouds: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The pixels [T, H, W] that count as observed with these masks, dilated."""
    missing = (series.optical.values == NO_DATA).any(axis=1)
    return ~(missing | hidden_pixels(clouds, DILATION, mistaken_ground(clouds)))


def suspects_of(series: TileSeries, observed: NDArray[np.bool_], bands: tuple[str, ...]) -> NDArray[np.bool_]:
    """The suspect pixels [T, H, W] of all frames."""
    return find_suspects(series.optical, np.arange(len(series.optical)), observed, bands)


def abrupt_change(ground: TileSeries, clear: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where [T, H, W] the ground changes abruptly between a date and the nearest ones on which it is `clear`."""
    red, infrared = (
        ground.optical.values[:, ground.optical.bands.index(band)].astype(float) for band in ("B04", "B08")
    )
    index = (infrared - red) / (infrared + red + 1)
    changed = np.zeros(clear.shape, bool)
    for order in (range(len(clear)), range(len(clear) - 1, -1, -1)):
        last = np.full(clear.shape[1:], np.nan)
        for frame in order:
            with np.errstate(invalid="ignore"):
                changed[frame] |= np.abs(index[frame] - last) > ABRUPT
            last = np.where(clear[frame], index[frame], last)
    return changed


def detection(tiles: int, seed: int) -> Iterator[dict[str, Any]]:
    """For masks as simulated, and without a tenth of their pieces, and for each set of bands: shares of observed pixels
    that are suspect, by what is truly there."""
    config, random = SimulationConfig(height=64, width=64, varied=True), np.random.default_rng(seed)
    counts: dict[tuple[str, str], dict[str, NDArray[np.int64]]] = defaultdict(
        lambda: defaultdict(lambda: np.zeros(2, int))
    )
    for index in range(tiles):
        series, ground = (simulate_tile(config, seed, index, clouds=clouds) for clouds in (True, False))
        assert series.clouds is not None
        truth, own = series.other_clouds[TRUTH], series.optical.values.astype(np.float32)
        error = np.abs(own - ground.optical.values).mean(axis=1) / REFLECTANCE_SCALE
        for name, clouds in (("as they are", series.clouds), ("a tenth missed", without_pieces(series.clouds, random))):
            observed = observed_pixels(series, clouds)
            clear = observed & (truth == CLEAR)
            near = np.stack([ndimage.binary_dilation(frame != CLEAR, iterations=3) for frame in truth])
            groups = {
                "clear": clear,
                "clear, 3 pixels from any cloud": clear & ~near,
                "clear, abrupt change": clear & abrupt_change(ground, clear),
                "thick cloud": observed & (truth == THICK_CLOUD),
                "thin cloud, error above 0.04": observed & (truth == THIN_CLOUD) & (error > 0.04),
                "thin cloud, 0.02 to 0.04": observed & (truth == THIN_CLOUD) & (error > 0.02) & (error <= 0.04),
                "thin cloud, up to 0.02": observed & (truth == THIN_CLOUD) & (error <= 0.02),
                "shadow, error above 0.05": observed & (truth == SHADOW) & (error > 0.05),
                "shadow, up to 0.05": observed & (truth == SHADOW) & (error <= 0.05),
            }
            for label, bands in BANDS.items():
                suspect = suspects_of(series, observed, bands)
                for group, pixels in groups.items():
                    counts[name, label][group] += [int((suspect & pixels).sum()), int(pixels.sum())]
    for (masks, label), of_groups in counts.items():
        shares = {group: round(found / max(total, 1), 5) for group, (found, total) in of_groups.items()}
        yield {"masks": masks, "bands": label, "shares": shares, "pixels": {g: int(n[1]) for g, n in of_groups.items()}}


@dataclass(frozen=True)
class Place:
    """A series with the bands that are filled, its masks by name, where it may be scored (`known` [T, H, W]), and what
    draws its trials."""

    name: str
    series: TileSeries
    masks: dict[str, NDArray[np.uint8]]
    known: NDArray[np.bool_]
    maker: ExampleMaker


def simulated_places(tiles: int, seed: int) -> Iterator[Place]:
    """Simulated tiles; scored where the tile's own masks and the true ones are clear."""
    config, random = SimulationConfig(height=64, width=64, varied=True), np.random.default_rng(seed)
    for index in range(tiles):
        series = simulate_tile(config, seed, index)
        assert series.clouds is not None
        truth = series.other_clouds[TRUTH]
        masks = {
            "true": truth,
            "the tile's": series.clouds,
            "the tile's, a tenth missed": without_pieces(series.clouds, random),
        }
        known = (series.clouds == CLEAR) & (truth == CLEAR) & (series.optical.values != NO_DATA).all(axis=1)
        maker = ExampleMaker(DataConfig(targets=TargetConfig()), series.optical.bands, seed=0)
        yield Place("simulated", replace(series, other_clouds={}), masks, known, maker)


def real_place(name: str, data: Path, folder: Path) -> Place:
    """A real site; scored where the rule's masks and those that came with it are clear."""
    site = prepare(name, data, folder, "both")
    data_config = DataConfig(targets=site.targets, radar=RadarConfig(track=BOTH_TRACKS))
    whole = tile_reader(site.store, data_config, keep=1)(site.tile_ids[0]).series()
    order = [whole.optical.bands.index(band) for band in site.bands]
    optical = Acquisitions(whole.optical.values[:, order], whole.optical.dates, site.bands)
    maker = ExampleMaker(data_config, site.bands, seed=0)
    known = ~(maker.unknown(DecodedTile(whole)) | (optical.values == NO_DATA).any(axis=1))
    assert whole.clouds is not None
    source = whole.layers[SOURCE_CLOUDS].astype(np.uint8)
    random = np.random.default_rng(0)
    masks = {
        "Sen2Cor's": source,
        "Sen2Cor's, a tenth missed": without_pieces(source, random),
        "the rule's": whole.clouds,
        "the rule's, a tenth missed": without_pieces(whole.clouds, random),
    }
    return Place(name, replace(whole, optical=optical), masks, known, maker)


def scores(place: Place, model: Model, protocol: str, frames: int) -> dict[str, list[float]]:
    """PSNR in dB on the published scale of a protocol's hidden pixels in the series as a whole, by masks and whether
    suspect pixels were replaced; for `missing-frame`, one for each hidden frame."""
    series, every = place.series, np.arange(len(place.series.optical))
    config = EvaluationConfig(protocol=protocol, part="all", hidden_frames=frames)  # type: ignore[arg-type]
    published = stored_to_published_scale(series.optical.values)
    of_masks: dict[str, list[float]] = defaultdict(list)
    for trial in trials(config, place.maker, DecodedTile(series)):
        gaps = np.zeros(place.known.shape, bool)
        gaps[trial.frames] = trial.gaps
        scored = gaps & place.known
        if not scored.any():
            continue
        for name, clouds in place.masks.items():
            for replaced in (False, True):
                options = SamplingOptions(calibrate=False, replace_suspect=replaced)
                masked = replace(series, clouds=clouds)
                filled = reconstruct_with_deviation(model, masked, every, gaps, options).values
                error = np.square(filled - published).mean(axis=1)[scored].mean()
                of_masks[name + (", replaced" if replaced else "")].append(float(-10 * np.log10(error)))
    return of_masks


def show(place: Place, suspect: NDArray[np.bool_], observed: NDArray[np.bool_], file: Path) -> None:
    """Draws the five frames with most suspect pixels: the frame, the same with suspect pixels red and hidden ones grey,
    and the nearest dates of which most is observed."""
    optical = place.series.optical
    images = natural_composite(optical.bands).pick(optical.values / np.float32(REFLECTANCE_SCALE), optical.bands)
    images = (images / (0.25 if "B04" in optical.bands else 0.5)).clip(0, 1) ** 0.7
    visible = np.flatnonzero(observed.mean(axis=(1, 2)) > 0.5)
    figure, panels = plt.subplots(5, 4, figsize=(7, 9))
    for row, frame in zip(panels, sorted(np.argsort(-suspect.sum(axis=(1, 2)))[:5]), strict=True):
        marked = np.where(observed[frame][..., None], images[frame], 0.7)
        marked[suspect[frame]] = (0.9, 0, 0)
        before, after = visible[visible < frame][-1:], visible[visible > frame][:1]
        shown = [(before, None), ([frame], None), ([frame], marked), (after, None)]
        for panel, (which, image) in zip(row, shown, strict=True):
            panel.axis("off")
            for one in which:
                panel.imshow(images[one] if image is None else image)
                panel.set_title(str(optical.dates[one].astype("datetime64[D]")), fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)


def main() -> int:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="model directory (default: the shipped one)")
    parser.add_argument("--tiles", type=int, default=24, help="simulated tiles for detection (default 24)")
    parser.add_argument("--filled-tiles", type=int, default=6, help="simulated tiles that are filled (default 6)")
    parser.add_argument("--seed", type=int, default=4200, help="seed of the simulated area (default 4200)")
    parser.add_argument("--sites", nargs="*", choices=list(SOURCES), default=["A", "B"], metavar="SITE")
    parser.add_argument("--frames", type=int, default=3, help="missing-frame: hidden frames of each series (default 3)")
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the sites' files")
    parser.add_argument("--folder", type=Path, help="folder for the tile stores (default: a temporary folder)")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the frames with most suspect pixels")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for found in detection(given.tiles, given.seed) if given.tiles else ():
        rows.append({"table": "detection"} | found)
        shares = " | ".join(f"{group} {share:.2%}" for group, share in found["shares"].items())
        print(f"| masks {found['masks']} | {found['bands']} | {shares} |", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        real = [real_place(name, given.data, given.folder or Path(temporary)) for name in given.sites]
    for place in real:
        for name, clouds in place.masks.items():
            observed = observed_pixels(place.series, clouds)
            suspect = suspects_of(place.series, observed, place.series.optical.bands)
            frames = int((suspect.mean(axis=(1, 2)) > 0.05).sum())
            share = float(suspect.sum() / observed.sum())
            rows.append({"table": "real", "site": place.name, "masks": name, "share": share, "frames": frames})
            print(f"| {place.name} | {name} | {share:.1%} of observed pixels | {frames} frames above 5 % |", flush=True)
            if given.pictures and not name.endswith("missed"):
                given.pictures.mkdir(parents=True, exist_ok=True)
                show(place, suspect, observed, given.pictures / f"{place.name}_{name.split()[-1][:7]}.png")
    model = load_model(given.model)
    groups = [[place] for place in real] + [list(simulated_places(given.filled_tiles, given.seed))]
    for places in filter(None, groups):
        for protocol in ("paper", "missing-frame"):
            of_places = [scores(place, model, protocol, given.frames) for place in places]
            means = {name: fmean(fmean(each[name]) for each in of_places if each) for name in max(of_places, key=len)}
            rows.append({"table": "quality", "site": places[0].name, "protocol": protocol, "psnr": of_places})
            for name, value in means.items():
                print(f"| {places[0].name} | {protocol} | {name} | {value:.2f} |", flush=True)
    print(json.dumps({"benchmark": "suspects", "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
