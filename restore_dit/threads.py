"""How many threads a process computes with and how they wait for each other, decided in this one place.

PyTorch computes with OpenMP, whose threads synchronise hundreds of times per training step. A thread that arrives early
spins until the others arrive. That is fastest as long as each thread has a CPU. Next to another busy process, the
kernel takes one of the threads off its CPU, and the other spins through a whole time slice, again and again.

`settle` runs when `restore_dit` is imported, before PyTorch is loaded, because OpenMP reads the environment only once.
`watch` runs in the commands and jobs. What the user has set in the environment always takes precedence.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path

COUNT = "OMP_NUM_THREADS"
POLICY = "OMP_WAIT_POLICY"
WAITING = (POLICY, "GOMP_SPINCOUNT")
"""Variables that control how threads wait. If the user sets either, the waiting policy is left alone."""

ONE_THREAD = {COUNT: "1"}
"""Environment for processes that run alongside other computation: tests, parsers."""

LOOK_SECONDS = 0.2
CONTENDED_FROM = 0.1
"""Minimum share of the time that this process's threads together spend waiting for a CPU to count as contention. It is
0.02 alone, and 0.6 next to one busy process on two CPUs."""
QUIET_BELOW = 0.05
QUIET_LOOKS = 5
"""Consecutive samples without contention after which threads spin again."""

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_QUOTA_V1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
_TASKS = Path("/proc/self/task")

_set_here: set[str] = set()
"""Variables set by `settle`, so that they are not mistaken for the user's."""
_watching = threading.Lock()


def settle() -> None:
    """Applies `settings` to this process's environment. Has no effect once PyTorch is loaded."""
    if "torch" in sys.modules:
        return
    chosen = settings(os.environ, len(os.sched_getaffinity(0)), cpu_quota(), _kernel_reports_delay())
    os.environ.update(chosen)
    _set_here.update(chosen)


def settings(environment: Mapping[str, str], cpus: int, quota: float, tells_delay: bool) -> dict[str, str]:
    """OpenMP variables to set where the user has not.

    - One thread per CPU available to the process: those of its affinity, or fewer if a container's quota is lower.
    - Threads wait without spinning where spinning would take time from others: with fewer threads than CPUs, since the
      remaining CPUs belong to others, and where the kernel does not report how long threads wait for a CPU.

    Args:
        environment: the process's environment.
        cpus: number of CPUs that it may run on.
        quota: CPU time that it may use, in CPUs.
        tells_delay: whether the kernel reports how long threads wait for a CPU.
    """
    chosen = {}
    allowed = math.ceil(min(cpus, quota))
    if allowed < cpus and COUNT not in environment:
        chosen[COUNT] = str(allowed)
    threads = (dict(environment) | chosen).get(COUNT, "")
    fewer = threads.isdigit() and int(threads) < cpus
    if (fewer or not tells_delay) and not _sets_waiting_policy(environment):
        chosen[POLICY] = "PASSIVE"
    return chosen


def cpu_quota() -> float:
    """CPU time that this process's control group may use, in CPUs; infinity without a limit."""
    try:
        if _QUOTA.exists():
            quota, period = _QUOTA.read_text().split()
        else:
            quota, period = (path.read_text() for path in _QUOTA_V1)
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):  # no control groups, or "max"
        return math.inf


def ray_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of Ray's processes: Ray sets as many threads as they reserve CPUs unless the variable is set, and
    threads wait without spinning because workers, data tasks and replicas share their node."""
    ours = {name: value for name, value in environment.items() if name not in _set_here}
    return ours if _sets_waiting_policy(ours) else ours | {POLICY: "PASSIVE"}


@contextmanager
def in_ray_environment(environment: MutableMapping[str, str]) -> Iterator[None]:
    """Context in which this process has the environment of Ray's processes, so that a cluster started in it inherits
    it."""
    before = {name: environment.get(name) for name in (COUNT, *WAITING)}
    wanted = ray_environment(environment)
    try:
        for name in before:
            _set_or_remove(environment, name, wanted.get(name))
        yield
    finally:
        for name, value in before.items():
            _set_or_remove(environment, name, value)


def watch() -> None:
    """From now on, this process's threads spin only while no other process wants their CPUs. Starts a daemon thread,
    once.

    libgomp spins 300,000 times before sleeping, but only 100 times in a process that has more OpenMP threads than CPUs
    (see GOMP_SPINCOUNT in its manual). So while the process's threads wait for CPUs, an additional thread holds an idle
    OpenMP team of its own. Results are bit-identical.
    """
    if _sets_waiting_policy(os.environ) or not _watching.acquire(blocking=False):
        return
    threading.Thread(target=_watch, name="threads-watch", daemon=True).start()


class Contention:
    """Whether other processes want this process's CPUs, judged by how long its threads waited for one."""

    def __init__(self) -> None:
        self.found = False
        self._quiet_looks = 0

    def look(self, delayed_share: float) -> bool:
        """Updates with the share of the last interval that threads waited, and returns whether there is contention.
        Contention is detected at once and cleared after `QUIET_LOOKS` quiet samples."""
        if delayed_share >= CONTENDED_FROM:
            self.found, self._quiet_looks = True, 0
        elif delayed_share < QUIET_BELOW:
            self._quiet_looks += 1
            if self._quiet_looks >= QUIET_LOOKS:
                self.found = False
        return self.found


def _watch() -> None:
    contention, release = Contention(), None
    time_before, delay_before = time.monotonic(), _delay_seconds()
    while True:
        time.sleep(LOOK_SECONDS)
        now, delay = time.monotonic(), _delay_seconds()
        contended = contention.look((delay - delay_before) / (now - time_before))
        time_before, delay_before = now, delay
        # The team is only useful once PyTorch has loaded libgomp, and must not be the one that loads it.
        if contended and release is None and "torch" in sys.modules:
            release = threading.Event()
            threading.Thread(target=_hold_a_team, args=(release,), name="threads-team", daemon=True).start()
        elif not contended and release is not None:
            release.set()
            release = None


def _hold_a_team(release: threading.Event) -> None:
    """Holds an OpenMP team until released; a thread keeps its team from its first parallel loop until it ends."""
    import torch

    torch.zeros(1 << 20).add_(1)  # large enough to use more than one thread
    release.wait()


def _delay_seconds() -> float:
    """Total time that this process's living threads were runnable but had no CPU."""
    total = 0
    for task in _TASKS.iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[1])
        except OSError:
            continue  # the thread has just ended
    return total / 1e9


def _kernel_reports_delay() -> bool:
    return Path("/proc/self/schedstat").exists()


def _sets_waiting_policy(environment: Mapping[str, str]) -> bool:
    return any(name in environment for name in WAITING)


def _set_or_remove(environment: MutableMapping[str, str], name: str, value: str | None) -> None:
    if value is None:
        environment.pop(name, None)
    else:
        environment[name] = value
