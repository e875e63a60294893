"""The rule against s2cloudless, on the five real scenes for which there are both images and its masks.

The scenes come without dates. Their NDVI tells them: each equals one of the 68 dated NDVI images to the last digit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from restore_dit.clouds.rule import rule_masks
from restore_dit.clouds.scores import cloud_f1, confusion_counts
from restore_dit.config.clouds import RuleConfig
from restore_dit.series import S2_ALL_BANDS, Acquisitions, Georeference, TileSeries


@pytest.fixture(scope="module")
def scenes(shared: Path) -> tuple[TileSeries, np.ndarray]:
    """Five dates of a place in Slovenia, top of atmosphere, 13 bands; and s2cloudless' masks [5, H, W], 1 cloud."""
    folder = shared / "data" / "cloud_masks"
    with np.load(folder / "reference_scenes_l1c_13bands.npz") as stored:
        values = stored["reflectance_x10000"].transpose(0, 3, 1, 2)
    with np.load(folder / "testeopatch_masks_ndvi.npz") as stored:
        times, ndvi, masks = stored["timestamps"], stored["NDVI_x10000"] / 10000, stored["CLM_S2C"]
    red, near = (values[:, S2_ALL_BANDS.index(band)].astype(float) for band in ("B04", "B08"))
    differences = np.abs(ndvi[None] - ((near - red) / (near + red))[:, None]).mean(axis=(2, 3))
    found = differences.argmin(axis=1)
    assert differences.min(axis=1).max() < 5e-5  # half a digit of what is stored
    assert np.sort(differences, axis=1)[:, 1].min() > 0.02
    order = np.argsort(found)
    dates = np.array(times, "datetime64[D]")[found[order]]
    # Only the zone is known; where in Slovenia matters little for the sun.
    place = Georeference("EPSG:32633", (10.0, 0.0, 465181.0, 0.0, -10.0, 5080254.0))
    series = TileSeries("slovenia", Acquisitions(values[order].copy(), dates, S2_ALL_BANDS), georeference=place)
    return series, masks[found[order]].astype(np.uint8)


def test_the_rule_agrees_with_s2cloudless(scenes: tuple[TileSeries, np.ndarray]) -> None:
    series, cloudy = scenes
    counts = confusion_counts(cloudy, rule_masks(series, RuleConfig()))
    assert cloud_f1(counts) > 0.95
    assert counts[0, 1:].sum() < 0.01 * counts[0].sum()  # of what s2cloudless calls clear
