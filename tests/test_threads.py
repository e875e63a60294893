"""How many threads compute, and how they wait for each other."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_dit import threads
from restore_dit.threads import COUNT, POLICY, QUIET_LOOKS, Contention, settings


@pytest.mark.parametrize(
    ("environment", "cpus", "quota", "tells_delay", "chosen"),
    [
        ({}, 8, float("inf"), True, {}),
        ({}, 8, 2.5, True, {COUNT: "3", POLICY: "PASSIVE"}),  # a container's share of a large machine
        ({}, 2, 16.0, True, {}),
        ({COUNT: "4"}, 8, 2.0, True, {POLICY: "PASSIVE"}),
        ({COUNT: "8"}, 8, float("inf"), True, {}),
        ({}, 8, float("inf"), False, {POLICY: "PASSIVE"}),
        ({POLICY: "ACTIVE"}, 8, 2.0, False, {COUNT: "2"}),
        ({"GOMP_SPINCOUNT": "7"}, 8, float("inf"), False, {}),
    ],
)
def test_settings(
    environment: dict[str, str], cpus: int, quota: float, tells_delay: bool, chosen: dict[str, str]
) -> None:
    assert settings(environment, cpus, quota, tells_delay) == chosen


def test_the_quota_of_a_control_group(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(threads, "_QUOTA", quota)
    for text, cpus in (("150000 100000\n", 1.5), ("max 100000\n", float("inf"))):
        quota.write_text(text)
        assert threads.cpu_quota() == cpus
    quota.unlink()
    first = tmp_path / "cpu.cfs_quota_us", tmp_path / "cpu.cfs_period_us"
    monkeypatch.setattr(threads, "_QUOTA_V1", first)
    assert threads.cpu_quota() == float("inf")
    for text, cpus in (("400000", 4.0), ("-1", float("inf"))):
        first[0].write_text(text)
        first[1].write_text("100000")
        assert threads.cpu_quota() == cpus


def test_what_ray_processes_inherit_is_not_what_this_process_set_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_set_here", {COUNT, POLICY})
    environment = {COUNT: "3", POLICY: "ACTIVE", "HOME": "/home/her"}
    with threads.in_ray_environment(environment):
        assert environment == {POLICY: "PASSIVE", "HOME": "/home/her"}  # Ray gives as many threads as CPUs
    assert environment == {COUNT: "3", POLICY: "ACTIVE", "HOME": "/home/her"}


@pytest.mark.parametrize("users", [{COUNT: "2", POLICY: "ACTIVE"}, {"GOMP_SPINCOUNT": "0"}])
def test_ray_processes_inherit_what_the_user_has_set(users: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_set_here", set())
    assert threads.ray_environment(users) == users


@given(st.lists(st.floats(0, 3), max_size=40))
def test_contention_is_found_at_once_and_forgotten_only_after_a_quiet_while(shares: list[float]) -> None:
    contention = Contention()
    quiet = QUIET_LOOKS
    for share in shares:
        found = contention.look(share)
        quiet = 0 if share >= threads.CONTENDED_FROM else quiet + (share < threads.QUIET_BELOW)
        assert found == (quiet < QUIET_LOOKS)


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.send_signal(signal.SIGKILL)
            other.wait()


COMPUTING = """
import sys, threading, time
import restore_dit.threads
restore_dit.threads.watch()
restore_dit.threads.watch()
import torch
end = time.monotonic() + 60
values = torch.rand(400, 400)
while time.monotonic() < end:
    values @ values
    names = [thread.name for thread in threading.enumerate()]
    if "threads-team" in names:
        print(names.count("threads-watch"), names.count("threads-team"))
        break
"""


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU has no threads that wait for each other")
def test_a_computing_process_notices_others_on_its_cpus() -> None:
    own = {name: value for name, value in os.environ.items() if name not in (COUNT, *threads.WAITING)}
    with busy_processes(2 * len(os.sched_getaffinity(0))):
        done = subprocess.run([sys.executable, "-c", COMPUTING], env=own, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["1", "1"], done.stderr
