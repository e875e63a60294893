"""Storage on a real S3 server: what it holds after each call, in how many requests, and how each failure reads."""

from __future__ import annotations

import http.server
import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import SpooledTemporaryFile

import pytest

from restore_dit.data import storage
from restore_dit.data.storage import s3_service
from restore_dit.errors import StorageUnavailable, UserError
from tests.messages import assert_names, refused
from tests.s3.ceph_server import CephServer, Keys
from tests.s3.failing_proxy import FailingProxy

pytestmark = pytest.mark.s3

LARGE = os.urandom(40_000_000)
"""Goes up in three parts."""

ACTIONS: dict[str, Callable[[str], object]] = {
    "read": storage.read_bytes,
    "read ranges": lambda uri: storage.read_ranges(uri, [(0, 1)]),
    "read a version": storage.read_versioned,
    "look up": storage.exists,
    "look up a folder": storage.is_folder,
    "list": storage.list_names,
    "write": lambda uri: storage.write_bytes_atomically(uri, b"content"),
    "write in parts": lambda uri: storage.write_bytes_atomically(uri, LARGE),
    "write a version": lambda uri: storage.write_if_version(uri, b"content", None),
    "delete": storage.delete,
    "delete a folder": storage.delete_folder,
    "clean": storage.delete_abandoned_writes,
}


def keys(s3: CephServer, bucket: str) -> list[str]:
    pages = s3.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [entry["Key"] for page in pages for entry in page.get("Contents", ())]


def uploads(s3: CephServer, bucket: str) -> list[str]:
    return [upload["Key"] for upload in s3.client().list_multipart_uploads(Bucket=bucket).get("Uploads", ())]


def assert_every_action_names(uri: str, *facts: str, kind: type[UserError] = UserError) -> None:
    """Each action fails in a line that names where, and these facts; only what may pass is `StorageUnavailable`."""
    for action in ACTIONS.values():
        with refused(uri, *facts, kind=kind) as caught:
            action(uri)
        assert type(caught.value) is kind


@pytest.mark.parametrize("content", [b"", b"content", LARGE], ids=["empty", "small", "large"])
def test_an_open_file_is_written_whole_from_its_beginning(s3: CephServer, bucket: str, content: bytes) -> None:
    with SpooledTemporaryFile(1 << 20) as file:
        file.write(content)
        storage.write_bytes_atomically(f"s3://{bucket}/file", file)
    assert storage.read_bytes(f"s3://{bucket}/file") == content
    assert uploads(s3, bucket) == []


@pytest.mark.parametrize("name", ["plain", "with spaces", "über+50%.bin", "日付"])
@pytest.mark.parametrize("content", [b"", b"content", LARGE], ids=["empty", "small", "large"])
def test_what_is_written_is_read_and_nothing_else_is_there(
    s3: CephServer, bucket: str, name: str, content: bytes
) -> None:
    storage.write_bytes_atomically(f"s3://{bucket}/a folder/{name}", content)
    assert storage.read_bytes(f"s3://{bucket}/a folder/{name}") == content
    assert storage.list_names(f"s3://{bucket}/a folder") == [name]
    assert keys(s3, bucket) == [f"a folder/{name}"]
    assert uploads(s3, bucket) == []


def test_a_folder_is_what_lies_below_it(s3: CephServer, bucket: str) -> None:
    store = storage.locate(f"s3://{bucket}/store")
    assert not storage.exists(store)
    assert storage.list_names(store) == []
    for path in ("manifest.json", "tiles/a", "tiles/b", "tiles/deep/c", ".hidden"):
        storage.write_bytes_atomically(store.join(*path.split("/")), b"x")
    storage.write_bytes_atomically(f"s3://{bucket}/store-2/other", b"x")
    s3.client().put_object(Bucket=bucket, Key="store/tiles/", Body=b"")  # as other programs mark a folder
    assert storage.list_names(store) == ["manifest.json", "tiles"]
    assert storage.list_names(store.join("tiles")) == ["a", "b", "deep"]
    assert storage.list_names(f"s3://{bucket}") == ["store", "store-2"]
    assert storage.is_folder(store.join("tiles"))
    assert storage.exists(store.join("tiles"))
    assert not storage.is_folder(store.join("manifest.json"))
    assert not storage.exists(store.join("tile"))
    storage.delete(store.join("manifest.json"))
    storage.delete_folder(store.join("tiles"))
    assert keys(s3, bucket) == ["store-2/other", "store/.hidden"]


def test_folders_of_more_objects_than_one_answer_holds(s3: CephServer, bucket: str) -> None:
    names = [f"{index:05d}" for index in range(1005)]
    client = s3.client()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: client.put_object(Bucket=bucket, Key=f"many/{name}", Body=b""), names))
    assert storage.list_names(f"s3://{bucket}/many") == names
    storage.delete_folder(f"s3://{bucket}/many")
    assert keys(s3, bucket) == []


def test_one_request_each(proxy: FailingProxy, bucket: str) -> None:
    uri = f"s3://{bucket}/file"
    calls: dict[str, Callable[[], object]] = {
        "PUT": lambda: storage.write_bytes_atomically(uri, LARGE[:10_000_000]),
        "GET": lambda: storage.read_bytes(uri),
        "HEAD": lambda: storage.exists(uri),
        "DELETE": lambda: storage.delete(uri),
    }
    for method, call in calls.items():
        proxy.requests.clear()
        call()
        assert proxy.requests == [f"{method} /{bucket}/file"]


def test_ranges_that_lie_near_one_another_are_one_request(proxy: FailingProxy, bucket: str) -> None:
    uri = f"s3://{bucket}/file"
    storage.write_bytes_atomically(uri, LARGE[:10_000_000])
    ranges = [(9_000_000, 1000), (0, 10), (200_000, 50), (5, 0), (9_000_500, 999_500)]
    for gap, requests in ((storage.ranges.GAP, 2), (0, 3)):
        proxy.requests.clear()
        found = storage.read_ranges(uri, ranges, gap=gap)
        assert [bytes(one) for one in found] == [LARGE[offset : offset + length] for offset, length in ranges]
        assert [request.partition("?")[0] for request in proxy.requests] == [f"GET /{bucket}/file"] * requests


@pytest.mark.parametrize("ranges", [[(0, 8)], [(6, 2)], [(7, 1)], [(900, 1)], [(0, 1), (600_000, 1)]])
def test_a_range_beyond_the_end_is_one_line(bucket: str, s3: CephServer, ranges: list[tuple[int, int]]) -> None:
    storage.write_bytes_atomically(f"s3://{bucket}/file", b"content")
    with refused(f"s3://{bucket}/file", max(offset + length for offset, length in ranges)):
        storage.read_ranges(f"s3://{bucket}/file", ranges)


def test_ranges_are_those_of_the_object_that_is_there_now(s3: CephServer, bucket: str) -> None:
    uri = f"s3://{bucket}/file"
    for content in (b"content", b"another", b"longer content", b"short"):
        storage.write_bytes_atomically(uri, content)
        assert bytes(storage.read_ranges(uri, [(0, len(content))])[0]) == content
        with refused(uri, len(content) + 1):
            storage.read_ranges(uri, [(1, len(content))])
    storage.delete(uri)
    with refused(uri):
        storage.read_ranges(uri, [(0, 5)])


def test_a_missing_object_is_named(bucket: str) -> None:
    uri = f"s3://{bucket}/absent"
    for read in (storage.read_bytes, storage.open_file, partial(storage.read_ranges, ranges=[(0, 1)])):
        with refused(uri):
            read(uri)


def test_a_bucket_is_no_file(bucket: str) -> None:
    for name in ("read", "write", "delete", "read ranges", "write a version"):
        with refused(f"s3://{bucket}", f"s3://{bucket}/file"):
            ACTIONS[name](f"s3://{bucket}")
    assert storage.is_folder(f"s3://{bucket}")


def test_a_location_works_in_a_process_that_does_not_know_the_server(
    s3: CephServer, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write_bytes_atomically(f"s3://{bucket}/file", b"content")
    pickled = pickle.dumps(storage.locate(f"s3://{bucket}/file"))
    assert s3.keys.secret.encode() not in pickled
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert storage.read_bytes(pickle.loads(pickled)) == b"content"  # noqa: S301 - our own, made above


def test_failures_that_pass_go_unnoticed(proxy: FailingProxy, bucket: str) -> None:
    uri = f"s3://{bucket}/folder/file"
    for action in (
        lambda: storage.write_bytes_atomically(uri, b"content"),
        lambda: storage.read_bytes(uri),
        lambda: storage.read_ranges(uri, [(1, 3)]),
        lambda: storage.list_names(f"s3://{bucket}/folder"),
        lambda: storage.write_bytes_atomically(uri, LARGE),
        lambda: storage.exists(uri),
        lambda: storage.delete(uri),
    ):
        proxy.failures.extend(["drop", "InternalError", "drop"])
        action()
        assert not proxy.failures
    proxy.failures.extend(["SlowDown", "SlowDown"])  # with longer pauses
    assert storage.list_names(f"s3://{bucket}/folder") == []
    assert not proxy.failures


def test_an_answer_that_breaks_off_is_asked_for_again(proxy: FailingProxy, bucket: str) -> None:
    storage.write_bytes_atomically(f"s3://{bucket}/file", LARGE[:5_000_000])
    proxy.failures.extend(["cut", "cut"])
    assert storage.read_bytes(f"s3://{bucket}/file") == LARGE[:5_000_000]
    proxy.failures.extend(["cut"])
    assert bytes(storage.read_ranges(f"s3://{bucket}/file", [(7, 2_000_000)])[0]) == LARGE[7:2_000_007]


def test_a_server_that_keeps_failing_is_one_line(proxy: FailingProxy, bucket: str) -> None:
    proxy.failures.extend(["InternalError"] * 100)
    assert_every_action_names(f"s3://{bucket}/x", kind=StorageUnavailable)


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_keys_are_one_line(
    proxy: FailingProxy, bucket: str, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "sesame")
    assert_every_action_names(f"s3://{bucket}/x", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    with refused(f"s3://{bucket}/x", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        storage.open_file(f"s3://{bucket}/x")


def test_mended_keys_serve_in_the_same_process(bucket: str, s3: CephServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for read in (storage.list_names, storage.open_file):
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame")
        with pytest.raises(UserError, match="check"):
            read(f"s3://{bucket}/file")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.keys.secret)
        storage.write_bytes_atomically(f"s3://{bucket}/file", b"content")
        read(f"s3://{bucket}/file")


def test_no_keys_are_one_line(
    proxy: FailingProxy, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # as on a machine that is not AWS's
    assert_every_action_names(f"s3://{bucket}/x", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE")


@pytest.fixture(scope="module")
def stranger(ceph_server: CephServer) -> Keys:
    return ceph_server.add_user("stranger", Keys())


def test_keys_without_rights_are_one_line(
    proxy: FailingProxy, bucket: str, stranger: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", stranger.access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", stranger.secret)
    assert_every_action_names(f"s3://{bucket}/x", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "permissions")


def test_a_bucket_that_is_not_there_is_one_line_and_is_not_made(s3: CephServer) -> None:
    assert_every_action_names("s3://absent-bucket/x")
    assert "absent-bucket" not in [entry["Name"] for entry in s3.client().list_buckets()["Buckets"]]


def test_what_is_no_s3_server_is_one_line(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        assert_every_action_names("s3://bucket/x", "S3", "AWS_ENDPOINT_URL")
        server.shutdown()


def test_a_server_without_encryption_is_one_line(proxy: FailingProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint.replace("http:", "https:"))
    assert_every_action_names("s3://bucket/x", "AWS_ENDPOINT_URL", "https://", "AWS_CA_BUNDLE")


def test_a_server_that_is_away_is_one_line_and_soon(monkeypatch: pytest.MonkeyPatch, s3: CephServer) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        begin = time.monotonic()
        assert_every_action_names("s3://bucket/x", "AWS_ENDPOINT_URL", kind=StorageUnavailable)
        assert time.monotonic() - begin < 2 * len(ACTIONS)


def test_a_server_that_never_answers_is_waited_for_so_long(monkeypatch: pytest.MonkeyPatch, s3: CephServer) -> None:
    assert s3_service.ATTEMPTS * max(s3_service.REQUEST_SECONDS, s3_service.CONNECT_SECONDS) < 30
    monkeypatch.setattr(s3_service, "REQUEST_SECONDS", 0.4)
    s3_service._client.cache_clear()
    with socket.create_server(("127.0.0.1", 0), backlog=50) as deaf:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        for name in ("read", "write"):
            begin = time.monotonic()
            with refused("s3://bucket/x", "AWS_ENDPOINT_URL", kind=StorageUnavailable):
                ACTIONS[name]("s3://bucket/x")
            # A writer first waits a second for leave to send its content.
            assert 0.4 * s3_service.ATTEMPTS <= time.monotonic() - begin < 2.5 * s3_service.ATTEMPTS
    s3_service._client.cache_clear()  # another server may get this port


@pytest.mark.parametrize("action", ["read", "write"])
def test_a_server_that_goes_away_is_one_line_and_halves_nothing(s3: CephServer, bucket: str, action: str) -> None:
    uri = f"s3://{bucket}/file"
    storage.write_bytes_atomically(uri, LARGE)
    other = LARGE[::-1]
    said: list[str] = []

    def work() -> None:
        try:
            while True:
                if action == "write":
                    storage.write_bytes_atomically(uri, other)
                else:
                    assert storage.read_bytes(uri) == LARGE
        except StorageUnavailable as away:
            said.append(str(away))

    worker = threading.Thread(target=work)
    worker.start()
    time.sleep(0.7)
    s3.stop_gateway()
    worker.join(60)
    s3.start_gateway()
    assert len(said) == 1
    assert_names(said[0], uri, action, "AWS_ENDPOINT_URL")
    assert storage.read_bytes(uri) in (LARGE, other)
    storage.write_bytes_atomically(uri, other)
    assert storage.read_bytes(uri) == other


WRITER = """
import sys
from restore_dit.data import storage
storage.write_bytes_atomically(sys.argv[1], bytes(40_000_000))
"""


def test_a_killed_writer_leaves_no_object_and_its_parts_are_removed_once_they_are_old(
    proxy: FailingProxy, s3: CephServer, bucket: str
) -> None:
    uri = f"s3://{bucket}/folder/file"
    proxy.failures.extend(["pass", "pass", "hang"])  # the upload's beginning, one part, and not the other
    with subprocess.Popen([sys.executable, "-c", WRITER, uri]) as writer:
        assert proxy.hanging.wait(60)
        time.sleep(0.3)
        writer.send_signal(signal.SIGKILL)
    assert keys(s3, bucket) == []
    assert uploads(s3, bucket) == ["folder/file"]
    storage.delete_abandoned_writes(f"s3://{bucket}/folder", older_than=60)
    storage.delete_abandoned_writes(f"s3://{bucket}/elsewhere", older_than=0)
    assert uploads(s3, bucket) == ["folder/file"]
    storage.delete_abandoned_writes(f"s3://{bucket}/folder", older_than=0)
    assert uploads(s3, bucket) == []


GUIDE = Path(__file__).resolve().parents[2] / "docs" / "object_storage.md"


@pytest.mark.parametrize(
    "lacking", [None, ("s3:PutObject", "write"), ("s3:GetObject", "read"), ("s3:ListBucket", "list")]
)
def test_the_rights_that_the_guide_names_are_enough_and_needed(
    proxy: FailingProxy,
    s3: CephServer,
    bucket: str,
    stranger: Keys,
    monkeypatch: pytest.MonkeyPatch,
    lacking: tuple[str, str] | None,
) -> None:
    policy = json.loads(re.findall(r"```json\n(.*?)```", GUIDE.read_text(), re.DOTALL)[0].replace("BUCKET", bucket))
    for statement in policy["Statement"]:
        statement["Principal"] = {"AWS": ["arn:aws:iam:::user/stranger"]}
        statement["Action"] = [action for action in statement["Action"] if lacking is None or action != lacking[0]]
    s3.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    storage.write_bytes_atomically(f"s3://{bucket}/folder/file", b"content")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", stranger.access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", stranger.secret)
    if lacking:
        with refused(f"s3://{bucket}/folder/file", "AWS_ACCESS_KEY_ID", "permissions"):
            ACTIONS[lacking[1]](f"s3://{bucket}/folder/file")
        return
    s3.client().create_multipart_upload(Bucket=bucket, Key="folder/unfinished")
    storage.delete_abandoned_writes(f"s3://{bucket}", older_than=-60)
    assert uploads(s3, bucket) == []
    for action in ACTIONS.values():
        storage.write_bytes_atomically(f"s3://{bucket}/folder/file", b"content")
        action(f"s3://{bucket}/folder/file")
    storage.delete_folder(f"s3://{bucket}/folder")
    assert keys(s3, bucket) == []
