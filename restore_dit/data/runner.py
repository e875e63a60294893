"""Carries out a plan of many independent items, in this process or on Ray, with commits on the way.

report = run(plan)             # in this process
report = run(plan, workers=4)  # on Ray
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from functools import partial
from typing import TypeVar

from restore_dit.data.items import Item, OnOutcome, Outcome, Plan, Result, RunReport
from restore_dit.errors import UserError

PAUSE_TO_COMMIT = 20.0
"""Minimum ratio of the time between two commits to the time that a commit takes."""

LONGEST_PAUSE = 600.0
"""Maximum number of seconds between two commits, however long they take: what a run that is killed leaves uncommitted,
the next one must read again."""

Committed = TypeVar("Committed")


def run(
    plan: Plan[Item, Result], workers: int | None = 0, on_outcome: OnOutcome = lambda outcome, done, total: None
) -> RunReport[Result]:
    """Carries out a plan. An item that fails does not stop the others. However the run ends, written results are
    committed.

    Args:
        plan: what to do.
        workers: concurrent workers on Ray, which requires a prior `ray.init`; None: one per CPU, or per GPU if the plan
            needs those; 0: this process.
        on_outcome: called with each outcome, in the order in which items finish.

    Raises:
        UserError: an error that is not a single item's, or workers die repeatedly.
    """
    writer, pace = plan.writer, CommitPace(plan.commit_every)
    report: RunReport[Result] = RunReport(failed=dict(plan.refused))
    begin = time.perf_counter()
    for item, reason in plan.refused.items():
        writer.refuse(item, reason)
    try:
        with closing(_outcomes(plan, workers)) as outcomes:
            for done, outcome in enumerate(outcomes, start=1):
                if outcome.result is None:
                    writer.refuse(outcome.item, outcome.reason)
                    report.failed[outcome.item] = outcome.reason
                else:
                    writer.adopt(outcome.item, outcome.result)
                    report.results[outcome.item] = outcome.result
                report.seconds_made += outcome.seconds_made
                report.seconds_written += outcome.seconds_written
                if pace.is_due():
                    pace.commit(partial(writer.commit, recover=False))
                on_outcome(outcome, done, len(plan.todo))
    except BaseException:
        # Ctrl-C and errors of the cluster end here, too. What is written but not committed would be made again.
        if writer.uncommitted:
            with suppress(UserError):  # the error that ended the run is the one to report
                writer.commit()
        raise
    report.committed = writer.commit()
    report.seconds = time.perf_counter() - begin
    return report


def _outcomes(plan: Plan[Item, Result], workers: int | None) -> Generator[Outcome[Result]]:
    """The outcome of each item, in the order in which they finish."""
    if workers == 0 or not plan.todo:
        for items in plan.tasks:
            yield from plan.work(items)
        return
    from restore_dit.data.tasks_job import outcomes_on_cluster  # which imports Ray

    yield from outcomes_on_cluster(plan, workers)


class CommitPace:
    """Spaces commits by what they cost: the pause after one is `PAUSE_TO_COMMIT` times as long as it took, but at least
    `minimum` and at most `LONGEST_PAUSE` seconds. Commits then take less than a twentieth of the time, and a run that
    is killed leaves no more than one pause, and the item in progress, uncommitted."""

    def __init__(self, minimum: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            minimum: shortest pause in seconds; it takes precedence over `LONGEST_PAUSE`.
            clock: the current time in seconds.
        """
        self._clock = clock
        self._minimum = minimum
        self._pause = minimum
        self._since = clock()

    def is_due(self) -> bool:
        """Whether the pause after the last commit, or after the start, is over."""
        return self._clock() - self._since >= self._pause

    def commit(self, commit: Callable[[], Committed]) -> Committed:
        """Calls `commit`, and returns its result. Measures how long it takes."""
        begin = self._clock()
        result = commit()
        self._since = self._clock()
        self._pause = max(self._minimum, min(PAUSE_TO_COMMIT * (self._since - begin), LONGEST_PAUSE))
        return result
