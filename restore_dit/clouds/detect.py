"""Computes masks for the tiles of a store: plans the work, detects clouds in any process, and commits regularly.

plan = plan_detection(config)
report = run_detection(plan, outcomes(plan))  # or outcomes_on_cluster(plan)
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from restore_dit.clouds.detectors import Detector, detector_of
from restore_dit.config.clouds import DetectionConfig
from restore_dit.data.loader import ahead
from restore_dit.data.store.manifest import Manifest, ObjectRecord
from restore_dit.data.store.mask_writer import MaskWriter
from restore_dit.data.store.masks import MaskOrigin, MaskRecord
from restore_dit.data.store.tile_store import TileStore
from restore_dit.data.store.tile_writing import write_masks
from restore_dit.errors import UserError
from restore_dit.series import TileSeries

TILES_A_TASK = 4
"""Tiles per task of an actor: their frames share batches, and a worker that dies loses at most this many."""

ACTOR_MEMORY = 1 << 30
"""Memory of an actor, in bytes: a few decoded tiles, the network and its activations."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of a tile: the records of its `masks` and their `file` as JSON, or the `reason` for a failure, or an
    error that is `fatal` for the whole run. It is small, since pixels never leave the process that read them."""

    tile_id: str
    masks: str = ""
    file: str = ""
    reason: str = ""
    fatal: str = ""
    frames: int = 0


@dataclass(frozen=True)
class TileMasker:
    """Reads tiles, detects their clouds and writes the masks. It can be pickled and so used in any process."""

    store: TileStore
    detector: Detector

    def __call__(self, tile_ids: Iterable[str]) -> Iterator[Outcome]:
        """Yields an outcome for every tile, including those that fail. The next tile is read while one is processed;
        the detector may hold a few more."""
        waiting: deque[TileSeries] = deque()
        unreadable: list[Outcome] = []

        def readable() -> Iterator[TileSeries]:
            for found in ahead(self._read, tile_ids):
                if isinstance(found, Outcome):
                    unreadable.append(found)
                else:
                    waiting.append(found)
                    yield found

        tiles, refused = readable(), True
        while refused:
            refused = False
            try:
                for clouds in self.detector.detect(tiles):
                    yield self._write(waiting.popleft(), clouds)
            except UserError as error:
                if not waiting:
                    yield Outcome("", fatal=str(error))  # the error is not about a tile
                    return
                # One of the tiles that the detector holds: retry each of them alone, then continue.
                refused = True
                while waiting:
                    yield self._alone(waiting.popleft())
        yield from unreadable

    def _alone(self, series: TileSeries) -> Outcome:
        try:
            (clouds,) = self.detector.detect([series])
        except UserError as error:
            return Outcome(series.tile_id, reason=str(error))
        return self._write(series, clouds)

    def _write(self, series: TileSeries, clouds: NDArray[np.uint8]) -> Outcome:
        record = self.store.record(series.tile_id)
        try:
            masks, file = write_masks(self.store.location, series, clouds, self.detector.origin, record)
        except UserError as error:
            return Outcome(series.tile_id, fatal=str(error))
        return Outcome(series.tile_id, masks.model_dump_json(), file.model_dump_json(), frames=len(series.optical))

    def _read(self, tile_id: str) -> TileSeries | Outcome:
        try:
            return self.store.load(tile_id, radar_tracks=(), layers=()).series()
        except UserError as error:
            return Outcome(tile_id, reason=str(error))


@dataclass(frozen=True)
class DetectionPlan:
    """A planned run. `todo`: tiles that lack masks of this origin, out of `tiles` in total; `refused`: those that
    cannot be masked, with the reasons."""

    config: DetectionConfig
    writer: MaskWriter
    masker: TileMasker | None
    todo: Sequence[str]
    tiles: int
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass
class DetectionReport:
    """Result of a run: the committed manifest, the numbers of tiles and frames masked, and the tiles that failed, with
    the reasons."""

    manifest: Manifest = field(default_factory=Manifest)
    added: int = 0
    frames: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def plan_detection(config: DetectionConfig) -> DetectionPlan:
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
        return DetectionPlan(config, writer, None, (), len(tile_ids))
    detector = detector_of(config)
    writer = MaskWriter(store, detector.origin)
    todo = writer.todo(tile_ids)
    refused = {}
    for tile_id in todo:
        record = store.record(tile_id)
        try:
            detector.require(record.optical.bands, record.size, record.georeference)
        except UserError as error:
            refused[tile_id] = str(error)
    if refused and len(refused) == len(tile_ids):
        tile_id, reason = next(iter(refused.items()))
        raise UserError(f"{store.uri}: tile {tile_id}: {reason}")
    todo = [tile_id for tile_id in todo if tile_id not in refused]
    return DetectionPlan(config, writer, TileMasker(store, detector), todo, len(tile_ids), refused)


def outcomes(plan: DetectionPlan) -> Iterator[Outcome]:
    """The outcome of each tile, computed one after the other in this process."""
    if plan.masker is not None:
        yield from plan.masker(plan.todo)


def outcomes_on_cluster(plan: DetectionPlan) -> Iterator[Outcome]:
    """The outcome of each tile, in the order in which actors finish. The tiles of an actor that dies are retried.

    Raises:
        UserError: the cluster lacks the GPUs, a worker raised a `UserError`, or workers keep dying.
    """
    from restore_dit.data.tasks_job import outcomes_of_actors  # which imports Ray

    assert plan.masker is not None
    groups = [plan.todo[first : first + TILES_A_TASK] for first in range(0, len(plan.todo), TILES_A_TASK)]
    return outcomes_of_actors(
        plan.masker,
        groups,
        plan.config.workers,
        use_gpu=plan.config.use_gpu,
        memory=ACTOR_MEMORY,
        where=plan.config.store,
    )


def run_detection(
    plan: DetectionPlan, found: Iterable[Outcome], on_tile: Callable[[Outcome, int, int], object] | None = None
) -> DetectionReport:
    """Adds the masks to the store's manifest, and commits it regularly and at the end, even after an error, so that no
    written mask is lost.

    Args:
        plan: from `plan_detection`.
        found: an outcome for each tile of `plan.todo`, in any order.
        on_tile: called with each outcome, the number of tiles done, and the total.

    Raises:
        UserError: an error affects the whole store.
    """
    writer, report, begin = plan.writer, DetectionReport(failed=dict(plan.refused)), time.perf_counter()
    committed_at, commit_took = begin, 0.0
    try:
        for done, outcome in enumerate(found, start=1):
            if outcome.fatal:
                raise UserError(outcome.fatal)
            if outcome.reason:
                report.failed[outcome.tile_id] = outcome.reason
            else:
                masks, file = (
                    MaskRecord.model_validate_json(outcome.masks),
                    ObjectRecord.model_validate_json(outcome.file),
                )
                writer.adopt(outcome.tile_id, (masks, file))
                report.added += 1
                report.frames += outcome.frames
            now = time.perf_counter()
            # Committing takes seconds in a large store, and masks are not lost before they are committed.
            if writer.uncommitted >= plan.config.commit_every and now - committed_at >= 20 * commit_took:
                writer.commit()
                committed_at = time.perf_counter()
                commit_took = committed_at - now
            if on_tile is not None:
                on_tile(outcome, done, len(plan.todo))
    except BaseException:
        with suppress(UserError):  # the user must see the error that ended the run
            writer.commit()
        raise
    report.manifest = writer.commit()
    report.seconds = time.perf_counter() - begin
    return report


def chosen_masks(manifest: Manifest) -> dict[str, int]:
    """Number of tiles by the origin of their masks in use."""
    counts: dict[str, int] = {}
    for record in manifest.tiles.values():
        origin = None if record.masks_in_use is None else record.masks[record.masks_in_use].origin
        counts[str(origin or "none")] = counts.get(str(origin or "none"), 0) + 1
    return counts
