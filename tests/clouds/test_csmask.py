"""Clouds by ukis-csmask: its networks are given what they expect, whatever a tile is like."""

from __future__ import annotations

import pickle
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from restore_dit.cli import main
from restore_dit.clouds.csmask import CsmaskDetector, csmask_bands, csmask_clouds, network_grid
from restore_dit.clouds.detectors import detector_of
from restore_dit.clouds.rule import rule_masks
from restore_dit.clouds.scores import cloud_f1, confusion_counts
from restore_dit.config.clouds import DetectionConfig, RuleConfig
from restore_dit.config.cube_mapping import load_cube_mapping
from restore_dit.data.cubes.site_series import read_cube
from restore_dit.series import (
    CLOUD_NO_DATA,
    NO_DATA,
    S2_ALL_BANDS,
    S2_BANDS,
    SHADOW,
    THICK_CLOUD,
    Acquisitions,
    Georeference,
    TileSeries,
)
from tests.data.store.tiles import store_of, tile
from tests.messages import assert_names, refused

SIX = ("B02", "B03", "B04", "B08", "B11", "B12")
METRES_10, METRES_30 = (Georeference("EPSG:32631", (side, 0.0, 5e5, 0.0, -side, 5.6e6)) for side in (10.0, 30.0))


@pytest.fixture(scope="module")
def scene(shared: Path) -> tuple[np.ndarray, np.ndarray]:
    """Part of the package's labelled scene: reflectance at the top of the atmosphere [150, 80, 6] of `SIX`, and labels
    [150, 80]: 0 shadow, 1 water, 2 snow, 3 land, 4 cloud."""
    with np.load(shared / "data/cloud_masks/labelled/sentinel2_toa.npz") as stored:
        part = np.s_[100:250, 200:280]
        return stored["img"][part], stored["msk"][part].squeeze()


def one_frame(reflectance: np.ndarray, bands: tuple[str, ...], where: Georeference | None) -> TileSeries:
    """A series of one date from reflectance [H, W, C]."""
    values = np.rint(reflectance.transpose(2, 0, 1)[None] * 10_000).astype(np.int16)
    return TileSeries("one", Acquisitions(values, np.array(["2021-07-01"], "M8[D]"), bands), georeference=where)


def test_the_bands_are_those_of_a_network_in_its_order() -> None:
    assert csmask_bands(S2_BANDS) == csmask_bands(S2_ALL_BANDS) == csmask_bands(SIX[::-1]) == SIX
    assert csmask_bands(("B8A", "B04", "B03", "B02", "B11")) == ("B02", "B03", "B04", "B8A")
    with refused("B02, B03, B04", "B05, B06, B07, B8A, B11, B12"):
        csmask_bands(("B05", "B06", "B07", "B8A", "B11", "B12"))
    with refused("lacks B08 or B8A"):
        csmask_bands(("B02", "B03", "B04", "B11"))


def test_pixels_are_30_metres_unless_a_tile_has_too_few() -> None:
    assert network_grid((128, 256), METRES_10) == (43, 85)
    assert network_grid((128, 256), None) == (43, 85)  # as the rule has it, pixels of 10 m
    assert network_grid((128, 256), METRES_30) == (128, 256)
    assert network_grid((32, 64), METRES_10) == (16, 32)
    assert network_grid((16, 15), METRES_10) == (16, 15)
    assert network_grid((3, 200), METRES_10) == (3, 200)
    assert network_grid((20, 20), Georeference("EPSG:32631", (60.0, 0.0, 5e5, 0.0, -60.0, 5.6e6))) == (20, 20)


@pytest.mark.slow
def test_clouds_are_those_of_the_package_itself(scene: tuple[np.ndarray, np.ndarray]) -> None:
    """In two windows, at its own pixel size, from the same reflectance; and they are those of the labels."""
    from ukis_csmask.mask import CSmask

    reflectance, labels = scene
    series = one_frame(reflectance[:, :, ::-1], SIX[::-1], METRES_30)
    cloud, unknown = csmask_clouds(series, level="l1c")
    with warnings.catch_warnings(action="ignore"):  # that 256 pixels a side would be better
        theirs = CSmask(
            (np.rint(reflectance * 10_000) / np.float32(10_000)).astype(np.float32),
            ["blue", "green", "red", "nir", "swir16", "swir22"],
            product_level="l1c",
            intra_op_num_threads=1,
        )
    np.testing.assert_array_equal(cloud[0], theirs.csm[..., 0] == 1)
    assert not unknown.any()
    assert cloud_f1(confusion_counts((labels == 4).astype(np.uint8), cloud[0].astype(np.uint8))) > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("side", [16, 32])
def test_a_small_tile_is_continued_by_its_mirror_image(scene: tuple[np.ndarray, np.ndarray], side: int) -> None:
    """As far as the window reaches: continued by hand, the tile has the same clouds."""
    part = scene[0][-side:, :side]
    whole = np.pad(part, ((0, 96 - side), (0, 96 - side), (0, 0)), mode="symmetric")
    small, large = (csmask_clouds(one_frame(image, SIX, METRES_30))[0][0] for image in (part, whole))
    np.testing.assert_array_equal(small, large[:side, :side])


@pytest.mark.slow
def test_clouds_are_csmasks_and_shadows_the_rules(shared: Path) -> None:
    """On five dates of a minicube, which has four bands and pixels of 20 m."""
    series = read_cube(shared / "data/sites/minicube_portugal", load_cube_mapping("minicube"))
    values = series.optical.values.copy()
    values[11, 1, :30] = NO_DATA
    values[12] = NO_DATA
    part = replace(series, optical=replace(series.optical, values=values).select(slice(8, 14)), clouds=None)
    [masks] = CsmaskDetector(RuleConfig()).detect([part])
    by_rule = rule_masks(part, RuleConfig())
    cloud, unknown = csmask_clouds(part)
    assert set(np.unique(masks)) <= {0, THICK_CLOUD, SHADOW, CLOUD_NO_DATA}
    assert unknown[3, :30].all()
    assert unknown[4].all()
    np.testing.assert_array_equal(masks == CLOUD_NO_DATA, unknown | (by_rule == CLOUD_NO_DATA))
    np.testing.assert_array_equal(masks == THICK_CLOUD, cloud & (masks != CLOUD_NO_DATA))
    np.testing.assert_array_equal(masks == SHADOW, (by_rule == SHADOW) & ~cloud)
    labels = np.asarray(series.clouds)[8:14]
    assert cloud_f1(confusion_counts(labels, masks)) > 0.9


def test_a_detector_travels_without_its_networks() -> None:
    detector = detector_of(DetectionConfig(method="csmask"))
    sent = pickle.dumps(detector)
    assert len(sent) < 10_000
    assert pickle.loads(sent).origin == detector.origin  # noqa: S301
    other = detector_of(DetectionConfig(method="csmask", rule=RuleConfig(shadow_ratio=0.7)))
    assert other.origin.layer != detector.origin.layer
    assert detector.origin.method == "csmask"


def test_bands_and_a_package_that_are_missing_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store_of(tmp_path / "store", tile("a", bands=("B05", "B8A", "B11")))
    command = ["detect-clouds", str(tmp_path / "store"), "--method", "csmask", "--workers", "0"]
    assert main(command) == 1
    assert_names(capsys.readouterr().err, "tile a", "B02, B03, B04", "B05, B8A, B11")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(command) == 1
    error = capsys.readouterr().err
    assert_names(error, "pip install 'restore-dit[csmask]'")
    assert error.count("\n") == 1
