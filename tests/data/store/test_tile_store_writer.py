"""Writing a tile store: nothing twice, nothing half, nothing lost, whoever else writes or dies."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from restore_dit.data import storage
from restore_dit.data.store.manifest import MANIFEST_NAME
from restore_dit.data.store.tile_store import TileStore, TileStoreWriter
from restore_dit.errors import UserError
from restore_dit.series import TileSeries
from tests.data.store.tiles import assert_same, store_of, tile
from tests.messages import refused


def test_every_commit_is_a_generation_and_the_fingerprint_is_the_content(tmp_path: Path) -> None:
    first = store_of(tmp_path / "one", tile("a"))
    assert first.manifest.generation == 1
    writer = TileStoreWriter(tmp_path / "one")
    assert writer.has("a")
    assert writer.commit().generation == 2
    assert TileStore.open(tmp_path / "one").fingerprint == first.fingerprint
    assert store_of(tmp_path / "two", tile("a")).fingerprint == first.fingerprint
    assert store_of(tmp_path / "three", tile("a", seed=1)).fingerprint != first.fingerprint


def test_tiles_never_change(tmp_path: Path) -> None:
    store_of(tmp_path, tile("a"))
    with refused("tile a"):
        TileStoreWriter(tmp_path).add(tile("a", seed=1))


def test_a_lost_manifest_is_recovered_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = store_of(tmp_path, tile("a"), tile("b", clouds=False)).manifest
    (tmp_path / MANIFEST_NAME).unlink()
    with refused(str(tmp_path)):
        TileStore.open(tmp_path)
    monkeypatch.setattr("restore_dit.data.store.stored_tile.decode_frame", None)
    assert TileStoreWriter(tmp_path, source="test").commit() == manifest


def test_layers_of_a_killed_run_are_not_taken_for_those_of_another_tile(tmp_path: Path) -> None:
    labelled = dataclasses.replace(tile("a", frames=4), layers={"labels": np.ones((3, 6, 5), np.uint8)})
    store_of(tmp_path, labelled)
    (tmp_path / MANIFEST_NAME).unlink()
    (tmp_path / "tiles/a.parquet").unlink()  # as if killed between the layers and the tile
    other = tile("a", frames=6, clouds=False)
    TileStoreWriter(tmp_path).add(other)
    TileStoreWriter(tmp_path).commit()  # by another process, which only finds the files
    store = TileStore.open(tmp_path)
    assert store.record("a").layers == ()
    assert_same(store.load("a").series(), other)


def test_a_layer_that_is_not_the_one_written_is_named(tmp_path: Path) -> None:
    labelled = dataclasses.replace(tile("a"), layers={"labels": np.ones((3, 6, 5), np.uint8)})
    store_of(tmp_path, labelled)
    (tmp_path / MANIFEST_NAME).unlink()
    (tmp_path / "layers/labels/a.parquet").write_bytes(b"PAR1")
    with refused("layers/labels/a.parquet"):
        TileStoreWriter(tmp_path).commit()


def test_a_stray_file_among_the_tiles_stops_nobody(tmp_path: Path) -> None:
    store_of(tmp_path, tile("a"))
    (tmp_path / "tiles" / "a copy (1).parquet").write_bytes(b"")
    assert store_of(tmp_path, tile("b")).tile_ids == ("a", "b")


def test_a_quarantined_tile_may_come_later(tmp_path: Path) -> None:
    writer = TileStoreWriter(tmp_path)
    writer.refuse("a", "no dates")
    writer.commit()
    with pytest.raises(UserError, match="no dates"):
        TileStore.open(tmp_path).load("a")
    assert store_of(tmp_path, tile("a")).manifest.quarantined == {}


def test_a_killed_ingest_leaves_no_half_tile_and_resumes(tmp_path: Path) -> None:
    script = """
        import os, signal, sys
        sys.path.insert(0, sys.argv[2])
        from tests.data.store.tiles import tile
        from restore_dit.data import storage
        from restore_dit.data.store.tile_store import TileStoreWriter
        writer = TileStoreWriter(sys.argv[1])
        for name in "abc":
            writer.add(tile(name))
        def die(*_):
            os.kill(os.getpid(), signal.SIGKILL)
        os.fsync = die  # the bytes of tile d are written, its name is not yet there
        writer.add(tile("d"))
    """
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path), str(Path(__file__).parents[3])], timeout=60
    )
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / MANIFEST_NAME).exists()
    left = [name for _, _, names in os.walk(tmp_path) for name in names if name.startswith(".")]
    assert len(left) == 1  # the unfinished write

    writer = TileStoreWriter(tmp_path)
    assert [name for name in "abcd" if writer.has(name)] == ["a", "b", "c"]
    written = (tmp_path / "tiles" / "a.parquet").stat().st_mtime_ns
    writer.add(tile("d"))
    writer.commit()
    assert (tmp_path / "tiles" / "a.parquet").stat().st_mtime_ns == written
    store = TileStore.open(tmp_path)
    for name in "abcd":
        assert_same(store.load(name).series(), tile(name))


def test_a_commit_between_reading_and_writing_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = TileStoreWriter(tmp_path), TileStoreWriter(tmp_path)
    first.add(tile("a"))
    listing = storage.list_names

    def other_commits_meanwhile(place: storage.Place) -> list[str]:
        names = listing(place)
        if not second.has("b"):
            second.add(tile("b"))
            second.commit(recover=False)
        return names

    monkeypatch.setattr(storage, "list_names", other_commits_meanwhile)
    first.commit(recover=False)
    assert TileStore.open(tmp_path).tile_ids == ("a", "b")


def test_what_a_writer_remembers_of_its_commits_is_what_readers_find(tmp_path: Path) -> None:
    """It parses the manifest again only where another has written it since."""
    first, second = TileStoreWriter(tmp_path), TileStoreWriter(tmp_path)
    for writer, name in ((first, "a"), (first, "b"), (second, "c"), (first, "d"), (first, "e")):
        writer.add(tile(name))
        assert writer.commit(recover=False) == TileStore.open(tmp_path).manifest
    assert TileStore.open(tmp_path).tile_ids == tuple("abcde")


def test_commits_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    script = """
        import sys
        sys.path.insert(0, sys.argv[2])
        from tests.data.store.tiles import tile
        from restore_dit.data.store.tile_store import TileStoreWriter
        writer = TileStoreWriter(sys.argv[1])
        for index in range(12):
            writer.add(tile(f"{sys.argv[3]}{index:02d}"))
            writer.refuse(f"bad-{sys.argv[3]}{index}", "no dates")
            writer.commit(recover=False)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path), str(Path(__file__).parents[3])]
    writers = [subprocess.Popen([*command, name]) for name in "xyz"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    manifest = TileStore.open(tmp_path).manifest
    assert list(manifest.tiles) == [f"{name}{index:02d}" for name in "xyz" for index in range(12)]
    assert len(manifest.quarantined) == 36
    assert manifest.generation == 36  # each commit is one of its own


@pytest.mark.parametrize("name", ["../a", "a/b", ".a", "", "a\0", "a" * 200, "..", "/etc/passwd"])
def test_unsafe_names_are_refused(tmp_path: Path, name: str) -> None:
    series = tile("t")
    with refused("tile id"):
        TileStoreWriter(tmp_path / "s").add(TileSeries(name, series.optical))
    with refused("radar track"):
        TileStoreWriter(tmp_path / "s").add(TileSeries("t", series.optical, radar={name: series.radar["S1A"]}))
