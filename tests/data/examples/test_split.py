import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from restore_dit.config import SplitConfig
from restore_dit.data.examples.split import frames_of_part, split_tiles
from restore_dit.errors import UserError
from tests.messages import refused


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
