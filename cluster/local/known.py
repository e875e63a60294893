"""Lists this user's local clusters."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.local.record import ClusterRecord, read_record, state_folder


def records() -> Iterator[ClusterRecord]:
    """All recorded local clusters, sorted by name. Some may have died.

    Raises:
        UserError: a record is damaged.
    """
    for path in sorted(state_folder().glob("*.json")):
        record = read_record(path.stem)
        if record is not None:  # it may have been removed meanwhile
            yield record
