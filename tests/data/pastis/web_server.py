"""A real web server on this machine that serves byte ranges of one file, and fails as servers do."""

import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Behaviour:
    """What the server does: `drop` and `refuse` are shares of requests that break off midway or are answered 503;
    `cut` is how many answers hold fewer bytes than asked for, correctly declared; `ranges` whether it knows them;
    `limit` how many requests are first answered 429 with `retry_after` seconds."""

    content: bytes
    drop: float = 0.0
    refuse: float = 0.0
    cut: int = 0
    ranges: bool = True
    status: int = 206
    die_after: int | None = None
    limit: int = 0
    retry_after: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    lock: threading.Lock = field(default_factory=threading.Lock)
    requests: int = 0
    refused: int = 0
    dropped: int = 0
    sent: int = 0
    sent_in_vain: int = 0
    """Bytes of answers that broke off: some of them may have been lost on the way."""


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[str]:
    """The address of the file while the server runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with behaviour.lock:
                behaviour.requests += 1
                refuse = behaviour.chance.random() < behaviour.refuse
                drop = behaviour.chance.random() < behaviour.drop
                cut = behaviour.cut > 0 and not (refuse or drop)
                behaviour.cut -= cut
                dead = behaviour.die_after is not None and behaviour.requests > behaviour.die_after
            if dead:
                self.connection.close()
                return
            if behaviour.limit > 0:
                behaviour.limit -= 1
                self.send_response(429)
                self.send_header("Retry-After", str(behaviour.retry_after))
                self.end_headers()
                return
            if refuse:
                behaviour.refused += 1
                self.send_response(503)
                self.send_header("Retry-After", "0")
                self.end_headers()
                return
            content, status = behaviour.content, behaviour.status
            if status not in (200, 206):
                self.send_error(status)
                return
            if not behaviour.ranges:
                self.send_response(200)
                self.end_headers()
                return
            first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
            body = content[first : last + 1]
            if not body:
                self.send_error(416)
                return
            if cut:
                body = body[: max(1, len(body) // 2)]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{first + len(body) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if drop:
                body = body[: behaviour.chance.randrange(len(body))]
            self.wfile.write(body)
            with behaviour.lock:
                behaviour.sent += len(body)
                behaviour.dropped += drop
                behaviour.sent_in_vain += len(body) if drop else 0

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/PASTIS-R.zip"
    finally:
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()
