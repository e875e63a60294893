"""What is prepared ahead comes in order, whatever prepares it, and leaves nothing behind."""

import pickle
import threading
import time

import numpy as np
import pytest

from restore_dit.config import RunConfig
from restore_dit.data import loader
from restore_dit.data.loader import ahead
from restore_dit.training.setup import set_up


def threads_left() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order_however_long_each_takes(threads):
    random = np.random.default_rng(threads)
    seconds = random.uniform(0, 0.004, 60)

    def build(item: int) -> int:
        time.sleep(seconds[item])
        return item * item

    assert list(ahead(build, range(60), threads)) == [item * item for item in range(60)]
    assert list(ahead(build, range(2), threads)) == [0, 1]
    assert list(ahead(build, (), threads)) == []
    assert threads_left() == []


def test_as_many_are_built_at_once_as_there_are_threads_and_no_more_are_begun():
    begun, running, most = [], [], []
    lock = threading.Lock()

    def build(item: int) -> int:
        with lock:
            begun.append(item)
            running.append(item)
            most.append(len(running))
        time.sleep(0.02)
        with lock:
            running.remove(item)
        return item

    results = ahead(build, range(100), 3)
    for _ in range(4):
        next(results)
    time.sleep(0.1)
    assert sorted(begun) == list(range(7))  # four are used, three are ready
    assert max(most) == 3
    results.close()


@pytest.mark.parametrize("threads", [1, 4])
def test_an_error_comes_in_its_place_and_ends_the_threads(threads):
    def build(item: int) -> int:
        if item == 3:
            raise ValueError("the fourth")
        time.sleep(0.001 * (5 - item) if item < 5 else 0)
        return item

    results = ahead(build, range(50), threads)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the fourth"):
        next(results)
    assert threads_left() == []


def test_closed_in_the_middle_it_drops_what_is_not_begun_and_leaves_no_thread():
    begun = []

    def build(item: int) -> int:
        begun.append(item)
        time.sleep(0.05)
        return item

    results = ahead(build, range(1000), 2)
    next(results)
    results.close()
    assert threads_left() == []
    assert len(begun) <= 4


@pytest.mark.parametrize("threads", [1, 3])
def test_the_steps_are_the_same_with_any_number_of_threads(small_run: RunConfig, threads: int):
    setup = set_up(small_run)
    reader = pickle.loads(pickle.dumps(setup.reader))  # noqa: S301
    reader.keep = 2  # tiles come and go while threads use them
    steps = list(loader.step_batches(setup.plan, reader, setup.maker, 2, 9, 2, threads=threads))
    assert len(steps) == 7
    assert len(reader._tiles) == 2
    for step, micro_batches in enumerate(steps, start=2):
        planned = setup.plan.share(step, 0, 1, 2)
        for columns, entries in zip(micro_batches, planned, strict=True):
            expected = setup.maker.training([setup.reader(entry.tile_id) for entry in entries], entries)
            assert columns.keys() == expected.keys()
            for name, values in expected.items():
                np.testing.assert_array_equal(columns[name], values)
