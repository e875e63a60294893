"""Servers that are not the cluster that was meant, each over a real connection."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ray import __version__ as ray_version

from jobs.submission import client
from jobs.submission.client import ClusterClient, Unreachable, check_versions
from jobs.submission.target import Target
from restore_dit.errors import UserError
from tests.messages import refused

pytestmark = pytest.mark.slow


@contextmanager
def server(status: int, body: str) -> Iterator[Target]:
    """Answers the first question of a client, for the version, with this, and no other."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked_for_version = self.path == "/api/version"
            self.send_response(status if asked_for_version else 418)
            self.end_headers()
            self.wfile.write(body.encode() if asked_for_version else b"I know of no jobs")

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield Target(f"http://127.0.0.1:{running.server_address[1]}", "TOP-SECRET", "RAY_AUTH_TOKEN")
        running.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "facts"),
    [
        (200, "<html>Grafana</html>", ["HTTP 200", "http://HEAD:8265"]),
        (200, '{"version": "12.1"}', ["HTTP 200", "http://HEAD:8265"]),
        (404, "no", ["HTTP 404", "http://HEAD:8265"]),
        (500, "", ["HTTP 500"]),
        (403, "Forbidden", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"]),
        (200, json.dumps({"ray_version": "2.31.0"}), ["2.31.0", ray_version]),
    ],
)
def test_another_server_is_refused(status, body, facts):
    with server(status, body) as target, refused(target.url, *facts) as refusal:
        ClusterClient(target)
    assert "TOP-SECRET" not in str(refusal.value)


def test_no_token_where_one_is_asked_for():
    with (
        server(401, "Unauthorized") as target,
        refused(target.url, "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN"),
    ):
        ClusterClient(Target(target.url, None, None))


def test_nobody_there():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with refused(url, "Connection refused", kind=Unreachable):
            ClusterClient(Target(url, None, None))
    with refused("http://head.invalid:8265", kind=Unreachable):
        ClusterClient(Target("http://head.invalid:8265", None, None))
    with server(200, "") as target, refused("https://127.0.0.1", "http://", kind=Unreachable):
        ClusterClient(Target(target.url.replace("http://", "https://"), None, None))


def test_a_server_that_never_answers_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(client, "SECONDS_TO_ANSWER", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with refused(url, kind=Unreachable):
            ClusterClient(Target(url, None, None))


def test_the_patch_version_may_differ():
    check_versions("2.60.3", "2.60.0", "http://head")
    with pytest.raises(UserError):
        check_versions("2.61.0", "2.60.0", "http://head")


def test_the_environment_names_no_other_cluster(monkeypatch):
    """Ray's own client prefers it to what it is told."""
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    with (
        server(200, json.dumps({"ray_version": ray_version})) as target,
        pytest.raises(UserError, match="I know of no jobs"),
    ):
        ClusterClient(target).jobs()
