"""Examples through Ray Data are those of the plan, in its order, for any number of workers."""

import numpy as np
import pytest

from restore_dit.config import RunConfig
from restore_dit.data import loader, stream
from restore_dit.training.setup import set_up

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(("world_size", "cached"), [(1, False), (2, True)])
def test_ranks_get_their_share_of_the_plan_in_order(small_run: RunConfig, world_size: int, cached: bool):
    setup = set_up(small_run)
    start, stop, micro = 2, setup.plan.steps_per_epoch + 2, 2  # across the end of an epoch
    expected = list(loader.step_batches(setup.plan, setup.reader, setup.maker, start, stop, micro))
    decoded = stream.cache_decoded(setup.reader, setup.plan.tile_ids, 0.5) if cached else None
    for rank in range(world_size):
        steps = stream.step_batches(
            setup.plan, setup.reader, setup.maker, start, stop, micro,
            rank=rank, world_size=world_size, cpus_for_training=0.5, cpus_a_task=0.5, decoded=decoded,
        )  # fmt: skip
        count = 0
        for step, micro_batches in zip(expected, steps, strict=True):
            own = step[rank::world_size]
            assert len(own) == len(micro_batches)
            for one, other in zip(own, micro_batches, strict=True):
                assert one.keys() == other.keys()
                for name in one:
                    np.testing.assert_array_equal(one[name], other[name], err_msg=name)
            count += 1
        assert count == stop - start
