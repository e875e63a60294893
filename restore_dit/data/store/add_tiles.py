"""Adds tiles to a store: each is made and written on its own, in this process or by Ray, and the manifest is committed
regularly.

plan = plan_patches(config)               # or plan_cubes, plan_simulation
report = add_tiles(plan, outcomes(plan))  # or outcomes_on_cluster(plan)
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
    """The result for a tile: its `record` as JSON with a `note` and `remarks` on what was left out, the `reason` for
    its quarantine, or an error that is `fatal` for the whole run. Small: pixels never leave the process that made
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
class TilePlan:
    """The work to be done.

    - `todo`: the sources of the tiles that the store lacks: patches, sites or indices.
    - `work`: processes some of them and yields an outcome for each; can be sent to any process.
    - `a_task`: number of items per task; `task_memory`: bytes reserved per task.
    - `there`: number of tiles already in the store.
    - `bad`: tiles that cannot be added, with the reasons.
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
        """The items of each task."""
        return [self.todo[first : first + self.a_task] for first in range(0, len(self.todo), self.a_task)]


@dataclass
class AddedTiles:
    """What was done: the manifest as committed, the tiles quarantined in this run, the number and bytes of added tiles,
    and seconds of work over all processes."""

    manifest: Manifest = field(default_factory=Manifest)
    quarantined: dict[str, str] = field(default_factory=dict)
    added: int = 0
    bytes_written: int = 0
    seconds_read: float = 0.0
    seconds_written: float = 0.0


def outcomes(plan: TilePlan) -> Iterator[Outcome]:
    """Yields the outcome of each tile, one after another in this process."""
    for items in plan.tasks:
        yield from plan.work(items)


def outcomes_on_cluster(plan: TilePlan, workers: int | None) -> Iterator[Outcome]:
    """Yields the outcome of each tile, in the order in which tasks finish, with at most `workers` concurrent tasks
    (None: one per CPU). A task whose worker dies is run again."""
    from restore_dit.data.tasks_job import outcomes_of_tasks  # which imports Ray

    return outcomes_of_tasks(plan.work, plan.tasks, workers, memory=plan.task_memory, where=plan.writer.location.uri)


def written(
    store: storage.Location, tile_id: str, make: Callable[[], TileSeries], fatal: type[UserError] | tuple[()] = ()
) -> Outcome:
    """Makes a tile, writes it and returns the outcome, including failures. An error of a class in `fatal` is not the
    tile's fault."""
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


def add_tiles(
    plan: TilePlan, found: Iterable[Outcome], on_tile: Callable[[Outcome, int, int], object] | None = None
) -> AddedTiles:
    """Collects the outcomes of tiles, in any order, and commits the store regularly and at the end. Written tiles are
    kept however the run ends.

    Args:
        plan: the work to be done.
        found: an outcome for each tile of `plan.todo`.
        on_tile: called with each outcome, the number done and the total.

    Raises:
        UserError: the source or the store failed as a whole.
    """
    writer = plan.writer
    for tile_id, reason in plan.bad.items():
        writer.refuse(tile_id, reason)
    report = AddedTiles(quarantined=dict(plan.bad))
    try:
        for done, outcome in enumerate(found, start=1):
            if outcome.fatal:
                raise UserError(outcome.fatal)
            if outcome.reason:
                writer.refuse(outcome.tile_id, outcome.reason)
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
            with suppress(UserError):  # the error that ended the run is the one to report
                writer.commit()
        raise
    report.manifest = writer.commit()
    return report
