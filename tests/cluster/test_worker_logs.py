"""Of what workers write, errors come through whole and Ray's talk not at all."""

from cluster.connection import WorkerLogFilter

ONE, OTHER = ("10.0.0.1", 17), ("10.0.0.2", 17)

CHATTER = [
    "Requesting resources: {'CPU': 0.8} * 2",
    "Started training worker group of size 2: ",
    "- (ip=127.0.0.1, pid=29764) world_rank=0, local_rank=0, node_rank=0",
    "✔️  Dataset dataset_0352 execution finished in 2.90 seconds",
    "[2026-11-23 00:11:35,904 E 29692 29724] core_worker.cc:2465: Actor with class name: 'PreemptionWatcher' has",
    "Failed to convert column 'outcome' into pyarrow array (ArrowConversionError); falling back to",
]


def test_tracebacks_come_whole_from_each_process_and_talk_does_not():
    lines = WorkerLogFilter()
    assert list(lines.kept(ONE, CHATTER)) == []
    first = ["Traceback (most recent call last):", '  File "a.py", line 1, in f', "    g()"]
    second = ["ValueError: bad", "", "The above exception was the direct cause of the following exception:", ""]
    assert list(lines.kept(ONE, [CHATTER[0], *first])) == first
    assert list(lines.kept(OTHER, CHATTER)) == []
    assert list(lines.kept(ONE, [second[0], *CHATTER])) == second[:1]
    assert list(lines.kept(ONE, [*first, "KeyError: 'x'", CHATTER[1]])) == [*first, "KeyError: 'x'"]


def test_errors_of_one_line_and_news_of_nodes_come_through():
    lines = WorkerLogFilter()
    said = ["2026-11-23 00:11 ERROR engine.py:5 -- no space left", "torch.OutOfMemoryError: CUDA out of memory"]
    assert list(lines.kept(ONE, said)) == said
    grown = ["Adding 2 node(s) of type gpu-worker."]
    assert list(lines.kept(("10.0.0.1", "autoscaler"), grown)) == grown


def test_what_ray_data_cannot_book_is_no_error_of_the_job():
    """As two trainings at a time wrote it, when the first was over."""
    lines = WorkerLogFilter()
    booking = [
        "Unhandled error (suppress with 'RAY_IGNORE_UNHANDLED_ERRORS=1'): ray::_StatsActor.update_execution_metrics()",
        "           ^^^^^^^^^^^^^^^^^^",
        '  File "ray/data/_internal/stats.py", line 934, in update_dataset',
        "    self.datasets[dataset_tag].update(state)",
        "KeyError: 'dataset_03556UWrdNoxXfD9w2cPoy_0'",
    ]
    assert list(lines.kept(ONE, booking[:3])) == []
    assert list(lines.kept(OTHER, ["KeyError: 'mine'"])) == ["KeyError: 'mine'"]
    assert list(lines.kept(ONE, [*booking[3:], "KeyError: 'mine'"])) == ["KeyError: 'mine'"]
