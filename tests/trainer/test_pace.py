"""How fast steps go, and how much of their time is waiting: facts about time, with margins for a busy machine."""

import time
from collections.abc import Iterator

import pytest

from restore_dit.config import RunConfig
from restore_dit.data import loader
from restore_dit.trainer.loop import fit
from restore_dit.trainer.monitor import LocalMonitor, StepReport
from restore_dit.trainer.pace import StepClock, idle_seconds
from restore_dit.training.run import DenoiserTask
from restore_dit.training.setup import set_up


def slow_items(count: int, seconds: float) -> Iterator[int]:
    for item in range(count):
        time.sleep(seconds)
        yield item


def test_waiting_is_what_passes_inside_the_iterator():
    clock = StepClock()
    for _ in clock.waiting_for(slow_items(3, 0.05)):
        time.sleep(0.05)
    speed, share = clock.lap(3)
    assert 4 < speed <= 10
    assert 0.35 < share < 0.65


def test_a_pause_counts_neither_as_step_nor_as_waiting():
    clock = StepClock()
    for _ in clock.waiting_for(slow_items(1, 0.05)):
        with clock.paused():
            time.sleep(0.3)
    assert clock.lap(1)[1] > 0.7
    time.sleep(0.02)
    assert clock.lap(2)[1] == 0  # a lap begins anew


@pytest.mark.slow
def test_a_fit_reports_how_long_it_waits(small_run: RunConfig):
    reports = reports_of(small_run, "starved", delay=0.2)
    assert max(report.data_wait_share for report in reports) > 0.5
    assert all(0 <= report.data_wait_share <= 1 and report.gpu_memory == () for report in reports)


@pytest.fixture(scope="module")
def whole(small_run: RunConfig) -> list[StepReport]:
    """Those of whole batches."""
    return reports_of(small_run, "norm-0", zero_stage=0)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_gradient_norm_is_that_of_the_whole_batch_at_every_stage(small_run: RunConfig, whole, stage: int):
    parts = reports_of(small_run, f"norm-{stage}", zero_stage=stage, micro_batch_size=1)
    assert [report.gradient_norm for report in parts] == pytest.approx(
        [report.gradient_norm for report in whole], rel=1e-3
    )
    assert all(report.gradient_norm > 0 for report in whole)


def reports_of(config: RunConfig, name: str, delay: float = 0.0, **training) -> list[StepReport]:
    """Those of the first two steps."""
    training = {"save_every": 1000, "validate_every": 1000, "log_every": 1} | training
    config = config.model_copy(update={"name": name, "training": config.training.model_copy(update=training)})
    setup = set_up(config)
    task = DenoiserTask(setup)
    task.claim()
    reports: list[StepReport] = []

    def show(report) -> None:
        if isinstance(report, StepReport):
            reports.append(report)
            if report.step == 2:
                monitor.request_stop()

    def batches(start: int, stop: int):
        for batch in loader.step_batches(setup.plan, setup.reader, setup.maker, start, stop, config.micro_batch_size):
            time.sleep(delay)
            yield batch

    monitor = LocalMonitor(show)
    assert not fit(task, batches, monitor)
    return reports


class Event:
    """One of a GPU that was busy until a second."""

    def __init__(self, second: float) -> None:
        self.second = second

    def elapsed_time(self, end: "Event") -> float:
        return 1000 * (end.second - self.second)


@pytest.mark.parametrize(
    ("waited", "busy_until", "arrived", "idle"),
    [
        (0.5, 10.0, 10.5, 0.5),  # the GPU had nothing to do in all that time
        (0.5, 10.4, 10.5, 0.1),  # it was still computing for most of it
        (0.5, 10.7, 10.7, 0.0),  # the batch was there before it had finished
        (0.1, 10.0, 13.0, 0.1),  # what follows the wait, such as a validation, is no wait
    ],
)
def test_waiting_is_what_a_gpu_is_idle_for(waited, busy_until, arrived, idle):
    assert idle_seconds(waited, Event(busy_until), Event(arrived)) == pytest.approx(idle)
