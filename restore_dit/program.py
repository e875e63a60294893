"""What every command-line program shares: how it ends, what Ctrl-C does to a training, where progress is shown, and
which version is running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console

from restore_dit import __version__, threads
from restore_dit.errors import UserError

INTERRUPTED = 130
"""Exit status after Ctrl-C, by the convention of shells."""


def exit_status(run: Callable[[], int], program: str) -> int:
    """Runs a program and returns its exit status. A `UserError` becomes one line on standard error."""
    threads.watch()
    try:
        return run()
    except UserError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # keeps the interpreter's last flush quiet
        return 1


def console() -> Console:
    """The console on which progress is shown."""
    return Console(markup=False, emoji=False)  # folder names may contain brackets and colons


@contextmanager
def stop_when_interrupted(request_stop: Callable[[], None], console: Console) -> Iterator[None]:
    """Context in which the first Ctrl-C (or SIGTERM) requests a stop after the current step and the second one
    interrupts immediately. No effect outside the main thread, the only one that may set signal handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # SIGTERM too, which schedulers and `job stop` send some time before they kill.
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        console.print("stopping after this step; press Ctrl-C again to stop immediately and lose unsaved progress")
        request_stop()
        signal.signal(number, signal.default_int_handler)

    try:
        for number in before:
            signal.signal(number, handle)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


COMMIT_VARIABLE = "RESTORE_DIT_COMMIT"
"""Environment variable with the commit where the program runs outside its repository, such as on a cluster."""


def version_tags() -> dict[str, str]:
    """The package's version and, if known, the commit, with `-changed` appended if files differ from it."""
    tags = {"restore_dit.version": __version__}
    commit = os.environ.get(COMMIT_VARIABLE) or commit_of(Path(__file__).resolve().parent.parent)
    return tags | ({"mlflow.source.git.commit": commit} if commit else {})


def commit_of(checkout: Path, *paths: str) -> str | None:
    """The commit that is checked out, with `-changed` appended if files differ from it; None if there is no checkout.

    Args:
        checkout: the repository's folder.
        paths: consider only these, including new files in them; if empty, every tracked file.
    """
    if not (checkout / ".git").exists():  # never the commit of a repository that merely contains the environment
        return None
    try:
        commit = _git(checkout, "rev-parse", "HEAD")
        new = "normal" if paths else "no"
        changed = _git(checkout, "status", "--porcelain", f"--untracked-files={new}", "--", *paths)
    except (OSError, subprocess.SubprocessError):  # no git, or no commit yet
        return None
    return commit + ("-changed" if changed else "")


def _git(checkout: Path, *arguments: str) -> str:
    # Variables such as GIT_DIR, which are set while a hook runs, would point to another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(checkout), *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=10, check=True)
    return result.stdout.strip()
