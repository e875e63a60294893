import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from restore_dit.config import SplitConfig
from restore_dit.data.examples.plan import EpochPlan, frames_of_part, split_tiles
from restore_dit.errors import UserError
from tests.messages import refused

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


@given(
    count=st.integers(8, 60),
    test=st.floats(0, 0.6),
    validation=st.floats(0, 0.4),
    seed=st.integers(0, 5),
)
def test_tiles_are_disjoint_and_complete(count, test, validation, seed):
    folds = {f"t{i:02d}": None for i in range(count)}
    try:
        split = split_tiles(folds, SplitConfig(test_fraction=test, validation_fraction=validation), seed)
    except UserError as error:  # large shares of few tiles may by chance leave none to train on
        if "no tile of" not in str(error):
            raise
        assume(False)
    parts = [*split.train, *split.validation, *split.test]
    assert sorted(parts) == sorted(folds)
    assert bool(split.test) == (test > 0)
    assert split == split_tiles(
        dict(reversed(folds.items())), SplitConfig(test_fraction=test, validation_fraction=validation), seed
    )


def test_folds_as_published():
    folds = {f"t{i}": i % 5 + 1 for i in range(20)}
    split = split_tiles(folds, SplitConfig(by="folds", test_folds=(5,), validation_fraction=0), 0)
    assert {folds[tile] for tile in split.test} == {5}
    assert {folds[tile] for tile in split.train} == {1, 2, 3, 4}
    assert split.validation == ()


def test_refusals_say_what_to_do():
    with refused("t1", "data.split.by=tiles"):
        split_tiles({"t0": 1, "t1": None}, SplitConfig(by="folds"), 0)
    with refused("data.split.by=dates"):
        split_tiles({"only": None}, SplitConfig(), 0)


@given(
    frames=st.integers(6, 80),
    test=st.floats(0.1, 0.5),
    validation=st.floats(0, 0.4),
    seed=st.integers(0, 3),
    data=st.data(),
)
def test_dates_of_the_parts_never_meet(frames, test, validation, seed, data):
    clear = np.array(data.draw(st.lists(st.booleans(), min_size=frames, max_size=frames)))
    config = SplitConfig(by="dates", test_fraction=test, validation_fraction=validation)
    parts = {part: frames_of_part(clear, part, config, seed, "site") for part in ("train", "validation", "test")}
    scored = np.sum([scored for _, scored in parts.values()], axis=0)
    assert np.array_equal(scored == 1, clear)  # each clear frame is scored by exactly one part
    shown_in_training = parts["train"][0]
    assert not (shown_in_training & parts["validation"][1]).any()
    assert not (shown_in_training & parts["test"][0]).any()
    assert not (parts["validation"][0] & parts["test"][0]).any()
    first_test = np.flatnonzero(parts["test"][0])
    assert np.array_equal(first_test, np.arange(frames - round(test * frames), frames))
