"""Memory use of processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def own_memory(field: str, process: str = "self") -> int:
    """A field of a process's status in bytes, such as `VmHWM`, its peak resident memory."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) * 1024


@contextmanager
def watched_memory(command: str) -> Iterator[dict[str, int]]:
    """Records the peak private memory, in bytes by process id, of all processes whose command line contains `command`.
    Shared memory, such as Ray's object store, is excluded: it would be counted once per process."""
    peaks: dict[str, int] = {"none": 0}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.25):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    if command in (process / "cmdline").read_text():
                        used = own_memory("RssAnon", process.name)
                        peaks[process.name] = max(peaks.get(process.name, 0), used)
                except (OSError, IndexError):
                    continue  # the process ended meanwhile

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield peaks
    done.set()
    thread.join()
