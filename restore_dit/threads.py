"""How many threads compute in a process, and how they wait for each other: the one place that decides it.

PyTorch computes with OpenMP. Its threads meet hundreds of times in a training step, and the one that comes first spins
until the other is there. That is fastest as long as both have a CPU. Beside another busy process the kernel takes one
of them off its CPU, and the other burns a whole time slice for it, again and again.

`settle` runs when `restore_dit` is imported, before PyTorch is loaded, since OpenMP reads the environment once. `watch`
runs in the commands and jobs. What the user has set in the environment always wins.
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
"""Variables that say how threads wait. Whoever sets one of them decides for himself."""

ONE_THREAD = {COUNT: "1"}
"""Environment of a process beside which others compute: tests, parsers."""

LOOK_SECONDS = 0.2
CONTENDED_FROM = 0.1
"""Share of the time that the threads of this process together waited for a CPU. Alone it is 0.02, beside one busy
process on two CPUs 0.6."""
QUIET_BELOW = 0.05
QUIET_LOOKS = 5
"""Looks without contention after which threads spin again."""

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_QUOTA_V1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
_TASKS = Path("/proc/self/task")

_set_here: set[str] = set()
"""What `settle` has set, so that it is not taken for the user's."""
_watching = threading.Lock()


def settle() -> None:
    """Puts `settings` into the environment of this process; without effect once PyTorch is loaded."""
    if "torch" in sys.modules:
        return
    chosen = settings(os.environ, len(os.sched_getaffinity(0)), cpu_quota(), _tells_delay())
    os.environ.update(chosen)
    _set_here.update(chosen)


def settings(environment: Mapping[str, str], cpus: int, quota: float, tells_delay: bool) -> dict[str, str]:
    """What a process sets for OpenMP where the user has not.

    - As many threads as the process may have CPUs: those of its affinity, or fewer where a container's quota says so.
    - They wait without spinning where spinning takes time from others by construction: with fewer threads than CPUs,
      since others were given the rest, and where the kernel does not tell how long threads wait for a CPU.

    Args:
        environment: of the process.
        cpus: on which it may run.
        quota: CPUs' worth of time that it may use.
        tells_delay: whether the kernel counts how long threads wait for a CPU.
    """
    chosen = {}
    allowed = math.ceil(min(cpus, quota))
    if allowed < cpus and COUNT not in environment:
        chosen[COUNT] = str(allowed)
    threads = (dict(environment) | chosen).get(COUNT, "")
    fewer = threads.isdigit() and int(threads) < cpus
    if (fewer or not tells_delay) and not _says_how(environment):
        chosen[POLICY] = "PASSIVE"
    return chosen


def cpu_quota() -> float:
    """CPUs' worth of time that this process's control group may use; infinity without a limit."""
    try:
        if _QUOTA.exists():
            quota, period = _QUOTA.read_text().split()
        else:
            quota, period = (path.read_text() for path in _QUOTA_V1)
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):  # no control groups, or "max"
        return math.inf


def of_ray_processes(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment that Ray's processes get: as many threads as they reserve CPUs, which Ray sees to where nobody
    says otherwise, and waiting without spinning, since workers, data tasks and replicas share their node."""
    ours = {name: value for name, value in environment.items() if name not in _set_here}
    return ours if _says_how(ours) else ours | {POLICY: "PASSIVE"}


@contextmanager
def as_ray_processes_get_it(environment: MutableMapping[str, str]) -> Iterator[None]:
    """Within it this process's environment is that of Ray's processes, which inherit it where it starts a cluster."""
    before = {name: environment.get(name) for name in (COUNT, *WAITING)}
    wanted = of_ray_processes(environment)
    try:
        for name in before:
            _put(environment, name, wanted.get(name))
        yield
    finally:
        for name, value in before.items():
            _put(environment, name, value)


def watch() -> None:
    """From now on threads of this process spin only while nobody else wants their CPUs. Starts a daemon thread, once.

    libgomp spins 300,000 times before it sleeps, but only 100 times in a process that has more OpenMP threads than
    CPUs (its manual, "GOMP_SPINCOUNT"). So while the threads of this process wait for CPUs, one more thread of it has
    an OpenMP team of its own, which does nothing. Results are the same to the bit.
    """
    if _says_how(os.environ) or not _watching.acquire(blocking=False):
        return
    threading.Thread(target=_watch, name="threads-watch", daemon=True).start()


class Contention:
    """Whether others want the CPUs of this process, from how long its threads waited for one."""

    def __init__(self) -> None:
        self.found = False
        self._quiet_looks = 0

    def look(self, delayed_share: float) -> bool:
        """Takes the share of the last interval; what is found now. It is found at once and forgotten after a while."""
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
        if contended and release is None and "torch" in sys.modules:
            release = threading.Event()
            threading.Thread(target=_hold_a_team, args=(release,), name="threads-team", daemon=True).start()
        elif not contended and release is not None:
            release.set()
            release = None


def _hold_a_team(release: threading.Event) -> None:
    """A thread has an OpenMP team from its first parallel loop until it ends."""
    import torch

    torch.zeros(1 << 20).add_(1)  # enough numbers for more than one thread
    release.wait()


def _delay_seconds() -> float:
    """How long the threads of this process that are alive now were ready to run and had no CPU."""
    total = 0
    for task in _TASKS.iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[1])
        except OSError:
            continue  # it has just ended
    return total / 1e9


def _tells_delay() -> bool:
    return Path("/proc/self/schedstat").exists()


def _says_how(environment: Mapping[str, str]) -> bool:
    return any(name in environment for name in WAITING)


def _put(environment: MutableMapping[str, str], name: str, value: str | None) -> None:
    if value is None:
        environment.pop(name, None)
    else:
        environment[name] = value
