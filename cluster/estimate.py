"""Estimates the time and cost of a training on a number of GPUs: `python -m cluster.estimate [--gpus 1 8 64] …`.

The estimate combines measured rates with assumptions about a GPU on which nothing was measured. docs/cluster.md
explains the reasoning.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

STEP_GFLOP = 3 * 326.9
"""GFLOP for one example of 15×128×128 in a training step: three times the forward pass (`make bench`)."""

EXAMPLE_REQUESTS = 4.9
"""S3 requests per example of the published size (docs/data.md)."""

EXAMPLE_MB = 4.7
"""MB read per example by these requests."""

EXAMPLES_A_CORE = 22.0
"""Examples per second that one core reads from S3, decodes and crops (docs/results.md: 45 to 47 on two cores)."""


@dataclass(frozen=True)
class Assumptions:
    """Assumptions of the estimate besides the measured rates. Each has a command-line option."""

    examples: int = 1946 * 3000
    """Examples of the whole training: folds 1 to 4 of PASTIS-R, as often as the published training sees them."""
    peak_tflops: float = 121.0
    """Peak rate of a GPU for dense bf16 products. The default is an L4's, as in the g6.2xlarge of cluster/aws.yaml."""
    utilisation: float = 0.15
    """Share of the peak that a training reaches: on an H200 0.11 with 4 examples, 0.15 with 16 (docs/results.md)."""
    micro_batch: int = 4
    """Examples that a GPU processes between two all-reduces."""
    parameters: float = 9.8e6
    gradient_bytes: int = 4
    network_gbit: float = 10.0
    """Bandwidth between two GPUs on different nodes."""
    network_share: float = 0.5
    """Share of the bandwidth that an all-reduce reaches."""
    cores_a_gpu: float = 4.0
    """Cores per GPU for the data stream, besides the one that drives the GPU."""
    requests_limit: float = 5500.0
    """S3 reads per second and prefix above which S3 throttles."""
    price: float = 1.0
    """Dollars per hour for a GPU with its share of the node: about the on-demand price of such an instance."""
    price_thousand_requests: float = 0.0004
    """Dollars per thousand S3 reads."""


@dataclass(frozen=True)
class Estimate:
    """An estimate for one number of GPUs: a column of the table."""

    gpus: int
    examples_per_second: float
    efficiency: float
    """Rate relative to `gpus` times that of a single GPU that never waits."""
    bound_by: str
    hours: float
    dollars: float
    requests_per_second: float
    megabytes_per_second: float
    requests: float
    terabytes: float
    dollars_requests: float

    @property
    def gpu_hours(self) -> float:
        """GPU hours of the whole training."""
        return self.hours * self.gpus


def estimate(gpus: int, given: Assumptions) -> Estimate:
    """Estimate for a number of GPUs. Assumes that gradients are reduced after the backward pass, without overlap."""
    compute = given.micro_batch * STEP_GFLOP / (given.peak_tflops * 1e3 * given.utilisation)
    reduce = all_reduce_seconds(gpus, given)
    alone = given.micro_batch / compute
    bounds = {
        "arithmetic": gpus * alone,
        "all-reduce": gpus * given.micro_batch / (compute + reduce),
        "data stream": gpus * given.cores_a_gpu * EXAMPLES_A_CORE,
        "S3 requests": given.requests_limit / EXAMPLE_REQUESTS,
    }
    rate = min(bounds.values())
    bound_by = min(bounds, key=lambda name: (bounds[name], name != "arithmetic"))
    if bound_by == "all-reduce" and reduce < compute / 10:
        bound_by = "arithmetic"
    hours = given.examples / rate / 3600
    requests = given.examples * EXAMPLE_REQUESTS
    return Estimate(
        gpus=gpus,
        examples_per_second=rate,
        efficiency=rate / (gpus * alone),
        bound_by=bound_by,
        hours=hours,
        dollars=hours * gpus * given.price,
        requests_per_second=rate * EXAMPLE_REQUESTS,
        megabytes_per_second=rate * EXAMPLE_MB,
        requests=requests,
        terabytes=given.examples * EXAMPLE_MB / 1e6,
        dollars_requests=requests / 1e3 * given.price_thousand_requests,
    )


def all_reduce_seconds(gpus: int, given: Assumptions) -> float:
    """Time of a ring all-reduce, in seconds: it moves 2 (n - 1) / n of the gradients over every link."""
    moved = 2 * (gpus - 1) / gpus * given.parameters * given.gradient_bytes
    return moved / (given.network_gbit * given.network_share * 1e9 / 8)


def main(argv: list[str] | None = None) -> int:
    """Prints a table of estimates."""
    parser = argparse.ArgumentParser(prog="python -m cluster.estimate", description=__doc__)
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64])
    for name, value in vars(Assumptions()).items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(value), default=value, help="(default %(default)s)"
        )
    options = vars(parser.parse_args(argv))
    columns = [estimate(gpus, Assumptions(**options)) for gpus in options.pop("gpus")]
    rows = (
        ("GPUs", [f"{each.gpus}" for each in columns]),
        ("examples/s", [f"{each.examples_per_second:.0f}" for each in columns]),
        ("efficiency", [f"{each.efficiency:.0%}" for each in columns]),
        ("bound by", [each.bound_by for each in columns]),
        ("hours", [f"{each.hours:.1f}" for each in columns]),
        ("GPU hours", [f"{each.gpu_hours:.0f}" for each in columns]),
        ("dollars for GPUs", [f"{each.dollars:.0f}" for each in columns]),
        ("from S3, MB/s", [f"{each.megabytes_per_second:.0f}" for each in columns]),
        ("S3 requests/s", [f"{each.requests_per_second:.0f}" for each in columns]),
        ("S3 requests, millions", [f"{each.requests / 1e6:.0f}" for each in columns]),
        ("dollars for requests", [f"{each.dollars_requests:.0f}" for each in columns]),
        ("from S3, TB", [f"{each.terabytes:.0f}" for each in columns]),
    )
    for title, values in rows:
        print(f"{title:24}" + "".join(f"{value:>14}" for value in values))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
