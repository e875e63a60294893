"""What a job says of how far it is, where no terminal is there."""

import io
import re

import pytest
from rich.console import Console

from jobs import items as module
from jobs.items import JobProgress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when the test says so."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def display():
    return Console(file=io.StringIO(), width=200)


def lines(display: Console) -> list[str]:
    return display.file.getvalue().splitlines()


def numbers(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"[\d.]+", line)]


def test_a_line_every_ten_and_for_the_last_with_the_rate(clock, display):
    with JobProgress("ingest-pastis", "patches", 24, display) as progress:
        for _ in range(24):
            clock[0] += 0.5
            progress.advance()
    assert [numbers(line) for line in lines(display)] == [[10, 24, 2], [20, 24, 2], [24, 24, 2]]
    assert all(line.startswith("ingest-pastis: ") for line in lines(display))
    assert (progress.done, progress.rate) == (24, 2.0)


def test_slow_things_get_a_line_a_minute(clock, display):
    with JobProgress("reconstruct", "tiles", 4, display) as progress:
        for done in (1, 2, 3):
            clock[0] += 50
            progress.update(done)
    (line,) = lines(display)
    assert line.startswith("reconstruct: ")
    assert numbers(line) == [2, 4, 0.02]
