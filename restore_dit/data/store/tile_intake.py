"""Taking tiles into a store from whichever processes make them: each tile on its own, committed every so often.

plan = plan_ingest(config)              # or plan_cubes, plan_simulation
report = take_in(plan, outcomes(plan))  # or outcomes_on_cluster(plan)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from restore_dit.data import storage
from restore_dit.data.store.manifest import Manifest, TileRecord
from restore_dit.data.store.tile_store_writer import TileStoreWriter
from restore_dit.data.store.tile_writing import write_tile
from restore_dit.errors import UserError
from restore_dit.series import TileSeries


@dataclass(frozen=True)
class Outcome:
    """What became of a tile: its `record` as JSON, a `note` on it and `remarks` on what was left out of it, or the
    `reason` for which it is quarantined, or what is `fatal` to all. Small: pixels never leave the process that made
    them."""

    tile_id: str
    record: str = ""
    note: str = ""
    remarks: tuple[str, ...] = ()
    reason: str = ""
    fatal: str = ""
    seconds_read: float = 0.0
    seconds_written: float = 0.0


@dataclass(frozen=True)
class IntakePlan:
    """What is to be done.

    `todo` is what makes the tiles that the store lacks: patches, sites, indices. `work` takes some of them and gives an
    outcome for each; any process may have it. A task takes `a_task` of them and needs `task_memory` bytes. `there` is
    how many tiles the store has already, `bad` those that cannot be taken at all, with the reasons.
    """

    writer: TileStoreWriter
    work: Callable[[Sequence[Any]], Iterable[Outcome]]
    todo: Sequence[Any]
    task_memory: int
    a_task: int = 1
    there: int = 0
    bad: Mapping[str, str] = field(default_factory=dict)
    commit_every: int = 32

    @property
    def tasks(self) -> list[Sequence[Any]]:
        """What each task is given."""
        return [self.todo[first : first + self.a_task] for first in range(0, len(self.todo), self.a_task)]


@dataclass
class IntakeReport:
    """What was done: the manifest as committed, the tiles of this run that are quarantined, the bytes of those that
    were added, and seconds of work, over all processes."""

    manifest: Manifest = field(default_factory=Manifest)
    quarantined: dict[str, str] = field(default_factory=dict)
    added: int = 0
    bytes_written: int = 0
    seconds_read: float = 0.0
    seconds_written: float = 0.0


def outcomes(plan: IntakePlan) -> Iterator[Outcome]:
    """What becomes of each tile, one after the other in this process."""
    for items in plan.tasks:
        yield from plan.work(items)


def written(
    store: storage.Location, tile_id: str, make: Callable[[], TileSeries], fatal: type[UserError] | tuple[()] = ()
) -> Outcome:
    """Makes a tile and writes it, whatever is wrong with it. An error of the class `fatal` is no fault of the tile."""
    begin = time.perf_counter()
    try:
        series = make()
    except fatal as error:
        return Outcome(tile_id, fatal=str(error))
    except UserError as error:
        return Outcome(tile_id, reason=str(error))
    made = time.perf_counter()
    try:
        record = write_tile(store, series)
    except UserError as error:
        return Outcome(tile_id, fatal=str(error))
    return Outcome(
        tile_id,
        record=record.model_dump_json(),
        note=f"{len(series.optical)} acquisitions of {len(series.optical.bands)} bands",
        remarks=series.remarks,
        seconds_read=made - begin,
        seconds_written=time.perf_counter() - made,
    )


def take_in(
    plan: IntakePlan, found: Iterable[Outcome], on_tile: Callable[[Outcome, int, int], object] | None = None
) -> IntakeReport:
    """Takes up what becomes of the tiles, in any order, and commits the store every so often and at the end, however it
    ends: what was written is kept.

    Args:
        plan: what is to be done.
        found: an outcome for each tile of `plan.todo`.
        on_tile: called with each outcome, how many are done, and how many there are.

    Raises:
        UserError: source or store failed as a whole.
    """
    writer = plan.writer
    for tile_id, reason in plan.bad.items():
        writer.quarantine(tile_id, reason)
    report = IntakeReport(quarantined=dict(plan.bad))
    try:
        for done, outcome in enumerate(found, start=1):
            if outcome.fatal:
                raise UserError(outcome.fatal)
            if outcome.reason:
                writer.quarantine(outcome.tile_id, outcome.reason)
                report.quarantined[outcome.tile_id] = outcome.reason
            else:
                record = TileRecord.model_validate_json(outcome.record)
                writer.adopt(outcome.tile_id, record)
                report.added += 1
                report.bytes_written += sum(file.size for file in record.objects.values())
            report.seconds_read += outcome.seconds_read
            report.seconds_written += outcome.seconds_written
            if done % plan.commit_every == 0:
                writer.commit(recover=False)
            if on_tile is not None:
                on_tile(outcome, done, len(plan.todo))
    except BaseException:
        if report.added:
            with suppress(UserError):  # what ended the run is what the user must know
                writer.commit()
        raise
    report.manifest = writer.commit()
    return report
