"""Addresses of folders whose names have spaces, umlauts, `#`, `?` or `%` in them: always the folder that is meant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_dit.data import storage
from restore_dit.data.storage.addresses import file_uri, path_of, retry_after, without_secrets
from restore_dit.errors import UserError

NAMES = [
    "with space",
    "Grünland",
    "feld#1",
    "was?",
    "50%",
    "100%abc",
    "a[1]{2}",
    "a:b;c=d&e+f@g",
    "日付",
    "x\\y",
    "a'b\"c",
]

parts = st.text(st.one_of(st.sampled_from("%%%0123aAfF5 #?"), st.characters(codec="utf-8", exclude_characters="/\0")))
names = parts.filter(lambda name: name not in ("", ".", ".."))


@given(st.lists(names, min_size=1, max_size=3))
def test_an_address_that_this_project_writes_leads_back(folders: list[str]) -> None:
    path = "/" + "/".join(folders)
    assert path_of(file_uri(path)) == path
    found = storage.locate(file_uri(path)).join("tiles", *folders)
    assert found.path == f"{path}/tiles{path}"
    assert storage.locate(found.uri) == found


@given(st.lists(names, min_size=1, max_size=3))
def test_an_address_that_pathlib_writes_is_read(folders: list[str]) -> None:
    path = Path("/nowhere", *folders)
    assert path_of(path.as_uri()) == str(path)


@given(st.lists(names, min_size=1, max_size=3))
def test_a_key_is_taken_as_it_is(folders: list[str]) -> None:
    key = "/".join(folders)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        found = storage.locate("s3://bucket/x").join(*folders)
        assert found.bucket_and_key == ("bucket", f"x/{key}")
        assert storage.locate(found.uri) == found


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_in_every_way_to_write_its_address(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    for number, address in enumerate((f"file://{folder}", folder.as_uri(), f"file:{folder}", str(folder), folder)):
        storage.write_bytes_atomically(storage.locate(address).join(f"{number} #.bin"), name.encode())
    assert os.listdir(tmp_path) == [name]
    assert sorted(os.listdir(folder)) == [f"{number} #.bin" for number in range(5)]
    with storage.open_file(f"file://{folder}/0 #.bin") as file:
        assert file.read() == name.encode()
    assert bytes(storage.read_ranges(f"file://{folder}/1 #.bin", [(0, 1)])[0]) == name.encode()[:1]


def test_where_a_percent_sign_may_mean_two_folders_the_one_that_is_there_counts(tmp_path: Path) -> None:
    address = f"file://{tmp_path}/my%20site/store"
    decoded, plain = f"{tmp_path}/my site/store", f"{tmp_path}/my%20site/store"
    assert path_of(address) == decoded
    (tmp_path / "my%20site").mkdir()
    assert path_of(address) == plain
    (tmp_path / "my site").mkdir()
    with pytest.raises(UserError, match="my%20site/store") as refused:
        path_of(address)
    # What the message proposes means one of them each.
    advice = str(refused.value).rpartition("write ")[2].split(" or ")
    assert [path_of(one) for one in advice] == [plain, decoded]


@pytest.mark.parametrize("address", ["file://data/store", "file://~/store", "file://$HOME/store", "file:///a b/c%20d"])
def test_what_may_be_anything_is_refused(address: str) -> None:
    with pytest.raises(UserError, match="file:///"):
        storage.locate(address)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("file:///a#b/c?d", "file:///a#b/c?d"),
        ("s3://bucket/feld #1?", "s3://bucket/feld #1?"),
        ("s3://bucket/a@b:c", "s3://bucket/a@b:c"),
        ("s3://key:secret@bucket/x", "s3://…"),
        ("s3://key:sec/ret@bucket/x", "s3://…"),
        ("https://me:secret@host/x?token=secret#secret", "https://host/x"),
        ("/a#b?c@d", "/a#b?c@d"),
    ],
)
def test_a_secret_is_not_shown_and_a_name_is(address: str, shown: str) -> None:
    assert without_secrets(address) == shown


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 0), ("0", 0), ("7", 7), ("1.5", 1.5), ("-3", 0), ("Wed, 21 Oct 2026 07:28:00 GMT", 5)],
)
def test_a_server_s_request_to_wait_is_read_in_seconds(header, seconds):
    assert retry_after(header) == seconds
