"""Cloud masks for the tiles of a store: which tiles lack them, and how they are made in any process.

report = run(plan_detection(config))
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restore_dit.clouds.detectors import Detector, detector_of
from restore_dit.config.clouds import DetectionConfig
from restore_dit.data.items import Outcome, Plan, RunReport
from restore_dit.data.loader import ahead
from restore_dit.data.store.manifest import Manifest
from restore_dit.data.store.mask_writer import MaskWriter
from restore_dit.data.store.masks import MaskOrigin
from restore_dit.data.store.tile_store import TileStore
from restore_dit.data.store.tile_writing import WrittenMasks, write_masks
from restore_dit.errors import UserError
from restore_dit.series import TileSeries

TILES_A_TASK = 4
"""Tiles per task on Ray: their frames share batches, and a worker that dies loses at most this many."""


@dataclass(frozen=True)
class TileMasker:
    """Reads tiles, detects their clouds and writes the masks. It can be pickled and so used in any process."""

    store: TileStore
    detector: Detector

    def __call__(self, tile_ids: Iterable[str]) -> Iterator[Outcome[WrittenMasks]]:
        """Yields an outcome for every tile, including those that fail. The next tile is read while one is processed;
        the detector may hold a few more.

        Raises:
            UserError: an error that is not a tile's: the detector cannot run here, or the store cannot be written.
        """
        waiting: deque[TileSeries] = deque()
        unreadable: list[Outcome[WrittenMasks]] = []

        def readable() -> Iterator[TileSeries]:
            for found in ahead(self._read, tile_ids):
                if isinstance(found, Outcome):
                    unreadable.append(found)
                else:
                    waiting.append(found)
                    yield found

        tiles = readable()
        masks = self.detector.detect(tiles)
        while True:
            try:
                clouds = next(masks, None)
            except UserError:
                if not waiting:
                    raise  # the error is not about a tile
                # One of the tiles that the detector holds: retry each of them alone, then continue.
                while waiting:
                    yield self._alone(waiting.popleft())
                masks = self.detector.detect(tiles)
                continue
            if clouds is None:
                break
            yield self._write(waiting.popleft(), clouds)
        yield from unreadable

    def _alone(self, series: TileSeries) -> Outcome[WrittenMasks]:
        try:
            (clouds,) = self.detector.detect([series])
        except UserError as error:
            return Outcome(series.tile_id, reason=str(error))
        return self._write(series, clouds)

    def _write(self, series: TileSeries, clouds: NDArray[np.uint8]) -> Outcome[WrittenMasks]:
        record = self.store.record(series.tile_id)
        return Outcome(series.tile_id, write_masks(self.store.location, series, clouds, self.detector.origin, record))

    def _read(self, tile_id: str) -> TileSeries | Outcome[WrittenMasks]:
        try:
            return self.store.load(tile_id, radar_tracks=(), layers=()).series()
        except UserError as error:
            return Outcome(tile_id, reason=str(error))


def plan_detection(config: DetectionConfig) -> Plan[str, WrittenMasks]:
    """Reads the store's manifest and the weights, and plans the run. Writes nothing.

    Raises:
        UserError: store or weights cannot be read, a tile does not exist, no tile has the bands that the detector
            needs, or tiles lack the masks that should have come with them.
    """
    store = TileStore.open(config.store)
    tile_ids = tuple(dict.fromkeys(config.tiles)) or store.tile_ids
    if config.method in ("source", "s2cloudless"):
        writer = MaskWriter(store, MaskOrigin(method=config.method))
        lacking = writer.todo(tile_ids)
        if lacking:
            raise UserError(
                f"{store.uri}: {len(lacking)} of {len(tile_ids)} tiles have no masks of method {config.method}, "
                f"first {lacking[0]}; ingest them with such masks, or choose another --method"
            )
        return Plan(lambda tile_ids: (), (), store.uri, there=len(tile_ids), writer=writer)
    detector = detector_of(config)
    writer = MaskWriter(store, detector.origin)
    lacking, refused = writer.todo(tile_ids), {}
    for tile_id in lacking:
        record = store.record(tile_id)
        try:
            detector.require(record.optical.bands, record.size, record.georeference)
        except UserError as error:
            refused[tile_id] = str(error)
    if refused and len(refused) == len(tile_ids):
        tile_id, reason = next(iter(refused.items()))
        raise UserError(f"{store.uri}: tile {tile_id}: {reason}")
    todo = [tile_id for tile_id in lacking if tile_id not in refused]
    return Plan(
        TileMasker(store, detector),
        todo,
        store.uri,
        there=len(tile_ids) - len(lacking),
        refused=refused,
        writer=writer,
        commit_every=config.commit_every,
        a_task=TILES_A_TASK if config.workers != 0 else max(len(todo), 1),
        stays=True,
        use_gpu=config.use_gpu,
    )


def frames_masked(report: RunReport[WrittenMasks]) -> int:
    """Number of acquisitions that a run has masked."""
    return sum(len(masks.counts.clear_pixels) for masks, _ in report.results.values())


def chosen_masks(manifest: Manifest) -> dict[str, int]:
    """Number of tiles by the origin of their masks in use."""
    counts: dict[str, int] = {}
    for record in manifest.tiles.values():
        origin = None if record.masks_in_use is None else record.masks[record.masks_in_use].origin
        counts[str(origin or "none")] = counts.get(str(origin or "none"), 0) + 1
    return counts
