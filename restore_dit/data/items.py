"""Work on many independent items, such as tiles: what is to be done, what became of each item, and of all of them.

`run` in `runner.py` carries out a plan. Whoever makes the plan owns the resume: `todo` is what the output lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What became of an item: its `result`, with `remarks` on what was left out, or the `reason` why there is none.
    Small, since it may come from another process: pixels stay in the one that made them. `item` is the item's name, for
    example a tile id."""

    item: str
    result: Result | None = None
    reason: str = ""
    remarks: tuple[str, ...] = ()
    seconds_made: float = 0.0
    seconds_written: float = 0.0


OnOutcome = Callable[[Outcome[Any], int, int], object]
"""Called with each outcome, the number of items done and the total."""


class Writer(Generic[Result]):
    """Makes results part of an output that is committed as a whole, such as a tile store. This one does nothing, for
    work that completes each item by itself."""

    @property
    def uncommitted(self) -> int:
        """Number of results that the next commit makes part of the output."""
        return 0

    def adopt(self, item: str, result: Result) -> None:
        """Takes over what some process has written for an item."""

    def refuse(self, item: str, reason: str) -> None:
        """Takes note that an item has no result, and why."""

    def commit(self, *, recover: bool = True) -> Any:
        """Makes everything adopted so far part of the output. `recover=False`, for commits on the way, leaves out what
        is written and was not adopted."""


@dataclass(frozen=True)
class Plan(Generic[Item, Result]):
    """The work on many items.

    - `work`: processes some items and yields an outcome for each; an error that it raises ends the run. It can be sent
      to any process.
    - `todo`: the items that the output lacks; `there`: the number of those that it has.
    - `where`: the output, for messages.
    - `refused`: items that cannot be processed, with the reasons.
    - `writer`: makes the results part of the output.
    - `commit_every`: minimum number of seconds between commits.
    - `a_task`: items per call of `work`, which a worker that dies repeats.
    - `memory`: bytes reserved per worker; 1 GiB suffices for a series of 500×500 pixels, or a network and its
      activations.
    - `stays`: whether a worker stays for many calls, since `work` is expensive to load; `use_gpu`: whether each needs
      a GPU.
    """

    work: Callable[[Sequence[Item]], Iterable[Outcome[Result]]]
    todo: Sequence[Item]
    where: str
    there: int = 0
    refused: Mapping[str, str] = field(default_factory=dict)
    writer: Writer[Result] = field(default_factory=Writer)
    commit_every: float = 10.0
    a_task: int = 1
    memory: int = 1 << 30
    stays: bool = False
    use_gpu: bool = False

    @property
    def tasks(self) -> list[Sequence[Item]]:
        """The items of each call of `work`."""
        return [self.todo[first : first + self.a_task] for first in range(0, len(self.todo), self.a_task)]


@dataclass
class RunReport(Generic[Result]):
    """What a run has done: the results by item, the items without one with the reasons (including those refused in
    advance), what the last commit returned, and seconds: of the run, and of making and writing over all processes."""

    results: dict[str, Result] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    committed: Any = None
    seconds: float = 0.0
    seconds_made: float = 0.0
    seconds_written: float = 0.0
