"""Parts of files: what is read, and how files that are too short, absent or out of reach fail."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_dit.data import storage
from restore_dit.errors import UserError

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
    with pytest.raises(UserError, match=r"file\.bin: cannot read: shorter than 1001 bytes"):
        storage.read_ranges(file, [(0, 10), (990, 11)], size)


def test_a_file_that_became_shorter_than_its_known_size_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    with pytest.raises(UserError, match="shorter than 5 bytes"):
        storage.read_ranges(tmp_path / "x", [(0, 5)], size=10)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent: not found"):
        storage.read_ranges(tmp_path / "absent", [(0, 1)])


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path}: cannot read"):
        storage.read_ranges(tmp_path, [(0, 1)])
