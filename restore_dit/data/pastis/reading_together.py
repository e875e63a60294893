"""Reads several patches' members of one archive with few requests, since servers limit requests and members are often
adjacent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from restore_dit.data.pastis.layout import data_file
from restore_dit.data.pastis.read import PatchSource
from restore_dit.data.pastis.zip_archive import ArchiveMember

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
