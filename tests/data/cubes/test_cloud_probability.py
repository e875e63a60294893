"""Masks by s2cloudless that a cube brings beside the scene classification, or instead of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from restore_dit.data.cubes.site_series import plan_cubes, read_cube
from restore_dit.data.runner import run
from restore_dit.data.store.tile_store import TileStore
from tests.data.cubes.test_site_series import mapping, site, write_cube

PROBABILITY: dict[str, Any] = {
    "files": "s2cloudless*.nc",
    "bands": {},
    "cloud_probability": {"variable": "CLP", "cloud_from": 40, "no_data": [255]},
}
TIMES = ["2019-01-01T10:00:00", "2019-01-06T10:00:00"]


def with_probability(folder: Path, percent: list[list[int]]) -> Path:
    write_cube(folder / "s2cloudless.nc", {"CLP": np.array([percent, percent], np.uint8)}, TIMES, 20)
    return folder


def test_cloud_is_from_the_threshold_on_and_beside_the_classification(tmp_path: Path) -> None:
    folder = with_probability(site(tmp_path / "a"), [[39, 40], [100, 255]])
    products = [*mapping().optical, PROBABILITY]
    series = read_cube(folder, mapping(optical=products))
    np.testing.assert_array_equal(
        series.other_clouds["s2cloudless"][0], np.kron([[0, 1], [1, 255]], np.ones((2, 2), np.uint8))
    )
    assert series.clouds is not None
    np.testing.assert_array_equal(series.clouds[0], np.kron([[0, 3], [1, 2]], np.ones((2, 2))))
    run(plan_cubes(folder, tmp_path / "store", mapping(optical=products)))
    record = TileStore.open(tmp_path / "store").record("a")
    assert {masks.origin.method for masks in record.masks.values()} == {"source", "s2cloudless"}
    assert record.masks[record.masks_in_use or ""].origin.method == "source"


def test_without_a_classification_these_masks_are_in_use(tmp_path: Path) -> None:
    folder = with_probability(site(tmp_path / "a"), [[0, 99], [0, 0]])
    product = {"files": "S2_10m*.nc", "bands": {"B02": "B02"}, "scale": 1e-4, "no_data": [0]}
    run(plan_cubes(folder, tmp_path / "store", mapping(optical=[product, PROBABILITY])))
    store = TileStore.open(tmp_path / "store")
    assert store.record("a").masks_in_use == "clouds-s2cloudless"
    np.testing.assert_array_equal(
        store.load("a").series().clouds[1],  # type: ignore[index]
        np.kron([[0, 1], [0, 0]], np.ones((2, 2), np.uint8)),
    )


def test_of_two_images_of_a_day_each_pixel_keeps_the_mask_of_its_own(tmp_path: Path) -> None:
    day = ["2019-01-01T10:00:00", "2019-01-01T11:00:00"]
    blue = np.zeros((2, 2, 2), np.uint16)
    blue[0, :, 0] = 500  # the first image has the left half, the second one all
    blue[1] = 900
    probability = np.zeros((2, 2, 2), np.uint8)
    probability[1] = 90
    write_cube(tmp_path / "a" / "S2_10m.nc", {"B02": blue}, day)
    write_cube(tmp_path / "a" / "s2cloudless.nc", {"CLP": probability}, day)
    product = {"files": "S2_10m*.nc", "bands": {"B02": "B02"}, "scale": 1e-4, "no_data": [0]}
    series = read_cube(tmp_path / "a", mapping(optical=[product, PROBABILITY], classes={}))
    np.testing.assert_array_equal(series.optical.values[0, 0], [[500, 900], [500, 900]])
    np.testing.assert_array_equal(series.other_clouds["s2cloudless"][0], [[0, 1], [0, 1]])


def two_images_of_a_day(folder: Path, scene: tuple[int, int], probability: tuple[int, int]) -> Path:
    """Of blue 500 and 900, each of one class and one probability of cloud."""
    day = ["2019-01-01T10:00:00", "2019-01-01T11:00:00"]
    blue, classes, percent = (np.array(pair).repeat(4).reshape(2, 2, 2) for pair in ((500, 900), scene, probability))
    write_cube(folder / "S2_10m.nc", {"B02": blue.astype(np.uint16), "SCL": classes.astype(np.uint8)}, day)
    write_cube(folder / "s2cloudless.nc", {"CLP": percent.astype(np.uint8)}, day)
    return folder


def test_a_probability_has_no_say_where_a_classification_tells_which_image_is_clear(tmp_path: Path) -> None:
    """The clear image has no probability, the cloudy one has: the clear one is taken, its probability unknown."""
    product = {"files": "S2_10m*.nc", "bands": {"B02": "B02"}, "classification": "SCL", "scale": 1e-4, "no_data": [0]}
    clear_first = two_images_of_a_day(tmp_path / "a", scene=(4, 9), probability=(255, 90))
    series = read_cube(clear_first, mapping(optical=[product, PROBABILITY]))
    assert (series.optical.values == 500).all()
    assert (series.clouds == 0).all()
    assert (series.other_clouds["s2cloudless"] == 255).all()
    without = read_cube(clear_first, mapping(optical=[product]))
    np.testing.assert_array_equal(series.optical.values, without.optical.values)

    cloudy_probability = two_images_of_a_day(tmp_path / "b", scene=(9, 4), probability=(0, 90))
    series = read_cube(cloudy_probability, mapping(optical=[product, PROBABILITY]))
    assert (series.optical.values == 900).all()
    assert (series.other_clouds["s2cloudless"] == 1).all()


def test_without_a_classification_the_probability_tells_which_image_is_clear(tmp_path: Path) -> None:
    product = {"files": "S2_10m*.nc", "bands": {"B02": "B02"}, "scale": 1e-4, "no_data": [0]}
    folder = two_images_of_a_day(tmp_path / "a", scene=(4, 4), probability=(90, 0))
    series = read_cube(folder, mapping(optical=[product, PROBABILITY], classes={}))
    assert (series.optical.values == 900).all()
    assert (series.other_clouds["s2cloudless"] == 0).all()


def test_a_probability_seconds_off_belongs_to_the_image_all_the_same(tmp_path: Path) -> None:
    folder = site(tmp_path / "a")
    later = ["2019-01-01T10:00:03", "2019-01-06T10:00:03"]
    percent = np.array([[[0, 90], [90, 255]]] * 2, np.uint8)
    write_cube(folder / "s2cloudless.nc", {"CLP": percent}, later, 20)
    series = read_cube(folder, mapping(optical=[*mapping().optical, PROBABILITY]))
    assert len(series.optical) == 2
    np.testing.assert_array_equal(
        series.other_clouds["s2cloudless"][1], np.kron([[0, 1], [1, 255]], np.ones((2, 2), np.uint8))
    )
