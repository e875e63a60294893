"""An ingest of PASTIS-R on Ray is the ingest in one process, also when a worker dies on the way."""

from pathlib import Path

import pytest

from restore_dit.config.ingestion import PastisConfig
from restore_dit.data.pastis.patch_plan import plan_patches
from restore_dit.data.pastis.write import plan_pastis
from restore_dit.data.runner import run
from restore_dit.data.store.tile_store import TileStore
from tests.data.pastis.miniature import SIDE, SMALL, fingerprint, ingest, pack
from tests.data.pastis.web_server import Behaviour, serving
from tests.integration.workers import TASK, one_killed

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pastis")
    run(plan_pastis(SMALL, str(folder / "PASTIS-R"), 24))
    (folder / "PASTIS-R/DATA_S2/S2_10001.npy").unlink()
    return pack(folder / "PASTIS-R", folder / "PASTIS-R.zip")


@pytest.fixture(scope="module")
def whole(archive: Path) -> Path:
    store = archive.parent / "whole"
    assert list(ingest(archive, store).failed) == ["10001"]
    return store


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("remote", [False, True])
def test_two_tasks_at_a_time_write_what_one_process_writes(archive, whole, tmp_path, remote):
    done: list[int] = []
    with serving(Behaviour(archive.read_bytes())) as url:
        source = url if remote else str(archive)
        plan = plan_patches(PastisConfig(source=source, output=str(tmp_path / "store"), patch_size=SIDE))
        report = run(plan, 2, lambda outcome, count, total: done.append(count))
    assert done == list(range(1, 25))
    assert len(report.results) == 23
    assert report.failed == TileStore.open(whole).manifest.quarantined
    assert fingerprint(tmp_path / "store") == fingerprint(whole)
    assert TileStore.open(tmp_path / "store").manifest.tiles == TileStore.open(whole).manifest.tiles


@pytest.mark.usefixtures("ray_cluster")
def test_a_task_whose_worker_is_killed_is_run_again(archive, whole, tmp_path):
    """SIGKILL for the worker that is at it once three tiles are there."""
    store = tmp_path / "store"
    plan = plan_patches(PastisConfig(source=str(archive), output=str(store), patch_size=SIDE))
    with one_killed(TASK, lambda: len(list(store.glob("tiles/*.parquet"))) >= 3):
        report = run(plan, 1)
    assert len(report.results) == 23
    assert fingerprint(store) == fingerprint(whole)
