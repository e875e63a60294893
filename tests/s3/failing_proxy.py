"""Stands before an S3 server and passes requests on, but for those that a test wants to fail."""

from __future__ import annotations

import http.client
import socket
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit

REFUSAL = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>as the test wants it</Message></Error>"
_REFUSALS = {"SlowDown": 503, "InternalError": 500, "NotImplemented": 501}


class FailingProxy:
    """Its `failures` befall the next requests, one each: "SlowDown", "InternalError" or "NotImplemented" as the answer;
    "drop", the connection without an answer; "cut", the answer in its middle; "lose", the answer to a request that was
    carried out; "hang", no answer ever. "pass" lets one through. `requests` are those that came, such as
    "GET /bucket/key"."""

    def __init__(self, endpoint: str) -> None:
        self.target = urlsplit(endpoint).netloc
        self.failures: deque[str] = deque()
        self.requests: list[str] = []
        self.hanging = threading.Event()
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FailingProxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FailingProxy

    def do_GET(self) -> None:
        proxy = self.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        proxy.requests.append(f"{self.command} {self.path}")
        failure = proxy.failures.popleft() if proxy.failures else "pass"
        if failure in _REFUSALS:
            content = REFUSAL.format(code=failure).encode()
            self._answer(_REFUSALS[failure], {"Content-Type": "application/xml"}, content)
        elif failure == "hang":
            proxy.hanging.set()
            proxy._released.wait()
        elif failure == "drop":
            self._break_off()
        else:
            self._pass_on(body, failure)

    do_PUT = do_POST = do_HEAD = do_DELETE = do_GET

    def _pass_on(self, body: bytes, failure: str) -> None:
        connection = http.client.HTTPConnection(self.proxy.target, timeout=60)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
        except OSError:  # the server is away
            self._break_off()
            return
        finally:
            connection.close()
        if failure == "lose":
            self._break_off()
            return
        framing = ("Connection", "Content-Length", "Transfer-Encoding")
        headers = {name: value for name, value in answer.getheaders() if name not in framing}
        headers["Content-Length"] = answer.getheader("Content-Length", str(len(content)))
        self._answer(answer.status, headers, content[: len(content) // 2] if failure == "cut" else content)
        if failure == "cut":
            self._break_off()

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _break_off(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""
