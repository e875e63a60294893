"""Examples through Ray Data are those of the plan, in its order, for any number of workers and any cut into blocks."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray
from ray.data import DataContext

from restore_dit.config import MaskErrorConfig, RunConfig
from restore_dit.data import loader, storage, stream
from restore_dit.data.store.tile_store import TileStore
from restore_dit.training.setup import TrainingSetup, set_up
from tests.s3.ceph_server import CephServer

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


def streamed(
    setup: TrainingSetup, source: ray.ObjectRef, start: int, stop: int, micro: int, rank: int, of: int, decoded=None
):
    return stream.step_batches(
        source, setup.plan, start, stop, micro,
        rank=rank, world_size=of, cpus_for_training=0.5, cpus_a_task=0.5, decoded=decoded,
    )  # fmt: skip


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("world_size", "micro", "cached", "missed"), [(1, 2, False, 0.0), (2, 2, True, 0.5), (1, 4, False, 0.5)]
)
def test_ranks_get_their_share_of_the_plan_in_order(
    small_run: RunConfig, monkeypatch: pytest.MonkeyPatch, world_size: int, micro: int, cached: bool, missed: float
):
    monkeypatch.setattr(stream, "MAX_EXAMPLES_A_BLOCK", 2)  # a micro-batch of 4 comes in two blocks
    # Blocks are never cut, however small Ray Data would like them.
    monkeypatch.setattr(DataContext.get_current(), "target_max_block_size", 10_000)
    gaps = small_run.data.gaps.model_copy(
        update={"dilation": 1, "errors": MaskErrorConfig(missed_thin_cloud=missed, missed_shadow=missed)}
    )
    setup = set_up(small_run.model_copy(update={"data": small_run.data.model_copy(update={"gaps": gaps})}))
    start, stop = 2, setup.plan.steps_per_epoch + 2  # across the end of an epoch
    expected = list(loader.step_batches(setup.plan, setup.reader, setup.maker, start, stop, micro))
    decoded = stream.cache_decoded(setup.reader, setup.plan.tile_ids, 0.5) if cached else None
    source = ray.put(stream.StreamSource(setup.plan, setup.reader, setup.maker))
    for rank in range(world_size):
        steps = list(streamed(setup, source, start, stop, micro, rank, world_size, decoded))
        assert len(steps) == stop - start
        for step, micro_batches in zip(expected, steps, strict=True):
            own = step[rank::world_size]
            assert len(own) == len(micro_batches)
            for one, other in zip(own, micro_batches, strict=True):
                assert one.keys() == other.keys()
                assert ("veil" in one) == bool(missed)
                for name in one:
                    assert one[name].dtype == other[name].dtype, name
                    np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.mark.usefixtures("ray_cluster")
def test_an_epoch_shows_each_example_once_over_several_datasets(small_run: RunConfig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream, "EXAMPLES_A_SEGMENT", 4)
    setup = set_up(small_run)
    source = ray.put(stream.StreamSource(setup.plan, setup.reader, setup.maker))
    seen: Counter[tuple[int, str, int]] = Counter()
    for rank in range(2):
        for micro_batches in streamed(setup, source, 0, 2 * setup.plan.steps_per_epoch, 2, rank, 2):
            for columns in micro_batches:
                real = columns["weight"] > 0
                seen.update(zip(columns["epoch"][real], columns["tile_id"][real], columns["draw"][real], strict=True))
    draws = range(setup.plan.examples_per_tile)
    assert seen == {(epoch, tile, draw): 1 for epoch in range(2) for tile in setup.plan.tile_ids for draw in draws}


def test_ray_datas_loop_pauses_while_it_has_nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch):
    now, pauses = [0.0], []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(stream, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    loop = stream.LoopThrottle()

    def pauses_of(steps: int, seconds: float) -> int:
        before = len(pauses)
        for _ in range(steps):
            now[0] += seconds
            loop()
        return len(pauses) - before

    assert pauses_of(stream.MAX_QUICK_STEPS, 0.001) == 0
    assert pauses_of(20, 0.001) == 20
    assert pauses_of(3, 0.1) == 0  # it waited for tasks
    assert pauses_of(stream.MAX_QUICK_STEPS, 0.001) == 0
    assert set(pauses) == {stream.PAUSE_SECONDS}


@pytest.mark.usefixtures("ray_cluster")
def test_ray_data_calls_what_makes_its_loop_pause(small_run: RunConfig, monkeypatch: pytest.MonkeyPatch):
    steps = Counter[str]()
    monkeypatch.setattr(stream.LoopThrottle, "__call__", lambda loop: steps.update(["step"]))
    setup = set_up(small_run)
    source = ray.put(stream.StreamSource(setup.plan, setup.reader, setup.maker))
    assert len(list(streamed(setup, source, 0, 2, 2, 0, 1))) == 2
    assert steps["step"] >= 1


@pytest.fixture
def store_on_s3(small_store: TileStore, bucket: str) -> str:
    """The small store's files in a bucket."""
    folder, target = Path(small_store.uri), f"s3://{bucket}/store"
    for file in sorted(folder.rglob("*.parquet")):
        storage.write_bytes_atomically(f"{target}/{file.relative_to(folder)}", file.read_bytes())
    storage.write_bytes_atomically(f"{target}/manifest.json", (folder / "manifest.json").read_bytes())
    return target


@pytest.mark.s3
@pytest.mark.usefixtures("ray_cluster")
def test_from_s3_come_the_same_examples_and_without_it_one_line(small_run: RunConfig, store_on_s3: str, s3: CephServer):
    on_disk = set_up(small_run)
    setup = set_up(small_run.model_copy(update={"data": small_run.data.model_copy(update={"store": store_on_s3})}))
    assert setup.store_fingerprint == on_disk.store_fingerprint
    source = ray.put(stream.StreamSource(setup.plan, setup.reader, setup.maker))
    epochs = 2 * setup.plan.steps_per_epoch
    expected = loader.step_batches(on_disk.plan, on_disk.reader, on_disk.maker, 0, epochs, 2)
    ranks = [streamed(setup, source, 0, epochs, 2, rank, 2) for rank in range(2)]
    for step in expected:
        received = [next(rank) for rank in ranks]
        for index, micro_batch in enumerate(step):
            for name, values in micro_batch.items():
                np.testing.assert_array_equal(values, received[index % 2][index // 2][name], err_msg=name)
    s3.stop_gateway()
    with pytest.raises(Exception, match=r"StorageUnavailable: s3://.*AWS_ENDPOINT_URL"):
        list(streamed(setup, source, 0, epochs, 2, 0, 1))
