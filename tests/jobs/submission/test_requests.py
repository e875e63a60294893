"""What a cluster gets to see of a client, and what a client that is interrupted leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import aiohttp
import pytest
from ray import __version__ as ray_version

from jobs.submission.client import ClusterClient
from jobs.submission.target import find_target
from restore_dit.cli import main


@dataclass
class Server:
    """Answers as a dashboard without jobs and packages does; remembers what it was asked."""

    on_request: Callable[[str], object] = lambda request: None
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """(method and path, header Authorization) of every request."""
    url: str = ""


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = f"{self.command} {self.path}"
            server.asked.append((request, self.headers.get("Authorization")))
            server.on_request(request)
            answer = {"/api/version": {"ray_version": ray_version}, "/api/jobs/": []}.get(self.path)
            self.send_response(404 if answer is None and self.command != "PUT" else 200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_GET = do_PUT = do_POST = do_CONNECT = answer

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        server.url = f"http://127.0.0.1:{running.server_address[1]}"
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        running.shutdown()


@pytest.fixture(autouse=True)
def somebody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user with a token and nothing else."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in [name for name in os.environ if name.startswith("RAY_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "TOP-SECRET")


@pytest.mark.parametrize("token", ["TOP-SECRET", None])
def test_the_token_goes_to_the_cluster_itself_and_no_other_password_does(tmp_path, monkeypatch, token):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password of-another-server\n")
    (tmp_path / ".netrc").chmod(0o600)
    if token is None:
        monkeypatch.delenv("RAY_AUTH_TOKEN")
    # An earlier test may have connected this very process to a cluster, whose token Ray then keeps.
    monkeypatch.setattr("ray._private.authentication.authentication_utils.is_token_auth_enabled", lambda: False)
    with serving(Server()) as cluster, serving(Server()) as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        client = ClusterClient(find_target(cluster.url))
        assert client.jobs() == []
        with pytest.raises(aiohttp.WSServerHandshakeError):
            asyncio.run(anext(client.log_as_it_grows("train-site-1")))
    assert proxy.asked == []
    expected = f"Bearer {token}" if token else None
    assert cluster.asked[-1] == ("GET /api/jobs/train-site-1/logs/tail", expected)
    assert {authorization for _, authorization in cluster.asked} == {expected}


@pytest.mark.parametrize(
    ("interrupted", "begun"), [("GET /api/packages", False), ("PUT /api/packages", False), ("POST /api/jobs/", True)]
)
def test_an_interrupt_says_whether_anything_was_started(capsys, interrupted, begun):
    def interrupt(request: str) -> None:
        if request.startswith(interrupted):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with serving(Server(interrupt)) as server:
            status = main(["submit", "simulate", "output=s3://bucket/store", "--address", server.url])
    finally:
        signal.signal(signal.SIGINT, before)
    error = capsys.readouterr().err
    assert status == 130
    assert ("simulate-store-" in error) == begun
    assert ("restore-dit job status" in error or "restore-dit job logs" in error) == begun
