"""The client reaches a service on this machine whatever proxy the environment names."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from restore_dit.client import Client, NoAnswer
from restore_dit.data import storage
from restore_dit.data.storage.addresses import on_loopback


class Handler(BaseHTTPRequestHandler):
    """A service and an S3 server whose every file is `[1]`."""

    def do_GET(self) -> None:
        self.send_response(200)
        for name, value in (("Content-Length", "3"), ("ETag", '"1"')):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"[1]")

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    with socket.socket() as nobody, ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        nobody.bind(("127.0.0.1", 0))
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{nobody.getsockname()[1]}")
            monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{nobody.getsockname()[1]}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.8.9.1"])
def test_a_service_on_loopback_is_reached_past_the_proxy(port: int, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", _to_this_machine)
    assert Client(f"http://{host}:{port}").models() == [1]


def test_the_client_of_a_service_does_without_pytorch() -> None:
    code = "import sys; from restore_dit.client import Client; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


_connect = socket.create_connection


def _to_this_machine(address: tuple[str, int], *rest: object, **options: object) -> socket.socket:
    return _connect(("127.0.0.1", address[1]), *rest, **options)  # type: ignore[arg-type]


def test_a_service_elsewhere_is_asked_for_of_the_proxy(port: int) -> None:
    with pytest.raises(NoAnswer, match="refused"):
        Client(f"http://service.example:{port}").models()


def test_storage_on_loopback_is_reached_past_the_proxy(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "somebody")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    assert storage.read_bytes("s3://bucket/file") == b"[1]"
    assert bytes(storage.read_ranges("s3://bucket/file", [(0, 3)])[0]) == b"[1]"


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("http://[::1]:80", True),
        ("http://127.0.0.1", True),
        ("http://a.localhost", True),
        ("", False),
        ("http://127.0.0.1.example", False),
    ],
)
def test_what_loopback_is(url: str, near: bool) -> None:
    assert on_loopback(url) == near
