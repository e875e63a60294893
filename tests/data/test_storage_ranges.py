"""Parts of files: what is read, and how files that are too short, absent or out of reach fail."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_dit.data import storage
from tests.messages import refused

CONTENT = bytes(index * 31 % 251 for index in range(1000))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranges") / "file.bin"
    path.write_bytes(CONTENT)
    return path


@given(st.lists(st.tuples(st.integers(0, 900), st.integers(0, 100)), max_size=8))
def test_ranges_come_in_the_order_asked_for(file: Path, ranges: list[tuple[int, int]]) -> None:
    found = storage.read_ranges(file, ranges)
    assert all(isinstance(buffer, pa.Buffer) for buffer in found)
    assert [bytes(buffer) for buffer in found] == [CONTENT[offset : offset + length] for offset, length in ranges]


@pytest.mark.parametrize("size", [None, 1000])
def test_a_range_beyond_the_end_is_one_line(file: Path, size: int | None) -> None:
    with refused("file.bin", 1001):
        storage.read_ranges(file, [(0, 10), (990, 11)], size)


def test_a_file_that_became_shorter_than_its_known_size_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    with refused(f"{tmp_path}/x", "5 bytes"):
        storage.read_ranges(tmp_path / "x", [(0, 5)], size=10)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with refused(f"{tmp_path}/absent"):
        storage.read_ranges(tmp_path / "absent", [(0, 1)])


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with refused(str(tmp_path)):
        storage.read_ranges(tmp_path, [(0, 1)])


def test_on_aws_objects_of_a_bucket_share_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setenv(name, "eu-west-1")
    stores = set()
    for index in range(5):
        service = storage.locate(f"s3://bucket/tiles/{index}.parquet").s3
        assert service is not None
        stores.add(id(service.store("bucket")))
    assert len(stores) == 1


def test_eight_readers_of_eight_ranges_keep_their_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    connections: list[object] = []
    clients: set[str] = set()

    class Server(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            connections.append(self)
            super().setup()

        def do_GET(self) -> None:
            time.sleep(0.05)  # so that all requests are under way at once
            clients.add(self.headers["User-Agent"].partition("/")[0])
            self.send_response(206)
            self.send_header("Content-Range", f"{self.headers['Range'].replace('=', ' ')}/{8 << 20}")
            self.send_header("Last-Modified", "Tue, 01 Dec 2026 09:00:00 GMT")
            self.send_header("Content-Length", "10")
            self.end_headers()
            self.wfile.write(bytes(10))

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    class Listener(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    server = Listener(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # not for a server on this machine
    ranges = [(index << 20, 10) for index in range(8)]
    opened = []
    for _ in range(2):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda index: storage.read_ranges(f"s3://bucket/{index}", ranges), range(32)))
        opened.append(len(connections))
    server.shutdown()
    server.server_close()
    assert opened[0] > 8  # they did read side by side
    assert clients == {"object_store"}  # nothing had to be repeated through boto3
    assert opened[1] - opened[0] < opened[0] / 4  # and what they opened serves again
