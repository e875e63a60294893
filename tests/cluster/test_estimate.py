"""The estimate obeys what it is made of."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.estimate import EXAMPLE_REQUESTS, STEP_GFLOP, Assumptions, all_reduce_seconds, estimate, main


def test_one_gpu_is_bound_by_its_arithmetic() -> None:
    given_peak = Assumptions(peak_tflops=70.0, utilisation=0.25)
    alone = estimate(1, given_peak)
    assert alone.examples_per_second == pytest.approx(70e3 * 0.25 / STEP_GFLOP)
    assert alone.efficiency == pytest.approx(1)
    assert alone.bound_by == "arithmetic"
    assert alone.hours * 3600 * alone.examples_per_second == pytest.approx(given_peak.examples)


@settings(max_examples=100)
@given(gpus=st.integers(1, 4096), more=st.integers(1, 4096), tflops=st.floats(1, 2000), gbit=st.floats(0.1, 800))
def test_more_gpus_are_never_slower_and_never_more_efficient(gpus: int, more: int, tflops: float, gbit: float) -> None:
    assumed = Assumptions(peak_tflops=tflops, network_gbit=gbit)
    few, many = estimate(gpus, assumed), estimate(gpus + more, assumed)
    assert many.examples_per_second >= few.examples_per_second * (1 - 1e-9) or many.bound_by == "all-reduce"
    assert many.efficiency <= few.efficiency * (1 + 1e-9)
    assert many.requests_per_second <= assumed.requests_limit * (1 + 1e-9)
    assert many.requests == few.requests


def test_what_bounds_is_named() -> None:
    fast = Assumptions(peak_tflops=1e6, network_gbit=1e6)
    assert estimate(1, fast).bound_by == "data stream"
    assert estimate(1000, fast).bound_by == "S3 requests"
    assert estimate(1000, fast).examples_per_second == pytest.approx(fast.requests_limit / EXAMPLE_REQUESTS)
    assert estimate(8, Assumptions(network_gbit=1.0)).bound_by == "all-reduce"
    assert estimate(8, replace(Assumptions(), network_gbit=1e3)).bound_by == "arithmetic"


def test_a_ring_moves_twice_the_gradients_at_most() -> None:
    given_network = Assumptions(parameters=1e6, gradient_bytes=4, network_gbit=8.0, network_share=1.0)
    assert all_reduce_seconds(1, given_network) == 0
    assert all_reduce_seconds(2, given_network) == pytest.approx(4e6 / 1e9)
    assert all_reduce_seconds(10**6, given_network) == pytest.approx(8e6 / 1e9, rel=1e-5)


def test_the_table_has_a_column_for_each_number_of_gpus(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--gpus", "2", "3", "--price", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["GPUs", "2", "3"]
    assert next(line for line in lines if line.startswith("dollars for GPUs")).split()[-2:] == ["0", "0"]
