"""Storage at any URI: what it reads, that writes are atomic, and that every failure is one clear line."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import ClassVar

import pytest

from restore_dit.data import storage
from restore_dit.errors import StorageUnavailable, UserError
from tests.messages import refused


class RefusingServer(BaseHTTPRequestHandler):
    """Answers every request as an S3 server that refuses: `code` and the status that goes with it."""

    code = "AccessDenied"
    statuses: ClassVar[dict[str, int]] = {"NoSuchBucket": 404}
    paths: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.paths.append(self.path)
        body = f"<?xml version='1.0'?><Error><Code>{self.code}</Code><Message>no</Message></Error>".encode()
        self.send_response(self.statuses.get(self.code, 403))
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_PUT = do_POST = do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[RefusingServer]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), RefusingServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-key")
    yield RefusingServer
    server.shutdown()
    server.server_close()


def test_plain_path_and_file_uri_are_the_same_place(tmp_path: Path) -> None:
    storage.write_bytes_atomically(tmp_path / "a folder" / "x.bin", b"content")
    uri = (tmp_path / "a folder").as_uri()  # percent-encoded
    assert storage.read_bytes(storage.locate(uri).join("x.bin")) == b"content"
    assert storage.list_names(uri) == ["x.bin"]
    assert storage.is_folder(uri)
    assert storage.exists(storage.locate(uri).join("x.bin"))
    storage.delete(f"{uri}/x.bin")
    assert not storage.exists(f"{uri}/x.bin")


def test_an_open_file_is_written_whole_from_its_beginning(tmp_path: Path) -> None:
    content = os.urandom(3_000_001)
    with SpooledTemporaryFile(1000) as file:
        file.write(content)
        storage.write_bytes_atomically(tmp_path / "folder" / "file", file)
    assert (tmp_path / "folder" / "file").read_bytes() == content


def test_a_folder_that_is_not_there_lists_as_empty(tmp_path: Path) -> None:
    assert storage.list_names(tmp_path / "absent") == []


def test_what_is_not_there_may_be_deleted(tmp_path: Path) -> None:
    storage.delete(tmp_path / "absent")
    storage.delete_folder(tmp_path / "absent")
    storage.write_bytes_atomically(tmp_path / "folder" / "deep" / "x", b"")
    storage.delete_folder(tmp_path / "folder")
    assert os.listdir(tmp_path) == []


def test_a_failed_write_leaves_the_old_content_and_no_debris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "manifest.json"
    storage.write_bytes_atomically(file, b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with refused(str(file)):
        storage.write_bytes_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["manifest.json"]


def test_debris_of_killed_writers_is_hidden_and_removed_once_it_is_old(tmp_path: Path) -> None:
    old, young = tmp_path / ".a.partial", tmp_path / ".b.partial"
    for partial in (old, young):
        partial.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert storage.list_names(tmp_path) == []
    storage.delete_abandoned_writes(tmp_path)
    assert os.listdir(tmp_path) == [young.name]


@pytest.mark.parametrize(
    ("uri", "facts"),
    [
        ("gopher://host/x", ["gopher://host/x", "'gopher://'"]),
        ("s3:///key", ["s3:///key"]),
        ("", ["s3://bucket/folder"]),
        ("file://host-elsewhere/x", ["file://host-elsewhere/x"]),
        ("file://", ["file://", "file:///folder"]),
        ("s3:/bucket/key", ["s3:/bucket/key"]),  # as Path("s3://bucket/key") reads
        ("C:/data", ["C:/data", "'c://'"]),
        ("s3://AKIA:ses/ame@bucket/key", ["AWS_ACCESS_KEY_ID"]),
        ("a\0b", ["a\\x00b"]),
        ("a\udcffb", ["a\\udcffb"]),
    ],
)
def test_a_uri_nobody_serves_is_refused(uri: str, facts: list[str]) -> None:
    with refused(*facts):
        storage.locate(uri)


def test_credentials_in_a_uri_are_refused_and_not_repeated() -> None:
    with pytest.raises(UserError) as error:
        storage.locate("s3://AKIA:sesame@bucket/key")
    assert "sesame" not in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_permission_denied_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with refused(f"{tmp_path}/x"):
        storage.write_bytes_atomically(tmp_path / "x", b"")


@pytest.mark.parametrize("place", ["absent.bin", "absent/deep.bin"])
def test_a_missing_file_is_named(tmp_path: Path, place: str) -> None:
    with refused(f"{tmp_path}/{place}"):
        storage.read_bytes(tmp_path / place)


def test_writing_below_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with refused(f"{tmp_path}/file/x"):
        storage.write_bytes_atomically(tmp_path / "file" / "x", b"")


def test_s3_locations_are_path_style_and_pickle_without_the_secret(refusing: type[RefusingServer]) -> None:
    location = storage.locate("s3://my-bucket/stores/one/")
    pickled = pickle.dumps(location.join("tiles", "a.parquet"))
    assert b"very-secret-key" not in pickled
    assert pickle.loads(pickled).path == "my-bucket/stores/one/tiles/a.parquet"  # noqa: S301 - our own, made above
    assert location.join("a").uri == "s3://my-bucket/stores/one/a"
    refusing.paths.clear()
    with pytest.raises(UserError):
        storage.read_bytes(location.join("a"))
    assert refusing.paths[0].startswith("/my-bucket/stores/one/a")


@pytest.mark.parametrize(
    ("code", "facts"),
    [
        ("NoSuchBucket", []),
        ("InvalidAccessKeyId", ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"]),
        ("SignatureDoesNotMatch", ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"]),
        ("AccessDenied", ["AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"]),
    ],
)
def test_what_an_s3_server_refuses_is_one_line(
    refusing: type[RefusingServer], monkeypatch: pytest.MonkeyPatch, code: str, facts: list[str]
) -> None:
    monkeypatch.setattr(refusing, "code", code)
    for action in (storage.list_names, lambda place: storage.write_bytes_atomically(place, b"x")):
        with refused("s3://bucket/folder", *facts):
            action("s3://bucket/folder")


def test_a_server_that_is_away_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
    with refused("s3://bucket/file", "AWS_ENDPOINT_URL", kind=StorageUnavailable):
        storage.read_bytes("s3://bucket/file")


def test_an_endpoint_that_is_no_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("ftp://host", "http://", "http://host:port", "http://host:70000"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with refused(f"AWS_ENDPOINT_URL={address}"):
            storage.locate("s3://bucket/file")


def test_cleaning_is_not_disturbed_by_writers_that_finish(tmp_path: Path) -> None:
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            storage.write_bytes_atomically(tmp_path / "file", b"content")

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    try:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            storage.delete_abandoned_writes(tmp_path)
    finally:
        done.set()
        for writer in writers:
            writer.join()


def test_an_address_of_another_kind_is_named_without_its_secrets() -> None:
    with pytest.raises(UserError, match=r"^ftp://host/folder: [^@?]*$"):
        storage.locate("ftp://me:secret@host/folder?token=secret")
