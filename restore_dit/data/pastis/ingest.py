"""PASTIS-R to a tile store, patch by patch: planned once, each patch on its own, committed every so often.

ingest = plan_ingest(config)
outcomes = (ingest.one_patch(patch) for patch in ingest.todo)
report = run_ingest(ingest, outcomes)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from restore_dit.config.pastis import PastisConfig
from restore_dit.data import storage
from restore_dit.data.pastis.files import Source, SourceFile, cloud_mask_files, open_source
from restore_dit.data.pastis.layout import (
    BAD_FRAMES,
    METADATA,
    cloud_file,
    data_file,
    labels_file,
    parcel_ids_file,
)
from restore_dit.data.pastis.metadata import Patch, read_bad_frames, read_metadata
from restore_dit.data.pastis.read import PatchSource, read_patch
from restore_dit.data.pastis.reading_together import fetch_together, in_archive_order
from restore_dit.data.pastis.source_error import SourceUnreachable
from restore_dit.data.store.manifest import Manifest, TileRecord
from restore_dit.data.store.tile_store_writer import TileStoreWriter
from restore_dit.data.store.tile_writing import write_tile
from restore_dit.errors import UserError

SOURCE = "PASTIS-R"


@dataclass(frozen=True)
class Outcome:
    """What became of a patch: its `record` as JSON, or the `reason` for which it is quarantined, or what is `fatal` to
    all. Small: pixels never leave the process that read them."""

    patch: str
    record: str = ""
    reason: str = ""
    fatal: str = ""
    seconds_read: float = 0.0
    seconds_written: float = 0.0


@dataclass(frozen=True)
class PatchIngest:
    """Reads and writes single patches: a callable that any process may have."""

    config: PastisConfig
    store: storage.Location

    def __call__(self, source: PatchSource) -> Outcome:
        """One patch, whatever is wrong with it."""
        patch = source.patch.patch
        begin = time.perf_counter()
        try:
            series = read_patch(source, self.config)
        except SourceUnreachable as error:
            return Outcome(patch, fatal=str(error))
        except UserError as error:
            return Outcome(patch, reason=str(error))
        read = time.perf_counter()
        try:
            record = write_tile(self.store, series)
        except UserError as error:
            return Outcome(patch, fatal=str(error))
        written = time.perf_counter()
        return Outcome(
            patch, record=record.model_dump_json(), seconds_read=read - begin, seconds_written=written - read
        )

    def together(self, sources: Sequence[PatchSource]) -> Iterator[Outcome]:
        """Several patches, whose files are fetched by as few requests as may be where there are several."""
        begin = time.perf_counter()
        if len(sources) > 1:
            try:
                sources = fetch_together(sources)
            except SourceUnreachable as error:
                yield Outcome(sources[0].patch.patch, fatal=str(error))
                return
        fetched = (time.perf_counter() - begin) / len(sources)
        for outcome in map(self, sources):
            yield replace(outcome, seconds_read=outcome.seconds_read + fetched)


@dataclass(frozen=True)
class IngestPlan:
    """What is to be done: `todo` the patches that the store lacks, `a_task` how many of them one task takes, `there`
    how many the store has, `bad` those that cannot be taken at all, with the reasons."""

    config: PastisConfig
    writer: TileStoreWriter
    ingest: PatchIngest
    todo: Sequence[PatchSource]
    a_task: int
    there: int
    bad: Mapping[str, str]

    @property
    def tasks(self) -> list[Sequence[PatchSource]]:
        """The patches of each task."""
        return [self.todo[first : first + self.a_task] for first in range(0, len(self.todo), self.a_task)]


@dataclass
class IngestReport:
    """What was done: the manifest as committed, the patches of this run that are quarantined, seconds of work."""

    manifest: Manifest = field(default_factory=Manifest)
    quarantined: dict[str, str] = field(default_factory=dict)
    added: int = 0
    seconds_read: float = 0.0
    seconds_written: float = 0.0


def plan_ingest(config: PastisConfig) -> IngestPlan:
    """Looks at source and store; writes nothing.

    Raises:
        UserError: either cannot be read, broken metadata, patches or folds asked for that are not there.
    """
    source = open_source(config)
    origin = source.origin(METADATA)
    patches, bad = read_metadata(source.files[METADATA].read(), origin)
    patches, bad = _chosen(config, patches, bad, origin)
    files = {**source.files, **(cloud_mask_files(config.cloud_masks) if config.cloud_masks else {})}
    lists = _bad_frames(config, source)
    writer = TileStoreWriter(config.output, source=SOURCE)
    todo = tuple(
        PatchSource(patch, _files(files, patch.patch), None if lists is None else lists.get(patch.patch, []))
        for patch in patches
        if not writer.has(patch.patch)
    )
    bad = {patch: reason for patch, reason in bad.items() if not writer.has(patch)}
    a_task = 1
    if source.remote:
        todo, a_task = in_archive_order(todo), config.transfer.patches_a_request
    return IngestPlan(config, writer, PatchIngest(config, writer.location), todo, a_task, len(patches) - len(todo), bad)


def outcomes(plan: IngestPlan) -> Iterator[Outcome]:
    """What becomes of each patch, worked on one after the other in this process."""
    for sources in plan.tasks:
        yield from plan.ingest.together(sources)


def _chosen(
    config: PastisConfig, patches: list[Patch], bad: dict[str, str], origin: str
) -> tuple[list[Patch], dict[str, str]]:
    """The patches that the configuration asks for."""
    if config.patches:
        known = {patch.patch for patch in patches} | set(bad)
        unknown = [patch for patch in config.patches if patch not in known]
        if unknown:
            raise UserError(f"{origin}: no patch {unknown[0]}; correct --patches")
        patches = [patch for patch in patches if patch.patch in config.patches]
        bad = {patch: reason for patch, reason in bad.items() if patch in config.patches}
    if config.folds:
        folds = {str(fold) for fold in config.folds}
        patches = [patch for patch in patches if str(patch.properties.get("Fold")) in folds]
        if not patches:
            raise UserError(f"{origin}: no patch in fold {', '.join(sorted(folds))}; correct --folds")
        bad = {}
    return patches, bad


def _bad_frames(config: PastisConfig, source: Source) -> dict[str, list[int]] | None:
    if config.bad_frames:
        return read_bad_frames(storage.read_bytes(config.bad_frames), config.bad_frames)
    if BAD_FRAMES in source.files:
        return read_bad_frames(source.files[BAD_FRAMES].read(), source.origin(BAD_FRAMES))
    return None


def _files(files: Mapping[str, SourceFile], patch: str) -> dict[str, SourceFile]:
    """Of all files only this patch's, which is what a task gets to know."""
    names = [
        *(data_file(sensor, patch) for sensor in ("S2", "S1A", "S1D")),
        labels_file(patch),
        parcel_ids_file(patch),
        cloud_file(patch),
    ]
    return {name: files[name] for name in names if name in files}


def run_ingest(
    plan: IngestPlan, found: Iterable[Outcome], on_patch: Callable[[Outcome, int, int], object] | None = None
) -> IngestReport:
    """Takes up what becomes of the patches, in any order, and commits the store every so often and at the end, however
    it ends: what was written is kept.

    Args:
        plan: what `plan_ingest` found.
        found: an outcome for each patch of `plan.todo`.
        on_patch: called with each outcome, how many are done, and how many there are.

    Raises:
        UserError: source or store failed as a whole.
    """
    writer = plan.writer
    for patch, reason in plan.bad.items():
        writer.quarantine(patch, reason)
    report = IngestReport(quarantined=dict(plan.bad))
    done = uncommitted = 0
    try:
        for outcome in found:
            if outcome.fatal:
                raise UserError(outcome.fatal)
            if outcome.reason:
                writer.quarantine(outcome.patch, outcome.reason)
                report.quarantined[outcome.patch] = outcome.reason
            else:
                writer.adopt(outcome.patch, TileRecord.model_validate_json(outcome.record))
                report.added += 1
            report.seconds_read += outcome.seconds_read
            report.seconds_written += outcome.seconds_written
            done += 1
            uncommitted += 1
            if uncommitted == plan.config.commit_every:
                writer.commit(recover=False)
                uncommitted = 0
            if on_patch is not None:
                on_patch(outcome, done, len(plan.todo))
    except BaseException:
        if report.added:
            with suppress(UserError):  # what ended the ingest is what the user must know
                writer.commit()
        raise
    report.manifest = writer.commit()
    return report
