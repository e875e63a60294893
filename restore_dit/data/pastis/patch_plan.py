"""Plans which patches of PASTIS-R a tile store lacks, and reads them and writes them as tiles.

Several members of one archive are read with few requests, since servers limit requests and members are often adjacent.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from restore_dit.config.ingestion import PastisConfig
from restore_dit.data import storage
from restore_dit.data.items import Outcome, Plan
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
from restore_dit.data.pastis.remote_file import SourceUnreachable
from restore_dit.data.pastis.zip_archive import ArchiveMember
from restore_dit.data.store.manifest import TileRecord
from restore_dit.data.store.tile_store_writer import TileStoreWriter
from restore_dit.data.store.tile_writing import make_tile
from restore_dit.errors import UserError

SOURCE = "PASTIS-R"

TASK_MEMORY = 768 << 20
"""Memory in bytes reserved per task: several compressed patches, and one being unpacked, sorted and compressed
again."""


@dataclass(frozen=True)
class PatchConversion:
    """Reads and writes patches; can be sent to any process."""

    config: PastisConfig
    store: storage.Location

    def __call__(self, sources: Sequence[PatchSource]) -> Iterator[Outcome[TileRecord]]:
        """Yields the outcome of each patch, including failures. The files of several patches are fetched with as few
        requests as possible.

        Raises:
            SourceUnreachable: the source as a whole can no longer be read.
            UserError: the store cannot be written.
        """
        begin = time.perf_counter()
        if len(sources) > 1:
            sources = fetch_together(sources)
        fetched = (time.perf_counter() - begin) / len(sources)
        for source in sources:
            read = partial(read_patch, source, self.config)
            outcome = make_tile(self.store, source.patch.patch, read, SourceUnreachable)
            yield replace(outcome, seconds_made=outcome.seconds_made + fetched)


def plan_patches(config: PastisConfig) -> Plan[PatchSource, TileRecord]:
    """Examines source and store without writing anything.

    Raises:
        UserError: either cannot be read, the metadata are broken, or requested patches or folds do not exist.
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
    return Plan(
        PatchConversion(config, writer.location),
        todo,
        writer.location.uri,
        there=len(patches) - len(todo),
        refused=bad,
        writer=writer,
        commit_every=config.commit_every,
        a_task=a_task,
        memory=TASK_MEMORY,
    )


def _chosen(
    config: PastisConfig, patches: list[Patch], bad: dict[str, str], origin: str
) -> tuple[list[Patch], dict[str, str]]:
    """The patches that the configuration selects."""
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
    """Only this patch's files, which are all that a task receives."""
    names = [
        *(data_file(sensor, patch) for sensor in ("S2", "S1A", "S1D")),
        labels_file(patch),
        parcel_ids_file(patch),
        cloud_file(patch),
    ]
    return {name: files[name] for name in names if name in files}


_LARGEST_GAP = 1 << 12
"""Gap in bytes between two members up to which reading across it is cheaper than another request."""


@dataclass(frozen=True)
class FetchedMember:
    """A member whose compressed bytes have been fetched."""

    member: ArchiveMember
    raw: memoryview

    def read(self) -> bytes:
        """The uncompressed content; raises `UserError` if it is damaged."""
        return self.member.unpack(self.raw)


def in_archive_order(sources: Iterable[PatchSource]) -> tuple[PatchSource, ...]:
    """The patches in the order of their optical files in the archive, so that adjacent ones are fetched together."""

    def place(source: PatchSource) -> int:
        file = source.files.get(data_file("S2", source.patch.patch))
        return file.offset if isinstance(file, ArchiveMember) else 0

    return tuple(sorted(sources, key=place))


def fetch_together(sources: Sequence[PatchSource]) -> list[PatchSource]:
    """The same patches with their archive members fetched, one read per run of adjacent members.

    Raises:
        SourceUnreachable: the archive can no longer be read.
    """
    members = {member for source in sources for member in source.files.values() if isinstance(member, ArchiveMember)}
    fetched = {member: FetchedMember(member, raw) for run in _runs(members) for member, raw in _read(run)}
    return [
        replace(
            source,
            files={
                name: fetched[file] if isinstance(file, ArchiveMember) else file for name, file in source.files.items()
            },
        )
        for source in sources
    ]


def _runs(members: Iterable[ArchiveMember]) -> list[list[ArchiveMember]]:
    runs: list[list[ArchiveMember]] = []
    end = 0
    for member in sorted(members, key=lambda member: member.offset):
        if runs and member.offset - end <= _LARGEST_GAP:
            runs[-1].append(member)
        else:
            runs.append([member])
        end = member.offset + member.span
    return runs


def _read(run: list[ArchiveMember]) -> list[tuple[ArchiveMember, memoryview]]:
    start = run[0].offset
    raw = memoryview(run[0].archive.read_range(start, max(member.offset + member.span for member in run)))
    return [(member, raw[member.offset - start : member.offset - start + member.span]) for member in run]
