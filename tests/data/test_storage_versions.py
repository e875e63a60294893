"""Files that several processes change at once: nobody's change is lost, on this machine and on an S3 server."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from restore_dit.data import storage
from tests.messages import refused
from tests.s3.failing_proxy import FailingProxy

ROUNDS = 20


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else f"s3://{request.getfixturevalue('bucket')}"


def add(place: storage.Location, entry: str) -> int:
    """Add an entry to the list in a file, as a commit does; how often another writer came first."""
    for lost in range(1000):
        content, version = storage.read_versioned(place)
        entries = [*json.loads(content or b"[]"), entry]
        if storage.write_if_version(place, json.dumps(entries).encode(), version):
            return lost
    raise AssertionError("a thousand conflicts")


def add_many(place: storage.Location, name: str) -> None:
    for index in range(ROUNDS):
        add(place, f"{name}-{index}")


def test_two_processes_that_commit_at_once_lose_nothing(folder: str) -> None:
    place = storage.locate(folder).join("new", "manifest.json")
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=add_many, args=(place, name)) for name in ("a", "b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0]
    entries = json.loads(storage.read_bytes(place))
    assert sorted(entries) == sorted(f"{name}-{index}" for name in ("a", "b") for index in range(ROUNDS))
    assert storage.list_names(storage.locate(folder).join("new")) == ["manifest.json"]


def test_only_the_version_that_was_seen_is_overwritten(folder: str) -> None:
    place = storage.locate(folder).join("file")
    assert storage.read_versioned(place) == (None, None)
    assert storage.write_if_version(place, b"one", None)
    assert not storage.write_if_version(place, b"two", None)
    content, version = storage.read_versioned(place)
    assert content == b"one"
    storage.write_bytes_atomically(place, b"three")
    assert not storage.write_if_version(place, b"two", version)
    assert storage.read_bytes(place) == b"three"
    storage.delete(place)
    assert not storage.write_if_version(place, b"two", version)
    assert storage.read_versioned(place) == (None, None)


HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_the_lock_of_a_killed_writer_ends_with_it(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / ".file.lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.send_signal(signal.SIGKILL)
    assert storage.write_if_version(tmp_path / "file", b"content", None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with refused(f"{tmp_path}/x"):
        storage.write_if_version(tmp_path / "x", b"", None)


@pytest.mark.s3
def test_a_write_whose_answer_was_lost_is_no_conflict_with_itself(proxy: FailingProxy, bucket: str) -> None:
    place = f"s3://{bucket}/file"
    proxy.failures.append("lose")
    assert storage.write_if_version(place, b"one", None)
    _, version = storage.read_versioned(place)
    proxy.failures.append("lose")
    assert storage.write_if_version(place, b"two", version)
    assert storage.read_bytes(place) == b"two"


@pytest.mark.s3
def test_a_server_without_conditions_is_looked_at_before_it_is_written_to(proxy: FailingProxy, bucket: str) -> None:
    place = f"s3://{bucket}/file"
    proxy.failures.append("NotImplemented")
    assert storage.write_if_version(place, b"one", None)
    proxy.failures.append("NotImplemented")
    assert not storage.write_if_version(place, b"two", None)
    _, version = storage.read_versioned(place)
    proxy.failures.append("NotImplemented")
    assert storage.write_if_version(place, b"two", version)
    assert storage.read_bytes(place) == b"two"
