"""Patches in parallel: a task of Ray Data each, that reads, encodes and writes; only a small record comes back."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import ray
import ray.data
from ray.exceptions import RayError
from ray.util.annotations import RayDeprecationWarning

from restore_dit.data.pastis.ingest import IngestPlan, Outcome, PatchIngest
from restore_dit.data.pastis.read import PatchSource
from restore_dit.errors import UserError

TASK_MEMORY = 768 << 20
"""What a task may need, in bytes: some patches as they lie in the archive; one unpacked, sorted and packed again."""

TASK_RETRIES = 3


@dataclass(frozen=True)
class _Patches:
    """The patches of a task, as one object: Ray Data would make a column of their fields."""

    sources: Sequence[PatchSource]


class _Task:
    """Callable of `flat_map`: `{"patches": …}` → a row `{"outcome": …}` for each of them."""

    def __init__(self, ingest: PatchIngest) -> None:
        self.ingest = ingest

    def __call__(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"outcome": outcome} for outcome in self.ingest.together(row["patches"].sources)]


def outcomes_on_cluster(plan: IngestPlan) -> Iterator[Outcome]:
    """What becomes of each patch, in whatever order tasks finish: at most `workers` at a time (one a CPU if none is
    said). A task whose worker dies is run again."""
    workers = plan.config.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    # Ray Data's own bars and reports would stand between the lines of this program's.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    tasks = [{"patches": _Patches(sources)} for sources in plan.tasks]
    with warnings.catch_warnings():
        # Ray 2.60 announces another way to say `max_retries` but has none yet; unsaid, a task is tried for ever.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        dataset = ray.data.from_items(tasks, override_num_blocks=len(tasks)).flat_map(
            cast(Any, _Task(plan.ingest)),
            compute=ray.data.TaskPoolStrategy(size=min(workers, len(tasks))),
            num_cpus=1,
            memory=TASK_MEMORY,
            max_retries=TASK_RETRIES,
        )
    dataset.context.enable_progress_bars = False
    dataset.context.print_on_execution_start = False
    try:
        for row in dataset.iter_rows():
            yield row["outcome"]
    except RayError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{plan.config.output}: a task failed {TASK_RETRIES + 1} times ({reason}); with fewer --workers each has "
            "more memory; run the same command again: what is done is kept"
        ) from error
