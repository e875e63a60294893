"""What the simulator writes is PASTIS-R's layout, to another library's eyes too."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from restore_dit.cli import main
from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.pastis.annotations import CROP_CLASSES
from restore_dit.data.pastis.layout import TILES
from restore_dit.data.pastis.metadata import read_metadata
from restore_dit.data.pastis.write import plan_pastis, read_template
from restore_dit.data.runner import run
from restore_dit.data.simulation.covers import CROPS
from tests.data.pastis.miniature import SIDE, SMALL, fingerprint, ingest
from tests.messages import assert_names, refused

PATCHES = (10000, 20000, 30000, 40000)

FILES = {
    "DATA_S2/S2_{}.npy": (np.int16, lambda t: (t["S2"], 10, SIDE, SIDE)),
    "DATA_S1A/S1A_{}.npy": (np.float32, lambda t: (t["S1A"], 3, SIDE, SIDE)),
    "DATA_S1D/S1D_{}.npy": (np.float32, lambda t: (t["S1D"], 3, SIDE, SIDE)),
    "ANNOTATIONS/TARGET_{}.npy": (np.uint8, lambda t: (3, SIDE, SIDE)),
    "ANNOTATIONS/ParcelIDs_{}.npy": (np.int32, lambda t: (SIDE, SIDE)),
    "INSTANCE_ANNOTATIONS/INSTANCES_{}.npy": (np.int32, lambda t: (SIDE, SIDE)),
    "INSTANCE_ANNOTATIONS/HEATMAP_{}.npy": (np.float32, lambda t: (SIDE, SIDE)),
    "INSTANCE_ANNOTATIONS/ZONES_{}.npy": (np.int32, lambda t: (SIDE, SIDE)),
    "REAL_MASKS/{}.npy": (np.int8, lambda t: (t["S2"], 1, SIDE, SIDE)),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_file_of_the_layout_is_there_with_its_type_and_shape(pastis):
    features = json.loads((pastis / "metadata.geojson").read_text())["features"]
    assert [feature["id"] for feature in features] == [str(patch) for patch in PATCHES]
    for feature in features:
        said = feature["properties"]
        times = {sensor: len(said[f"dates-{sensor}"]) for sensor in ("S2", "S1A", "S1D")}
        assert list(said["dates-S2"]) == [str(index) for index in range(times["S2"])]
        for name, (dtype, shape) in FILES.items():
            values = np.load(pastis / name.format(said["ID_PATCH"]))
            assert (values.dtype, values.shape) == (dtype, shape(times)), name
    names = {name for name in contents(pastis) if not name.startswith(".simulated")}
    assert names == {
        "metadata.geojson",
        "bad_frames.json",
        *(f"NORM_{sensor}_patch.json" for sensor in ("S2", "S1A", "S1D")),
        *(name.format(patch) for name in FILES for patch in PATCHES),
    }


def test_the_third_radar_channel_is_the_difference(pastis):
    values = np.load(pastis / "DATA_S1A/S1A_30000.npy")
    np.testing.assert_array_equal(values[:, 2], values[:, 0] - values[:, 1])


def test_normalisation_is_that_of_each_folds_pixels(pastis):
    features = json.loads((pastis / "metadata.geojson").read_text())["features"]
    folds = {feature["properties"]["Fold"]: feature["id"] for feature in features}
    for sensor in ("S2", "S1A", "S1D"):
        normalisation = json.loads((pastis / f"NORM_{sensor}_patch.json").read_text())
        assert set(normalisation) == {f"Fold_{fold}" for fold in folds}
        for fold, patch in folds.items():
            values = np.load(pastis / f"DATA_{sensor}/{sensor}_{patch}.npy").astype(np.float64)
            np.testing.assert_allclose(normalisation[f"Fold_{fold}"]["mean"], values.mean(axis=(0, 2, 3)), rtol=1e-9)
            np.testing.assert_allclose(normalisation[f"Fold_{fold}"]["std"], values.std(axis=(0, 2, 3)), rtol=1e-6)


def test_annotations_agree_with_each_other(pastis):
    parcels_of_all = 0
    for patch in PATCHES:
        target, parcels = (np.load(pastis / f"ANNOTATIONS/{kind}_{patch}.npy") for kind in ("TARGET", "ParcelIDs"))
        instances, heatmap, zones = (
            np.load(pastis / f"INSTANCE_ANNOTATIONS/{kind}_{patch}.npy") for kind in ("INSTANCES", "HEATMAP", "ZONES")
        )
        parcels_of_all += instances.max()
        assert set(np.unique(target[0])) <= set(range(19))
        np.testing.assert_array_equal(parcels > 0, instances > 0)
        np.testing.assert_array_equal(target[0] > 0, instances > 0)
        np.testing.assert_array_equal(zones[instances > 0], instances[instances > 0])
        assert (zones > 0).all() == (instances > 0).any()
        for parcel in range(1, instances.max() + 1):
            inside = instances == parcel
            assert len(np.unique(target[0][inside])) == len(np.unique(parcels[inside])) == 1
            assert heatmap[inside].max() == 1
        assert heatmap[instances == 0].max(initial=0) == 0
    assert parcels_of_all > len(PATCHES)


def test_every_field_of_the_simulator_has_a_class():
    covers = {cover.name for cover in CROPS} | {"grassland"}
    assert covers == set(CROP_CLASSES)
    assert set(CROP_CLASSES.values()) <= set(range(1, 19))


def test_torchgeo_opens_the_folder_with_equal_arrays_and_dates(pastis):
    geopandas = pytest.importorskip("geopandas")
    from torchgeo.datasets import PASTIS

    for bands in ("s2", "s1a", "s1d"):
        dataset = PASTIS(str(pastis.parent), bands=bands)
        assert len(dataset) == len(PATCHES)
        assert list(dataset.idxs) == list(PATCHES)
        for sample, patch in zip((dataset[index] for index in range(4)), PATCHES, strict=True):
            np.testing.assert_array_equal(
                sample["image"].numpy(), np.load(pastis / f"DATA_{bands.upper()}/{bands.upper()}_{patch}.npy")
            )
            np.testing.assert_array_equal(
                sample["mask"].numpy(), np.load(pastis / f"ANNOTATIONS/TARGET_{patch}.npy")[0]
            )
    instances = PASTIS(str(pastis.parent), mode="instance")[1]
    assert len(instances["label"]) == np.load(pastis / "INSTANCE_ANNOTATIONS/INSTANCES_20000.npy").max()
    folds = json.loads((pastis / "metadata.geojson").read_text())["features"]
    one = PASTIS(str(pastis.parent), folds=[folds[2]["properties"]["Fold"]])
    assert list(one.idxs) == [30000]

    # torchgeo leaves dates to its user: they are in the table that it reads.
    table = geopandas.read_file(pastis / "metadata.geojson").set_index("ID_PATCH")
    assert table.crs.to_epsg() == 2154
    patches, _ = read_metadata((pastis / "metadata.geojson").read_bytes(), "metadata.geojson")
    for patch in patches:
        for sensor in ("S2", "S1A", "S1D"):
            given = table.loc[int(patch.patch), f"dates-{sensor}"]
            days = (json.loads(given) if isinstance(given, str) else given).values()
            np.testing.assert_array_equal([f"{day:.10}".replace("-", "") for day in patch.dates(sensor).astype(str)],
                                          [str(day) for day in days])  # fmt: skip
        shape = table.loc[int(patch.patch)].geometry
        assert math.isclose(shape.area, (10 * SIDE) ** 2, rel_tol=3e-3)


def test_real_dates_and_lists_are_taken_over_exactly(shared, tmp_path):
    metadata = shared / "data" / "pastis_metadata"
    template = read_template(
        str(metadata / "pastis_r_dates_by_tile.json"), str(metadata / "bad_frames.json")
    )  # fmt: skip
    run(plan_pastis(SimulationConfig(height=SIDE, width=SIDE), str(tmp_path / "P"), 5, template=template))
    patches, _ = read_metadata((tmp_path / "P/metadata.geojson").read_bytes(), "metadata.geojson")
    assert [patch.patch for patch in patches] == ["10000", "10001", "20000", "30000", "40000"]
    lists = json.loads((tmp_path / "P/bad_frames.json").read_text())
    for patch in patches:
        real = template.dates[patch.properties["TILE"]]
        for sensor in ("S2", "S1A", "S1D"):
            assert [int(str(day).replace("-", "")) for day in patch.dates(sensor)] == real[f"dates-{sensor}"]
        assert lists[patch.patch] == template.bad_frames[patch.patch]
        masks = np.load(tmp_path / f"P/REAL_MASKS/{patch.patch}.npy")
        clear = (masks == 0).mean(axis=(1, 2, 3))
        good = np.setdiff1d(np.arange(len(masks)), lists[patch.patch])
        assert clear[good].min() >= 0.95
        assert clear[lists[patch.patch]].mean() < 0.95
    assert ingest(tmp_path / "P", tmp_path / "store").failed == {}


def test_a_killed_run_is_repaired_and_a_longer_one_adds_to_it(pastis, tmp_path):
    class Killed(Exception):
        pass

    def kill(outcome: object, done: int, total: int) -> None:
        if done == 2:
            raise Killed

    folder = tmp_path / "PASTIS-R"
    with pytest.raises(Killed):
        run(plan_pastis(SMALL, str(folder), 4, seed=5), on_outcome=kill)
    assert not (folder / "metadata.geojson").exists()
    (folder / ".simulated/20000.json").unlink()  # as if it had died before the patch was whole
    (folder / "DATA_S1D/S1D_20000.npy").unlink()
    run(plan_pastis(SMALL, str(folder), 3, seed=5))
    assert list(run(plan_pastis(SMALL, str(folder), 4, seed=5)).results) == ["40000"]
    assert contents(folder) == contents(pastis)
    assert run(plan_pastis(SMALL, str(folder), 4, seed=5)).results == {}


@pytest.mark.parametrize(
    ("words", "status", "facts"),
    [
        (["--seed", "6"], 1, ["P"]),
        (["--bad-frames", "lists.json"], 2, ["--bad-frames", "--dates"]),
        (["--dates", "nowhere.json"], 1, ["nowhere.json"]),
        (["--dates", "lists.json"], 1, ["lists.json", "t30uxv"]),
        (["--dates", "few.json", "--bad-frames", "lists.json"], 1, ["--bad-frames", 0, "t31tfj", "--tiles"]),
        (["--dates", "few.json", "--bad-frames", "few.json"], 1, ["few.json", '{"10000": [0, 2]}']),
        (["--first", "3"], 2, ["first"]),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(pastis, tmp_path, monkeypatch, capsys, words, status, facts):
    shutil.copytree(pastis, tmp_path / "P")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lists.json").write_text('{"10000": [0]}')
    (tmp_path / "few.json").write_text(json.dumps({tile: {} for tile in TILES}))
    before = contents(tmp_path / "P")
    size = [f"height={SIDE}", f"width={SIDE}", "days=60", "field_hectares=0.5"]
    assert main(["simulate", "P", "--layout", "pastis", "--tiles", "4", "--seed", "5", *words, *size]) == status
    err = capsys.readouterr().err
    assert_names(err, *facts)
    assert err.count("\n") == 1
    assert contents(tmp_path / "P") == before


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "holiday").write_bytes(b"x")
    with refused(str(tmp_path), "holiday"):
        run(plan_pastis(SMALL, str(tmp_path), 1))
    assert [path.name for path in tmp_path.iterdir()] == ["holiday"]


def test_what_was_written_comes_back_as_it_was_simulated(pastis, undamaged):
    from restore_dit.data.simulation import simulate_tile
    from restore_dit.data.store.tile_store import TileStore

    simulated = simulate_tile(SMALL, 5, 2)
    stored = TileStore.open(undamaged).load("30000").series()
    np.testing.assert_array_equal(stored.optical.values, simulated.optical.values)
    np.testing.assert_array_equal(stored.clouds, simulated.clouds)
    for track in ("S1A", "S1D"):
        np.testing.assert_array_equal(stored.radar[track].values, simulated.radar[track].values)
    assert fingerprint(undamaged)
