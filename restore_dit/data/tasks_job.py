"""Work on a cluster through Ray Data: tasks, or actors that keep something loaded; only small results are sent back.

Items are distributed in groups. A group whose worker dies is processed again on another worker. An exception in a
worker ends the job, with a one-line message if it is an error that the user can fix.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import ray
import ray.data
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, RayError, WorkerCrashedError
from ray.util.annotations import RayDeprecationWarning

from restore_dit.data import cluster_job
from restore_dit.errors import UserError

RETRIES = 3

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Sequence[Item]], Iterable[Result]]


@dataclass(frozen=True)
class _Group:
    """A task's input as a single object: Ray Data would turn its fields into columns."""

    items: Sequence[Any]


@dataclass(frozen=True)
class _Refusal:
    """A worker's `UserError`, returned as an outcome instead of raised: after an exception Ray Data releases actors
    only once nothing refers to them any more, whereas it ends them immediately when iteration stops."""

    message: str
    status: int


def _rows(work: Work[Any, Any], group: _Group) -> list[dict[str, Any]]:
    """One row `{"outcome": …}` per result."""
    rows = []
    try:
        for outcome in work(group.items):
            rows.append({"outcome": outcome})  # noqa: PERF401 - results before an error are kept
    except UserError as error:
        rows.append({"outcome": _Refusal(str(error), error.status)})
    return rows


class _Task:
    """Callable for `flat_map`: `{"group": …}` → rows."""

    def __init__(self, work: ray.ObjectRef) -> None:
        self.work = work

    def __call__(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        return _rows(ray.get(self.work), row["group"])


class _Actor:
    """The same as an actor, which loads `work` once."""

    def __init__(self, work: ray.ObjectRef) -> None:
        self.work = ray.get(work)

    def __call__(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        return _rows(self.work, row["group"])


def outcomes_of_tasks(
    work: Work[Item, Result], groups: Sequence[Sequence[Item]], workers: int | None, *, memory: int, where: str
) -> Iterator[Result]:
    """Yields the results of all groups, in the order in which tasks finish.

    Args:
        work: called in a worker process with one group.
        groups: groups of items to process.
        workers: concurrent tasks; None for one per CPU currently in the cluster.
        memory: bytes reserved per task.
        where: what the job writes to, for messages.

    Raises:
        UserError: the cluster has no room for a task, a worker reports an error that the user can fix, or workers die
            repeatedly.
    """
    cluster_job.await_room([{"CPU": 1.0, "memory": float(memory)}])
    count = cluster_job.cpus() if workers is None else workers
    with warnings.catch_warnings():
        # Ray 2.60 deprecates `max_retries` without a replacement; without it, a task is retried for ever.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        dataset = _dataset(groups).flat_map(
            cast(Any, _Task(ray.put(work))),
            compute=ray.data.TaskPoolStrategy(size=min(count, len(groups))),
            num_cpus=1,
            memory=memory,
            max_retries=RETRIES,
        )
    yield from _outcomes(dataset, where)


def outcomes_of_actors(
    work: Work[Item, Result],
    groups: Sequence[Sequence[Item]],
    workers: int | None,
    *,
    use_gpu: bool,
    memory: int,
    where: str,
) -> Iterator[Result]:
    """Like `outcomes_of_tasks`, with `workers` actors (None: one per CPU, with `use_gpu` per GPU) that each load `work`
    once.

    Raises:
        UserError: as above; with `use_gpu` also if the cluster lacks a GPU for each actor.
    """
    bundle = {"CPU": 1.0, "memory": float(memory)} | ({"GPU": 1.0} if use_gpu else {})
    count = (cluster_job.gpus() if use_gpu else cluster_job.cpus()) if workers is None else workers
    count = min(count, len(groups))
    advice = "set workers to at most that many, or use_gpu=false" if use_gpu else ""
    cluster_job.await_room([bundle] * (count if use_gpu else 1), advice=advice)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RayDeprecationWarning)  # `max_restarts`, as above
        dataset = _dataset(groups).flat_map(
            cast(Any, _Actor),
            fn_constructor_args=(ray.put(work),),
            compute=ray.data.ActorPoolStrategy(size=count),
            num_cpus=1,
            num_gpus=1 if use_gpu else 0,
            memory=memory,
            max_restarts=RETRIES,
            max_task_retries=RETRIES,
        )
    yield from _outcomes(dataset, where)


def _dataset(groups: Sequence[Sequence[Any]]) -> ray.data.Dataset:
    # Ray Data's own progress bars and reports would be mixed with this program's output.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    return ray.data.from_items([{"group": _Group(group)} for group in groups], override_num_blocks=len(groups))


def _outcomes(dataset: ray.data.Dataset, where: str) -> Iterator[Any]:
    dataset.context.enable_progress_bars = False
    dataset.context.print_on_execution_start = False
    refusal: _Refusal | None = None
    with closing(cast(Generator[dict[str, Any]], iter(dataset.iter_rows()))) as rows:
        try:
            for row in rows:
                if isinstance(row["outcome"], _Refusal):
                    refusal = row["outcome"]
                    break
                yield row["outcome"]
        except RayError as error:
            if isinstance(error, WorkerCrashedError | RayActorError | NodeDiedError | OutOfMemoryError):
                reason = " ".join(str(error).split())[:300]
                raise UserError(
                    f"{where}: a worker died {RETRIES + 1} times on the same work ({reason}); fewer workers have more "
                    "memory each; run the same command again: finished work is kept"
                ) from error
            raise
    if refusal is not None:
        raise UserError(refusal.message, status=refusal.status)
