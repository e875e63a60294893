import pickle
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_dit.data.examples.plan import EpochPlan

TILES = tuple(f"tile-{index}" for index in range(11))


@given(
    tiles=st.integers(1, 40),
    draws=st.integers(1, 4),
    micro=st.integers(1, 4),
    accumulation=st.integers(1, 3),
    workers=st.integers(1, 4),
    epoch=st.integers(0, 3),
)
def test_every_example_once_an_epoch_whatever_the_workers(tiles, draws, micro, accumulation, workers, epoch):
    batch_size = micro * accumulation * workers
    plan = EpochPlan(tuple(f"t{i}" for i in range(tiles)), draws, batch_size, seed=5)
    computed = Counter()
    for step in range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch):
        shares = [plan.share(step, rank, workers, micro) for rank in range(workers)]
        assert {len(share) for share in shares} == {accumulation}
        assert all(len(batch) == micro for share in shares for batch in share)
        for share in shares:
            computed.update((e.tile_id, e.draw) for batch in share for e in batch if e.weight == 1)
    assert computed == Counter({(f"t{i}", draw): 1 for i in range(tiles) for draw in range(draws)})


@given(workers=st.sampled_from([1, 2, 3, 4, 6, 12]), step=st.integers(0, 30))
def test_the_step_is_the_same_list_for_any_number_of_workers(workers, step):
    plan = EpochPlan(TILES, 3, batch_size=12, seed=1)
    together = [e for rank in range(workers) for batch in plan.share(step, rank, workers, 1) for e in batch]
    assert Counter(together) == Counter(plan.step(step))


def test_padding_of_the_short_step_weighs_nothing():
    plan = EpochPlan(TILES, 1, batch_size=4, seed=0)
    assert plan.steps_per_epoch == 3
    assert [entry.weight for entry in plan.step(2)] == [1, 1, 1, 0]
    assert [entry.weight for entry in plan.step(5)] == [1, 1, 1, 0]


def test_order_depends_on_seed_and_epoch_alone():
    plan, same, other = (EpochPlan(TILES, 1, 4, seed) for seed in (7, 7, 8))
    first = [entry.tile_id for step in range(3) for entry in plan.step(step)]
    assert first == [entry.tile_id for step in range(3) for entry in same.step(step)]
    assert first != [entry.tile_id for step in range(3) for entry in other.step(step)]
    assert first != [entry.tile_id for step in range(3, 6) for entry in plan.step(step)]
    assert pickle.loads(pickle.dumps(plan)).step(4) == plan.step(4)  # noqa: S301


def test_a_step_knows_its_epoch():
    plan = EpochPlan(TILES, 1, batch_size=4, seed=0)
    assert [plan.epoch(step) for step in (0, 2, 3, 8)] == [0, 0, 1, 2]
    with pytest.raises(IndexError):
        plan.share(0, 1, 1, 4)[0][0]
