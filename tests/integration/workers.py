"""Worker processes of this process's own Ray cluster: which there are, and killing one at a moment of choice."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

TASK, ACTOR, TRIAL = "ray::FlatMap", "ray::MapWorker", "ray::ImplicitFunc.train"
"""What is in the command line of a worker that runs a task of a map, is an actor of a map, or runs a trial."""


@contextmanager
def one_killed(kind: str, when: Callable[[], bool]) -> Iterator[None]:
    """SIGKILL for a worker of this kind that is there once `when` is true, which must happen before the block ends."""
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        while not killed and not over.wait(0.002):
            for pid in workers(kind)[:1]:
                if when():
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        over.set()
        killer.join(timeout=10)
    assert len(killed) == 1


def workers(kind: str) -> list[int]:
    """The process ids of this cluster's workers of a kind."""
    return [
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if kind in content(folder / "cmdline") and os.getpid() in ancestors(int(folder.name))
    ]


def ancestors(pid: int) -> list[int]:
    """A process's parent, its parent's parent, and so on."""
    found: list[int] = []
    while status := content(Path(f"/proc/{pid}/stat")):
        pid = int(status.rpartition(")")[2].split()[1])
        found.append(pid)
    return found


def content(file: Path) -> str:
    """Empty for a process that has ended meanwhile."""
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
