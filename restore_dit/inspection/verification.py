"""Verifies that the files of a tile store are unchanged since they were committed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed

from restore_dit.data import storage
from restore_dit.data.store.manifest import MANIFEST_NAME, ObjectRecord, checksum
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError

_THREADS = 8
"""Number of files read, or tiles decoded, in parallel and thus held in memory."""


def verify_store(
    store: TileStore, on_progress: Callable[[int, int], None] | None = None, *, deep: bool = False
) -> list[str]:
    """Compares every file of the store with the manifest; returns one line, sorted, for each file that is missing,
    differs or is not in the manifest.

    Args:
        store: the opened store.
        on_progress: called with (files read, total files).
        deep: also decode every frame of every tile and layer whose file is correct.

    Raises:
        UserError: the folders of the store cannot be listed.
    """
    expected = {
        path: (tile_id, entry) for tile_id in store.tile_ids for path, entry in store.record(tile_id).objects.items()
    }
    problems = [
        f"{store.location.join(path).uri}: not in {MANIFEST_NAME}: the next "
        f"{'`detect-clouds` of this kind' if path.startswith('layers/clouds-') else 'ingest into this store'} adds it; "
        "or delete it"
        for path in _present(store)
        if path not in expected
    ]
    bad_tiles = set()
    with ThreadPoolExecutor(_THREADS) as pool:
        checks = {
            pool.submit(_check_file, store.location.join(path), entry): tile_id
            for path, (tile_id, entry) in expected.items()
        }
        try:
            for done, check in enumerate(as_completed(checks), start=1):
                problem = check.result()
                if problem:
                    problems.append(problem)
                    bad_tiles.add(checks[check])
                if on_progress:
                    on_progress(done, len(expected))
            if deep:
                good = [tile_id for tile_id in store.tile_ids if tile_id not in bad_tiles]
                problems += [problem for problem in pool.map(lambda tile_id: _decode(store, tile_id), good) if problem]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # on Ctrl-C, do not wait for queued work
            raise
    return sorted(problems)


def _present(store: TileStore) -> Iterator[str]:
    """Paths within the store of all files in the folders of tiles and layers."""
    layers = storage.list_names(store.location.join("layers"))
    for folder in ("tiles", *(f"layers/{layer}" for layer in layers)):
        for name in storage.list_names(store.location.join(folder)):
            yield f"{folder}/{name}"


def _check_file(location: storage.Location, entry: ObjectRecord) -> str | None:
    try:
        content = storage.read_bytes(location)
    except UserError as error:
        return str(error)
    if len(content) != entry.size:
        return f"{location.uri}: {len(content)} bytes, {MANIFEST_NAME} says {entry.size}: restore it"
    if checksum(content) != entry.checksum:
        return f"{location.uri}: its checksum is not the one in {MANIFEST_NAME}: restore it"
    return None


def _decode(store: TileStore, tile_id: str) -> str | None:
    """The reason why a tile cannot be decoded, or None."""
    try:
        tile = store.load(tile_id, layers=store.record(tile_id).layers)
        for stored in (tile.optical, *tile.radar.values(), *tile.layers.values()):
            stored.decode()
    except UserError as error:
        return str(error)
    return None
