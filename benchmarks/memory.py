"""How much memory processes hold."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def own_memory(field: str, process: str = "self") -> int:
    """A field of a process's status in bytes, such as `VmHWM`, the most it ever held."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) * 1024


@contextmanager
def watched_memory(command: str) -> Iterator[dict[str, int]]:
    """Largest private memory of every process whose command line has these words; what is shared, such as Ray's object
    store, is not counted once for each."""
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
                    continue  # it ended meanwhile

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield peaks
    done.set()
    thread.join()
