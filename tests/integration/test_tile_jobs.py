"""Cubes and simulated tiles through Ray are those of one process; what goes wrong in a worker is said as it would be
here."""

import re
import shutil
from pathlib import Path

import pytest

from jobs import ingest_cubes, simulate
from restore_dit.config.ingestion import CubesConfig
from restore_dit.config.simulation import SimulationJobConfig
from restore_dit.data.store.tile_store import TileStore
from restore_dit.inspection.verification import verify_store
from restore_dit.program import console
from tests.data.cubes.test_damaged import MAPPING, write
from tests.data.pastis.miniature import fingerprint
from tests.integration.workers import TASK, one_killed
from tests.messages import refused

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240), pytest.mark.usefixtures("ray_cluster")]

SMALL = {"height": 16, "width": 20, "days": 60}


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven sites, one of them damaged."""
    folder = tmp_path_factory.mktemp("sites")
    write(folder / "site-0")
    for index in range(1, 7):
        shutil.copytree(folder / "site-0", folder / f"site-{index}")
    (folder / "site-3" / "s2.nc").write_text("not NetCDF")
    return folder


def cubes(sites: Path, store: Path, **options) -> int:
    config = CubesConfig(source=str(sites), output=str(store), own_mapping=MAPPING, **options)
    return ingest_cubes.run(config, console())


def simulated(store: Path, **options) -> int:
    return simulate.run(SimulationJobConfig(output=str(store), **SMALL, **options), console())


def test_two_tasks_at_a_time_take_the_sites_that_one_process_takes(sites, tmp_path, capfd):
    assert cubes(sites, tmp_path / "here", workers=0) == 1
    assert cubes(sites, tmp_path / "ray", workers=2, commit_every=0) == 1
    here, there = (TileStore.open(tmp_path / name).manifest for name in ("here", "ray"))
    assert there.tiles == here.tiles
    assert len(there.tiles) == 6
    assert there.quarantined == here.quarantined
    assert list(there.quarantined) == ["site-3"]
    assert capfd.readouterr().err.count("quarantined site-3: ") == 2

    shutil.copytree(sites, tmp_path / "mended")
    shutil.copy(sites / "site-0" / "s2.nc", tmp_path / "mended" / "site-3" / "s2.nc")
    assert cubes(tmp_path / "mended", tmp_path / "ray", workers=2) == 0
    assert re.search(r"^1 sites\D+6\b", capfd.readouterr().out, re.MULTILINE)
    assert len(TileStore.open(tmp_path / "ray").tile_ids) == 7


def test_simulated_tiles_are_the_same_and_a_killed_worker_is_replaced(tmp_path):
    """SIGKILL for a worker that is at it once three tiles are there."""
    assert simulated(tmp_path / "here", tiles=12, first=3, seed=5, workers=0) == 0
    with one_killed(TASK, lambda: len(list((tmp_path / "ray").glob("tiles/*.parquet"))) >= 3):
        assert simulated(tmp_path / "ray", tiles=12, first=3, seed=5, workers=1) == 0
    assert fingerprint(tmp_path / "ray") == fingerprint(tmp_path / "here")
    assert verify_store(TileStore.open(tmp_path / "ray"), deep=True) == []


@pytest.mark.s3
def test_cubes_from_a_bucket_to_a_bucket(sites, tmp_path, bucket):
    from restore_dit.data import storage

    for file in sites.glob("*/*"):
        storage.write_bytes_atomically(f"s3://{bucket}/sites/{file.parent.name}/{file.name}", file.read_bytes())
    cubes(f"s3://{bucket}/sites", f"s3://{bucket}/store", workers=2)
    cubes(sites, tmp_path / "here", workers=0)
    there = TileStore.open(f"s3://{bucket}/store").manifest
    assert there.tiles == TileStore.open(tmp_path / "here").manifest.tiles
    assert list(there.quarantined) == ["site-3"]


def test_a_task_too_large_for_the_cluster_is_refused_at_once(sites, tmp_path):
    with refused("4000 GiB"):
        cubes(sites, tmp_path / "store", workers=1, task_gib=4000)
