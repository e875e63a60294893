"""Adds tiles to a store from a cluster: Ray Data tasks make and write them, and only small records are returned."""

from __future__ import annotations

from collections.abc import Iterator

from restore_dit.data.store.tile_intake import IntakePlan, Outcome
from restore_dit.data.tasks_job import outcomes_of_tasks


def outcomes_on_cluster(plan: IntakePlan, workers: int | None) -> Iterator[Outcome]:
    """Yields the outcome of each tile, in the order in which tasks finish, with at most `workers` concurrent tasks
    (None: one per CPU). A task whose worker dies is run again."""
    return outcomes_of_tasks(plan.work, plan.tasks, workers, memory=plan.task_memory, where=plan.writer.location.uri)
