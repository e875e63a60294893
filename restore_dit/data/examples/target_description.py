"""How many frames of a store may be targets, and why others may not, from its manifest."""

from __future__ import annotations

from collections import Counter

import numpy as np

from restore_dit.config import TargetConfig
from restore_dit.data.examples.targets import DECISIONS, TARGET, decide_by_record
from restore_dit.data.store.inspection import TargetDescription
from restore_dit.data.store.tile_store import TileStore


def describe_targets(store: TileStore, config: TargetConfig) -> TargetDescription:
    """The decisions on all frames of a store. Tiles without cloud masks are listed as undecided.

    Raises:
        UserError: a tile lacks something else that the rule needs.
    """
    counts: Counter[str] = Counter()
    targets: dict[str, int] = {}
    undecided = []
    for tile_id, record in store.manifest.tiles.items():
        if record.clouds is None and config.by != "source_list":
            undecided.append(tile_id)
            continue
        where = f"{store.uri}: tile {tile_id}"
        found = Counter(decide_by_record(config, record, where).tolist())
        counts += found
        targets[tile_id] = found[TARGET]
    number = list(targets.values()) or [0]
    return TargetDescription(
        rule=config.model_dump(mode="json"),
        tiles=len(targets),
        frames={decision: counts[decision] for decision in DECISIONS},
        fewest=min(number),
        median=float(np.median(number)),
        most=max(number),
        without_target=tuple(tile_id for tile_id, count in targets.items() if not count),
        undecided=tuple(undecided),
    )
