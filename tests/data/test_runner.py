"""Items done one by one: one that fails costs no other, and commits are neither too dear nor too far apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_dit.data.items import Outcome, Plan, Writer
from restore_dit.data.runner import LONGEST_PAUSE, PAUSE_TO_COMMIT, CommitPace, run
from restore_dit.errors import StorageUnavailable, UserError
from tests.messages import refused


class Memory(Writer[int]):
    """An output that counts its commits."""

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}
        self.refused: dict[str, str] = {}
        self.commits: list[tuple[int, bool]] = []
        """What was committed each time: the number of items, and whether left files were taken over."""

    @property
    def uncommitted(self) -> int:
        return len(self.kept) - (self.commits[-1][0] if self.commits else 0)

    def adopt(self, item: str, result: int) -> None:
        self.kept[item] = result

    def refuse(self, item: str, reason: str) -> None:
        self.refused[item] = reason

    def commit(self, *, recover: bool = True) -> str:
        self.commits.append((len(self.kept), recover))
        return f"commit {len(self.commits)}"


def work(items: Sequence[int]) -> Iterator[Outcome[int]]:
    """Squares; of 13 there is none, and 99 ends everything."""
    for item in items:
        if item == 99:
            raise StorageUnavailable("s3://bucket: overloaded")
        if item == 13:
            yield Outcome("13", reason="unlucky")
        else:
            yield Outcome(str(item), item**2, seconds_made=2.0)


def plan(*todo: int, writer: Memory, **options) -> Plan[int, int]:
    return Plan(work, todo, "memory", writer=writer, **options)


def test_a_failed_item_costs_no_other_and_everything_is_committed_at_the_end():
    writer, seen = Memory(), []
    report = run(
        plan(2, 13, 4, writer=writer, a_task=2, refused={"x": "no date"}), on_outcome=lambda *it: seen.append(it)
    )
    assert report.results == writer.kept == {"2": 4, "4": 16}
    assert report.failed == writer.refused == {"x": "no date", "13": "unlucky"}
    assert [(outcome.item, done, total) for outcome, done, total in seen] == [("2", 1, 3), ("13", 2, 3), ("4", 3, 3)]
    assert (writer.commits, report.committed, report.seconds_made) == ([(2, True)], "commit 1", 4.0)


def test_an_error_of_all_ends_the_run_with_its_type_and_what_is_done_is_committed():
    writer = Memory()
    with pytest.raises(StorageUnavailable, match="overloaded"):
        run(plan(1, 2, 99, 4, writer=writer))
    assert writer.commits == [(2, True)]


def test_a_stop_commits_and_the_reason_of_the_stop_is_not_lost_if_that_fails():
    class Broken(Memory):
        def commit(self, *, recover: bool = True) -> str:
            super().commit(recover=recover)
            raise UserError("disk full")

    def stop(outcome: Outcome[int], done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    for writer in (Memory(), Broken()):
        with pytest.raises(KeyboardInterrupt):
            run(plan(1, 2, 3, writer=writer), on_outcome=stop)
        assert writer.commits == [(2, True)]
    with refused("disk full"):
        run(plan(1, writer=Broken()))


def test_a_run_that_wrote_nothing_commits_nothing_when_it_ends_in_an_error():
    writer = Memory()
    with refused("overloaded"):
        run(plan(13, 99, writer=writer))
    assert writer.commits == []


def test_commits_on_the_way_leave_what_others_are_writing_alone():
    writer = Memory()
    run(plan(1, 2, 3, writer=writer, commit_every=0))
    assert writer.commits[-1] == (3, True)
    assert {recover for _, recover in writer.commits[:-1]} == {False}
    assert writer.commits[0] == (1, False)


SECONDS = st.floats(0.001, 60)


@given(items=st.lists(SECONDS, min_size=1, max_size=200), commit=st.floats(0, 60), minimum=st.floats(0, 30))
def test_commits_take_a_bounded_share_of_the_time_and_a_kill_loses_a_bounded_part(items, commit, minimum):
    """On a clock that only items (of these seconds each) and commits (of `commit` seconds each) move."""
    now, in_commits, committed_until = 0.0, 0.0, 0.0
    pace = CommitPace(minimum, clock=lambda: now)

    def take_time() -> None:
        nonlocal now, in_commits
        now += commit
        in_commits += commit

    for seconds in items:
        now += seconds
        if pace.is_due():
            pace.commit(take_time)
            committed_until = now
        pause = max(minimum, min(PAUSE_TO_COMMIT * commit, LONGEST_PAUSE))
        assert now - committed_until < pause + seconds  # lost if it is killed now
    # Every commit but the first comes after a pause of its own length times PAUSE_TO_COMMIT, or the longest one.
    dearest = max(1 / (1 + PAUSE_TO_COMMIT), commit / (commit + LONGEST_PAUSE))
    assert in_commits - commit <= dearest * now + 1e-6


def test_the_pause_follows_the_last_commit():
    now = 0.0
    pace = CommitPace(10, clock=lambda: now)

    def taking(seconds: float):
        def commit() -> float:
            nonlocal now
            now += seconds
            return seconds

        return commit

    for cost, pause in ((0.1, 10), (2, 40), (1, 20), (500, LONGEST_PAUSE)):
        assert pace.commit(taking(cost)) == cost
        begin = now
        now = begin + pause - 0.01
        assert not pace.is_due()
        now = begin + pause + 0.01
        assert pace.is_due()
