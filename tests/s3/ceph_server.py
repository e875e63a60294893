"""A real S3 server for tests: Ceph on this machine alone, with its data in memory, behind its S3 gateway."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import URLError

import boto3
import pytest
from botocore.config import Config

PROGRAMS = ("ceph-mon", "ceph-osd", "ceph", "ceph-authtool", "monmaptool", "radosgw", "radosgw-admin", "setpriv")
PACKAGES = "ceph-mon ceph-osd ceph-common radosgw"
_CAPACITY = 4 << 30
_SECONDS = 90
"""A start takes about ten seconds, on a busy machine several times that."""

_CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_port},v1:127.0.0.1:{old_mon_port}]
keyring = {folder}/keyring
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail crit = 1
mon data avail warn = 2
mon max pg per osd = 1000
paxos propose interval = 0.05
paxos min wait = 0.01
osd objectstore = memstore
memstore device bytes = {capacity}
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw thread pool size = 64
run dir = {folder}
log file = {folder}/$name.log
admin socket =
"""


class CephNotInstalled(Exception):
    """Some of Ceph's programs are missing; says which, and how to get them."""


@dataclass(frozen=True)
class Keys:
    """A user of the server."""

    access: str = field(default_factory=lambda: secrets.token_hex(10).upper())
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(30))


class CephServer:
    """The server, running between `with` and its end, or until this process dies in whatever way."""

    def __init__(self) -> None:
        missing = [program for program in PROGRAMS if shutil.which(program) is None]
        if missing:
            raise CephNotInstalled(
                f"Ceph's S3 gateway is not installed (no {', '.join(missing)}): "
                f"apt-get install --no-install-recommends {PACKAGES}"
            )
        self.keys = Keys()
        self.port, self._mon_port, self._old_mon_port = _free_ports(3)
        self.folder = Path()
        self._gateway: subprocess.Popen[bytes] | None = None
        self._at_end = ExitStack()

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self, keys: Keys | None = None) -> dict[str, str]:
        """What a process needs in its environment to reach it."""
        keys = keys or self.keys
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": keys.access,
            "AWS_SECRET_ACCESS_KEY": keys.secret,
            "AWS_REGION": "us-east-1",
        }

    def client(self, keys: Keys | None = None) -> Any:
        """boto3's client, to look behind what is tested."""
        keys = keys or self.keys
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=keys.access,
            aws_secret_access_key=keys.secret,
            region_name="us-east-1",
            config=Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def __enter__(self) -> CephServer:
        with ExitStack() as undo:
            # Not in pytest's own folder, which outlives the tests.
            self.folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="ceph-")))
            self._undo = undo
            self._start_storage()
            self.start_gateway()
            undo.callback(self.stop_gateway)
            self.add_user("tester", self.keys)
            self._at_end = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._at_end.close()

    def _start_storage(self) -> None:
        folder = self.folder
        fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        (folder / "ceph.conf").write_text(
            _CONFIGURATION.format(
                fsid=fsid,
                folder=folder,
                port=self.port,
                mon_port=self._mon_port,
                old_mon_port=self._old_mon_port,
                capacity=_CAPACITY,
            )
        )
        for part in ("mon", "osd", "rgw"):
            (folder / part).mkdir()
        keyring = folder / "keyring"
        keyring.touch(mode=0o600)
        for name, rights in {
            "mon.": ("mon", "allow *"),
            "client.admin": ("mon", "allow *", "osd", "allow *", "mgr", "allow *"),
            "osd.0": ("mon", "allow profile osd", "osd", "allow *", "mgr", "allow profile osd"),
            "client.rgw": ("mon", "allow rw", "osd", "allow rwx", "mgr", "allow rw"),
        }.items():
            caps = [
                word for part, right in zip(rights[::2], rights[1::2], strict=True) for word in ("--cap", part, right)
            ]
            self._run("ceph-authtool", str(keyring), "--gen-key", "-n", name, *caps)
        addresses = f"[v2:127.0.0.1:{self._mon_port},v1:127.0.0.1:{self._old_mon_port}]"
        monmap = str(folder / "monmap")
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", addresses, monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", str(keyring))
        self._daemon("ceph-mon", "-i", "a")
        self._run("ceph", "osd", "new", osd)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._daemon("ceph-osd", "-i", "0")

    def start_gateway(self) -> None:
        """Answer again if it does not, with all the data that there was."""
        if self._gateway is not None:
            return
        self._gateway = self._daemon("radosgw", "-n", "client.rgw", undo=False)
        limit = time.monotonic() + _SECONDS
        while time.monotonic() < limit and self._gateway.poll() is None:
            try:
                urllib.request.urlopen(self.endpoint, timeout=2).close()
                return
            except (URLError, OSError):
                time.sleep(0.1)
        raise RuntimeError(f"Ceph's S3 gateway did not answer:\n{self._log('client.rgw')}")

    def stop_gateway(self) -> None:
        """Refuse connections, and break those that there are."""
        if self._gateway is not None:
            self._gateway.terminate()  # killed, it would leave its watches, which hold up new buckets for half a minute
            self._gateway.wait(_SECONDS)
            self._gateway = None

    def add_user(self, name: str, keys: Keys) -> Keys:
        """A user of the server, who may make buckets but has no rights in those of others."""
        words = (f"--uid={name}", f"--display-name={name}", f"--access-key={keys.access}", f"--secret={keys.secret}")
        self._run("radosgw-admin", "user", "create", *words)
        return keys

    def _run(self, *words: str) -> None:
        result = subprocess.run(
            words, env=self._settings(), timeout=_SECONDS, capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise RuntimeError(f"{' '.join(words[:3])} failed while Ceph was started:\n{result.stderr[-2000:]}")

    def _daemon(self, *words: str, undo: bool = True) -> subprocess.Popen[bytes]:
        # In the foreground, so that it dies with this process, however that dies; in its own session, so that a Ctrl-C
        # at the terminal reaches the tests only.
        process = subprocess.Popen(
            ("setpriv", "--pdeathsig", "KILL", *words, "-f"),
            env=self._settings(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if undo:
            self._undo.callback(process.wait)
            self._undo.callback(process.kill)
        return process

    def _settings(self) -> dict[str, str]:
        return {**os.environ, "CEPH_CONF": str(self.folder / "ceph.conf")}

    def _log(self, name: str) -> str:
        log = self.folder / f"{name}.log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else "it left no log"


def installed_server() -> CephServer:
    """The server for a test: where Ceph is not installed, the test skips, but fails in continuous integration."""
    try:
        return CephServer()
    except CephNotInstalled as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
