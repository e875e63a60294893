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
    ("status", "body", "message"),
    [
        (200, "<html>Grafana</html>", "answers, but not as a Ray dashboard does"),
        (200, '{"version": "12.1"}', "answers, but not as a Ray dashboard does"),
        (404, "no", r"not as a Ray dashboard does \(HTTP 404\)"),
        (500, "", r"HTTP 500"),
        (403, "Forbidden", "refuses the token from RAY_AUTH_TOKEN"),
        (200, json.dumps({"ray_version": "2.31.0"}), f"runs Ray 2.31.0, and this project is made for {ray_version}"),
    ],
)
def test_another_server_is_refused(status, body, message):
    with server(status, body) as target, pytest.raises(UserError, match=message) as refusal:
        ClusterClient(target)
    assert "TOP-SECRET" not in str(refusal.value)


def test_no_token_where_one_is_asked_for():
    with (
        server(401, "Unauthorized") as target,
        pytest.raises(UserError, match="asks for a token; set RAY_AUTH_TOKEN_PATH"),
    ):
        ClusterClient(Target(target.url, None, None))


def test_nobody_there():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Unreachable, match="nobody answers there \\(Connection refused\\)"):
            ClusterClient(Target(url, None, None))
    with pytest.raises(Unreachable, match="nobody answers there"):
        ClusterClient(Target("http://head.invalid:8265", None, None))
    with server(200, "") as target, pytest.raises(Unreachable, match=r"no secure connection.*http:// there\?"):
        ClusterClient(Target(target.url.replace("http://", "https://"), None, None))


def test_a_server_that_never_answers_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(client, "SECONDS_TO_ANSWER", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(Unreachable, match="no answer within the time limit"):
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
