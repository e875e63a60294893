"""Work on many items on a cluster through Ray Data: tasks, or actors that keep something loaded; only small results are
sent back.

Items are distributed in groups. A group whose worker dies is processed again on another worker. An exception in a
worker ends the run.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

import ray
import ray.data
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, WorkerCrashedError
from ray.util.annotations import RayDeprecationWarning

from restore_dit.data import cluster_job
from restore_dit.data.items import Item, Outcome, Plan, Result
from restore_dit.errors import UserError

RETRIES = 3

Work = Callable[[Sequence[Any]], Iterable[Outcome[Any]]]


@dataclass(frozen=True)
class _Group:
    """A task's input as a single object: Ray Data would turn its fields into columns."""

    items: Sequence[Any]


@dataclass(frozen=True)
class _Refusal:
    """A worker's `UserError`, returned as an outcome instead of raised: after an exception Ray Data releases actors
    only once nothing refers to them any more, whereas it ends them immediately when iteration stops."""

    error: UserError


def _rows(work: Work, group: _Group) -> list[dict[str, Any]]:
    """One row `{"outcome": …}` per result."""
    rows: list[dict[str, Any]] = []
    try:
        for outcome in work(group.items):
            rows.append({"outcome": outcome})  # noqa: PERF401 - results before an error are kept
    except UserError as error:
        rows.append({"outcome": _Refusal(error)})
    return rows


def _task(row: dict[str, Any], work: ray.ObjectRef) -> list[dict[str, Any]]:
    """What a task does with a row `{"group": …}`."""
    return _rows(ray.get(work), row["group"])


class _Actor:
    """The same by an actor, which loads `work` once."""

    def __init__(self, work: ray.ObjectRef) -> None:
        self.work = ray.get(work)

    def __call__(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        return _rows(self.work, row["group"])


def outcomes_on_cluster(plan: Plan[Item, Result], workers: int | None) -> Iterator[Outcome[Result]]:
    """Yields the outcomes of all items of a plan, in the order in which tasks finish.

    Args:
        plan: what to do.
        workers: concurrent tasks or actors; None: one per CPU currently in the cluster, or per GPU if the plan needs
            those.

    Raises:
        UserError: the cluster has no room for a worker, or lacks a GPU for each; a worker raises one; or workers die
            repeatedly.
    """
    dataset = _dataset(plan, workers)
    refusal: _Refusal | None = None
    with closing(cast(Generator[dict[str, Any]], iter(dataset.iter_rows()))) as rows:
        try:
            for row in rows:
                if isinstance(row["outcome"], _Refusal):
                    refusal = row["outcome"]
                    break
                yield row["outcome"]
        except (WorkerCrashedError, RayActorError, NodeDiedError, OutOfMemoryError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(
                f"{plan.where}: a worker died {RETRIES + 1} times on the same work ({reason}); fewer workers have more "
                "memory each; run the same command again: finished work is kept"
            ) from error
    if refusal is not None:
        raise refusal.error


def _dataset(plan: Plan[Any, Any], workers: int | None) -> ray.data.Dataset:
    """A dataset of rows `{"outcome": …}`, computed as it is read."""
    groups = plan.tasks
    bundle = {"CPU": 1.0, "memory": float(plan.memory)} | ({"GPU": 1.0} if plan.use_gpu else {})
    count = (cluster_job.gpus() if plan.use_gpu else cluster_job.cpus()) if workers is None else workers
    count = min(count, len(groups))
    advice = "set workers to at most that many, or use_gpu=false" if plan.use_gpu else ""
    cluster_job.await_room([bundle] * (count if plan.use_gpu else 1), advice=advice)
    # Once for all tasks: with each of them, a model would be pickled and sent again.
    work = ray.put(plan.work)
    how: dict[str, Any]
    if plan.stays:
        how = {
            "fn": _Actor,
            "fn_constructor_args": (work,),
            "compute": ray.data.ActorPoolStrategy(size=count),
            "max_restarts": RETRIES,
            "max_task_retries": RETRIES,
        }
    else:
        how = {
            "fn": _task,
            "fn_args": (work,),
            "compute": ray.data.TaskPoolStrategy(size=count),
            "max_retries": RETRIES,
        }
    # Ray Data's own progress bars and reports would be mixed with this program's output.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    rows = ray.data.from_items([{"group": _Group(group)} for group in groups], override_num_blocks=len(groups))
    with warnings.catch_warnings():
        # Ray 2.60 deprecates `max_retries` and `max_restarts` without a replacement; without them, a task is retried
        # without end.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        dataset = rows.flat_map(**how, num_cpus=1, num_gpus=1 if plan.use_gpu else 0, memory=plan.memory)
    dataset.context.enable_progress_bars = False
    dataset.context.print_on_execution_start = False
    return dataset
