"""The tests' own S3 server: it keeps its data, leaves nothing behind, and is missed aloud."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.s3.ceph_server import CephServer, installed_server

ROOT = Path(__file__).resolve().parents[2]

STARTER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin without it
from tests.s3.ceph_server import CephServer
with CephServer() as server:
    print(server.folder, flush=True)
    time.sleep(600)
"""


@pytest.mark.s3
def test_the_gateway_stops_and_comes_back_with_its_data(s3: CephServer, bucket: str) -> None:
    client = s3.client()
    client.put_object(Bucket=bucket, Key="key", Body=b"content")
    s3.stop_gateway()
    s3.start_gateway()
    assert client.get_object(Bucket=bucket, Key="key")["Body"].read() == b"content"


@pytest.mark.s3
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_daemon_outlives_its_tests(ceph_server: CephServer, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTER], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as tests:
        assert tests.stdout is not None
        folder = Path(tests.stdout.readline().strip())
        assert daemons(folder) == {"ceph-mon", "ceph-osd", "radosgw"}
        tests.send_signal(number)
    limit = time.monotonic() + 20
    while daemons(folder) and time.monotonic() < limit:
        time.sleep(0.1)
    assert not daemons(folder)
    assert number == signal.SIGKILL or not folder.exists()
    shutil.rmtree(folder, ignore_errors=True)


def daemons(folder: Path) -> set[str]:
    """The names of the processes whose configuration lies in `folder`."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"CEPH_CONF={folder}/".encode() in (process / "environ").read_bytes():
                found.add(Path(os.readlink(process / "exe")).name)
        except OSError:  # it ended, or is another user's
            continue
    return found


def test_without_ceph_tests_skip_but_in_continuous_integration_they_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    packages = "apt-get install --no-install-recommends ceph-mon ceph-osd ceph-common radosgw"
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=packages):
        installed_server()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=packages):
        installed_server()
