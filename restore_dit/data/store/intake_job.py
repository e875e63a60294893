"""Tiles into a store from a cluster: tasks of Ray Data that make and write them; only small records come back."""

from __future__ import annotations

from collections.abc import Iterator

from restore_dit.data.store.tile_intake import IntakePlan, Outcome
from restore_dit.data.tasks_job import outcomes_of_tasks


def outcomes_on_cluster(plan: IntakePlan, workers: int | None) -> Iterator[Outcome]:
    """What becomes of each tile, in whatever order tasks finish: at most `workers` at a time (none: one a CPU). A task
    whose worker dies is run again."""
    return outcomes_of_tasks(plan.work, plan.tasks, workers, memory=plan.task_memory, where=plan.writer.location.uri)
