"""How well the methods of cloud detection agree with the masks that come with real sites, with the true masks of
simulated tiles, and with labels.

`python -m benchmarks.clouds --agreement` runs it. Most references are masks themselves, not the truth.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.sites import SIMULATED, SOURCES, prepare
from restore_dit.clouds.comparison import compare_masks
from restore_dit.clouds.csmask import Level, csmask_clouds
from restore_dit.clouds.detect import plan_detection
from restore_dit.clouds.rule import rule_masks
from restore_dit.clouds.scores import (
    CLOUD,
    Counts,
    clear_flagged,
    cloud_f1,
    confusion_counts,
    merged,
    precision,
    recall,
    shadow_f1,
)
from restore_dit.config.clouds import DetectionConfig, RuleConfig
from restore_dit.config.cube_mapping import load_cube_mapping
from restore_dit.data.cubes.site_series import read_cube
from restore_dit.data.runner import run
from restore_dit.data.store.masks import SOURCE, TRUTH
from restore_dit.errors import UserError
from restore_dit.series import S2_ALL_BANDS, Acquisitions, Georeference, TileSeries

SIMULATED_TILES = 3
"""Simulated tiles that are masked; a network takes a third of a second a frame."""

METHODS = ("rule", "csmask")

LABELS = {
    "A": "Sen2Cor",
    "B": "Sen2Cor",
    "flux_BE-Lcr": "Sen2Cor",
    "flux_DE-Hai": "Sen2Cor",
    "minicube_portugal": "a network (EarthNet)",
    "minicube_sweden": "a network (EarthNet)",
    SIMULATED: "true masks",
}
"""What the masks of each site come from."""

_SCENE_BANDS = ("B02", "B03", "B04", "B08", "B11", "B12")


@dataclass(frozen=True)
class Row:
    """Counts of one method against the labels of a site; None, with the reason, if the method cannot mask it."""

    site: str
    labels: str
    method: str
    counts: Counts | None
    reason: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """Cloud F1, precision and recall, shadow F1, and the share of clear land flagged; – where undefined."""
        if self.counts is None:
            return (self.reason,)
        cloud = merged(self.counts, CLOUD)
        scores = (cloud_f1(self.counts), precision(cloud)[1], recall(cloud)[1], shadow_f1(self.counts))
        shown = [f"{score:.3f}" if np.isfinite(score) else "–" for score in scores]
        return (*shown, f"{clear_flagged(self.counts):.1%}")


def agreement(data: Path, folder: Path | None, sites: list[str], weights: str | None) -> None:
    """Prints a table of the scores and, as the last line, JSON.

    Args:
        data: folder of the sites' files.
        folder: folder for the tile stores; None for a temporary one.
        sites: sites among `LABELS`, or none for all of them and the scenes.
        weights: of a cloud network that is scored as well.

    Raises:
        UserError: no site of such a name.
    """
    unknown = [site for site in sites if site not in LABELS]
    if unknown:
        raise UserError(f"--agreement: no site {unknown[0]}; there are {', '.join(LABELS)}", status=2)
    print(f"{'':20} {'against':22} {'by':22} {'cloud F1':>8} {'prec.':>6} {'recall':>6} {'shadow':>6} {'flagged':>7}")
    rows, scenes = [], iter(()) if sites else _scenes(data / "cloud_masks")
    with ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for row in chain(_all_sites(data, place, sites or list(LABELS), weights), scenes):
            rows.append(row)
            widths = zip((8, 6, 6, 6, 7), row.cells, strict=False)
            cells = " ".join(f"{cell:>{width}}" for width, cell in widths) if row.counts is not None else row.reason
            print(f"{row.site:20} {row.labels:22} {row.method:22} {cells}", flush=True)
    print(json.dumps({"benchmark": "cloud agreement", "rows": [
        {"site": row.site, "labels": row.labels, "method": row.method,
         "counts": None if row.counts is None else row.counts.tolist()}
        for row in rows
    ]}))  # fmt: skip


def _all_sites(data: Path, folder: Path, sites: list[str], weights: str | None) -> Iterator[Row]:
    for name in sites:
        print(f"{name}: tiles and masks", file=sys.stderr, flush=True)
        store = prepare(name, data, folder, "source").store
        tiles = store.tile_ids[:SIMULATED_TILES] if name == SIMULATED else store.tile_ids
        against = TRUTH if name == SIMULATED else SOURCE
        if name == SIMULATED:
            yield Row(name, LABELS[name], SOURCE, compare_masks(store, SOURCE, against, tiles).counts)
        elif name.startswith("minicube"):
            yield Row(name, LABELS[name], "Sen2Cor", _minicube_classification(data / SOURCES[name].folder))
        for method in (*METHODS, *(["network"] if weights else [])):
            chosen = {"weights": weights} if method == "network" else {}
            config = {"store": store.uri, "method": method, "tiles": tiles, "workers": 0, **chosen}
            try:
                run(plan_detection(DetectionConfig.model_validate(config)))
            except UserError as error:
                yield Row(name, LABELS[name], method, None, str(error).partition(": tile ")[2].partition(": ")[2])
                continue
            masked = type(store).open(store.uri)
            yield Row(name, LABELS[name], method, compare_masks(masked, method, against, tiles).counts)


def _minicube_classification(folder: Path) -> Counts:
    """Sen2Cor's classification, which minicubes have too, against their network's masks."""
    mapping, classes = load_cube_mapping("minicube"), load_cube_mapping("gfmap").classes | {255: "no_data"}
    optical = tuple(product.model_copy(update={"classification": "s2_SCL"}) for product in mapping.optical)
    by_sen2cor = mapping.model_copy(update={"optical": optical, "classes": classes})
    labels, found = (read_cube(folder, one).clouds for one in (mapping, by_sen2cor))
    assert labels is not None
    assert found is not None
    return confusion_counts(labels, found)


def _scenes(folder: Path) -> Iterator[Row]:
    """The scenes with reflectance at the top of the atmosphere."""
    with np.load(folder / "labelled" / "sentinel2_toa.npz") as stored:
        image, labels = stored["img"], stored["msk"].reshape(512, 512)
    values = np.rint(image.transpose(2, 0, 1)[None] * 10_000).astype(np.int16)
    place = Georeference("EPSG:32631", (30.0, 0.0, 5e5, 0.0, -30.0, 5.6e6))
    scene = TileSeries("scene", Acquisitions(values, _days("2021-07-01"), _SCENE_BANDS), georeference=place)
    classes = np.select([labels == 4, labels == 0, labels == 2], [1, 3, 255], default=0).astype(np.uint8)[None]
    yield from _scored("labelled scene", "a person", scene, classes)
    yield from _scored("Slovenia, 5 scenes", "s2cloudless", *_slovenia(folder))


def _scored(site: str, labels: str, series: TileSeries, classes: NDArray[np.uint8]) -> Iterator[Row]:
    yield Row(site, labels, "rule", confusion_counts(classes, rule_masks(series, RuleConfig())))
    levels: tuple[Level, ...] = ("l1c", "l2a")
    for level in levels:
        cloud, unknown = csmask_clouds(series, level)
        masks = np.where(unknown, 255, cloud).astype(np.uint8)
        yield Row(site, labels, f"csmask, {level.upper()} network", confusion_counts(classes, masks))


def _slovenia(folder: Path) -> tuple[TileSeries, NDArray[np.uint8]]:
    """Five scenes of 13 bands and s2cloudless' masks of them. Their dates are those of the equal NDVI images."""
    with np.load(folder / "reference_scenes_l1c_13bands.npz") as stored:
        values = stored["reflectance_x10000"].transpose(0, 3, 1, 2)
    with np.load(folder / "testeopatch_masks_ndvi.npz") as stored:
        times, ndvi, masks = stored["timestamps"], stored["NDVI_x10000"] / 10_000, stored["CLM_S2C"]
    red, near = (values[:, S2_ALL_BANDS.index(band)].astype(float) for band in ("B04", "B08"))
    found = np.abs(ndvi[None] - ((near - red) / (near + red))[:, None]).mean(axis=(2, 3)).argmin(axis=1)
    order = np.argsort(found)
    dates = np.array(times, "datetime64[D]")[found[order]]
    place = Georeference("EPSG:32633", (10.0, 0.0, 465181.0, 0.0, -10.0, 5080254.0))
    series = TileSeries("slovenia", Acquisitions(values[order].copy(), dates, S2_ALL_BANDS), georeference=place)
    return series, masks[found[order]].astype(np.uint8)


def _days(*days: str) -> NDArray[np.datetime64]:
    return np.array(days, "datetime64[D]")
