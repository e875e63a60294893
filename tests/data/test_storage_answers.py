"""What a server answers that refuses, redirects, is overloaded or is none: one line that names the cause, and no answer
that passes for an empty bucket or a write that was done."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from restore_dit import cli
from restore_dit.data import storage
from restore_dit.data.storage import objects, s3_service
from restore_dit.errors import StorageUnavailable, UserError

ACTIONS: dict[str, Callable[[str], object]] = {
    "read": storage.read_bytes,
    "read ranges": lambda uri: storage.read_ranges(uri, [(0, 1)]),
    "read a version": storage.read_versioned,
    "open": storage.open_file,
    "look up": storage.exists,
    "look up a folder": storage.is_folder,
    "list": storage.list_names,
    "write": lambda uri: storage.write_bytes_atomically(uri, b"content"),
    "write in parts": lambda uri: storage.write_bytes_atomically(uri, bytes(objects.PART + 1)),
    "delete": storage.delete,
    "delete a folder": storage.delete_folder,
    "clean": storage.delete_abandoned_writes,
}


class Server(ThreadingHTTPServer):
    """Answers every request alike."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet: clients hang up on what is no answer."""

    status, headers, content = 200, {}, b""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.server.status)
        for name, value in {"Content-Length": str(len(self.server.content)), **self.server.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.server.content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def listening() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def server(listening: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    for module in (s3_service, objects):
        monkeypatch.setattr(module, "ATTEMPTS", 1)  # whose pauses are tested elsewhere
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-key")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listening.server_port}")
    listening.status, listening.headers, listening.content = 200, {}, b""
    return listening


def refusal(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>x</Message></Error>".encode()


def refusals(actions: dict[str, Callable[[str], object]]) -> dict[str, UserError]:
    said = {}
    for name, action in actions.items():
        with pytest.raises(UserError, match=r"^s3://bucket/x: cannot [a-z ]+: .+$") as error:
            action("s3://bucket/x")
        assert "\n" not in str(error.value)
        said[name] = error.value
    return said


@pytest.mark.parametrize(
    ("status", "code", "names"),
    [
        (400, "ExpiredToken", "AWS_SESSION_TOKEN"),
        (400, "InvalidToken", "AWS_SESSION_TOKEN"),
        (403, "InvalidAccessKeyId", "AWS_SESSION_TOKEN"),
        (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        (403, "RequestTimeTooSkewed", "clock"),
        (403, "AccessDenied", "AWS_SECRET_ACCESS_KEY"),
        (301, "PermanentRedirect", "AWS_REGION"),
        (400, "AuthorizationHeaderMalformed", "AWS_REGION"),
        (404, "NoSuchBucket", "bucket does not exist"),
        (503, "SlowDown", "overloaded"),
        (500, "InternalError", "overloaded"),
    ],
)
def test_the_cause_of_a_refusal_is_named(server: Server, status: int, code: str, names: str) -> None:
    server.status, server.content = status, refusal(code)
    said = refusals(ACTIONS)
    assert {name: names in str(error) for name, error in said.items()} == dict.fromkeys(ACTIONS, True)
    assert {isinstance(error, StorageUnavailable) for error in said.values()} == {status >= 500}


@pytest.mark.parametrize(
    ("status", "content"),
    [(200, b"<html>login</html>"), (200, b""), (200, b"{}"), (301, b"moved"), (400, b"<html>"), (404, b"nothing")],
)
def test_what_is_no_s3_server_is_taken_for_none(server: Server, status: int, content: bytes) -> None:
    server.status, server.content, server.headers = status, content, {"Content-Type": "text/html"}
    readers = {name: action for name, action in ACTIONS.items() if name != "open" or status != 200}
    assert {"AWS_ENDPOINT_URL" in str(error) for error in refusals(readers).values()} == {True}


def test_a_page_that_is_stored_is_a_page(server: Server) -> None:
    server.content, server.headers = b"<html>", {"Content-Type": "text/html", "ETag": '"1"'}
    assert storage.exists("s3://bucket/report.html")
    assert storage.read_bytes("s3://bucket/report.html") == b"<html>"


@pytest.mark.parametrize(("code", "names"), [("ExpiredToken", "AWS_SESSION_TOKEN"), (None, "AWS_ENDPOINT_URL")])
@pytest.mark.parametrize("words", [["inspect", "s3://bucket/st"], ["export", "s3://bucket/st", "x.nc"]])
def test_a_command_says_so_in_one_line(
    server: Server, capsys: pytest.CaptureFixture[str], words: list[str], code: str | None, names: str
) -> None:
    server.status, server.content = (400, refusal(code)) if code else (200, b"<html>login</html>")
    assert cli.main(words) == 1
    said = capsys.readouterr().err
    assert names in said
    assert said.count("\n") == 1


def test_a_server_that_hangs_up_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=hang_up, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        said = refusals({name: ACTIONS[name] for name in ("read", "look up", "write", "list")})
        listener.shutdown(socket.SHUT_RDWR)
    assert {type(error) for error in said.values()} == {StorageUnavailable}
