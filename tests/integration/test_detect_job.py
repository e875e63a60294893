"""Masks made by actors are the masks of one process, also when an actor dies on the way."""

import dataclasses
import shutil
import time
from pathlib import Path

import pytest
import ray

from restore_dit.clouds.detect import plan_detection
from restore_dit.clouds.network.weights import build_network
from restore_dit.config.clouds import CloudNetworkConfig, DetectionConfig
from restore_dit.data.runner import run
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError
from restore_dit.inspection.verification import verify_store
from tests.data.store.tiles import store_of, tile
from tests.integration.workers import ACTOR, one_killed
from tests.messages import refused

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


def plan(store: Path, **options):
    return plan_detection(DetectionConfig.model_validate({"store": str(store), **options}))


def tiles_of(store: Path):
    return TileStore.open(store).manifest.tiles


@pytest.fixture
def stores(small_store, tmp_path):
    """Two copies of eleven tiles: one for Ray, one for this process."""
    return [Path(shutil.copytree(small_store.uri, tmp_path / name)) for name in ("ray", "here")]


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("method", ["rule", "network"])
def test_two_actors_write_what_one_process_writes(stores, tmp_path, method):
    options = {"method": method}
    if method == "network":
        import torch

        torch.manual_seed(1)
        options["weights"] = str(tmp_path / "published.pth")
        torch.save(build_network(CloudNetworkConfig()).state_dict(), options["weights"])
    on_ray, here = stores
    work = plan(on_ray, workers=2, **options)
    if method == "network":
        Path(options["weights"]).rename(tmp_path / "moved.pth")  # actors need no file of the driver's
    report = run(work, 2)
    if method == "network":
        (tmp_path / "moved.pth").rename(options["weights"])
    assert (len(report.results), report.failed) == (11, {})
    alone = plan(here, workers=0, batch_size=32, **options)
    run(alone)
    assert tiles_of(on_ray) == tiles_of(here)
    assert verify_store(TileStore.open(on_ray), deep=True) == []


@pytest.mark.usefixtures("ray_cluster")
def test_an_actor_loads_the_networks_of_csmask_itself(tmp_path):
    on_ray, here = (store_of(tmp_path / name, tile("a", frames=2)).location.uri for name in ("ray", "here"))
    for store, workers in ((on_ray, 1), (here, 0)):
        report = run(plan(store, method="csmask"), workers)
        assert (len(report.results), report.failed) == (1, {})
    assert tiles_of(on_ray) == tiles_of(here)


@pytest.mark.faults
@pytest.mark.usefixtures("ray_cluster")
def test_the_tiles_of_an_actor_that_is_killed_are_done_by_another(stores):
    """SIGKILL for the actor that is at it once three masks are there."""
    on_ray, here = stores
    work = plan(on_ray, workers=1)
    layer = on_ray / "layers" / work.writer.origin.layer
    with one_killed(ACTOR, lambda: len(list(layer.glob("[!.]*.parquet"))) >= 3):
        report = run(work, 1)
    assert (len(report.results), report.failed) == (11, {})
    alone = plan(here, workers=0)
    run(alone)
    assert tiles_of(on_ray) == tiles_of(here)


@pytest.mark.usefixtures("ray_cluster")
def test_what_a_worker_says_that_a_user_can_mend_is_its_own_line(stores):
    class Refusing:  # here, so that workers need not import the tests
        def __call__(self, tile_ids):
            raise UserError("weights.pth: damaged")

    work = dataclasses.replace(plan(stores[0], workers=2), work=Refusing())
    with pytest.raises(UserError) as error:
        run(work, 2)
    assert str(error.value) == "weights.pth: damaged"
    # While somebody still looks at the error, the actors are gone and their CPUs free.
    deadline = time.monotonic() + 30
    while (free := ray.available_resources().get("CPU", 0)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert free == 2


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("workers", [None, 1])
def test_gpus_that_the_cluster_lacks_are_missed_before_anything_starts(stores, workers):
    with refused("1 GPU", "0 GPUs", "use_gpu=false"):
        run(dataclasses.replace(plan(stores[0]), use_gpu=True), workers)
