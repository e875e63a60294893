"""What a training is likely to take on a number of GPUs: `python -m cluster.estimate [--gpus 1 8 64] …`.

An estimate on paper, from measured rates and what is assumed of the GPU, which was not at hand.
The reasoning is in docs/cluster.md.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

STEP_GFLOP = 3 * 326.9
"""Arithmetic of one example of 15×128×128 in a training step: three times its forward pass (`make bench`)."""

EXAMPLE_REQUESTS = 4.9
"""S3 requests for one example of the published size (docs/data.md)."""

EXAMPLE_MB = 4.7
"""What these bring, in MB."""

EXAMPLES_A_CORE = 22.0
"""Examples a second that one core reads from S3, decodes and cuts (docs/results.md: 45 to 47 on two)."""


@dataclass(frozen=True)
class Assumptions:
    """What the estimate rests on besides the measured rates; every one has an option."""

    examples: int = 1946 * 3000
    """Folds 1 to 4 of PASTIS-R, as often as the published training sees them."""
    peak_tflops: float = 121.0
    """Of a GPU in dense bf16 products; an L4's, as in g6.2xlarge, which cluster/aws.yaml buys."""
    utilisation: float = 0.15
    """Share of that peak which a training reaches: on an H200 0.11 with 4 examples, 0.15 with 16 (docs/results.md)."""
    micro_batch: int = 4
    """Examples that a GPU computes between two all-reduces."""
    parameters: float = 9.8e6
    gradient_bytes: int = 4
    network_gbit: float = 10.0
    """Between two GPUs of different nodes."""
    network_share: float = 0.5
    """Of that rate which an all-reduce reaches."""
    cores_a_gpu: float = 4.0
    """For the data stream, beside the one that drives the GPU."""
    requests_limit: float = 5500.0
    """S3 reads a second below one prefix before it asks to slow down."""
    price: float = 1.0
    """Dollars an hour for a GPU with its share of the node: about that of such an instance on demand."""
    price_thousand_requests: float = 0.0004


@dataclass(frozen=True)
class Estimate:
    """One column of the table."""

    gpus: int
    examples_per_second: float
    efficiency: float
    """Of `gpus` times the rate of one that waits for nothing."""
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
        """Over all GPUs."""
        return self.hours * self.gpus


def estimate(gpus: int, given: Assumptions) -> Estimate:
    """A training on so many GPUs; gradients are reduced after the backward pass, nothing overlaps."""
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
    """A ring moves 2 (n - 1) / n of the gradients over every link."""
    moved = 2 * (gpus - 1) / gpus * given.parameters * given.gradient_bytes
    return moved / (given.network_gbit * given.network_share * 1e9 / 8)


def main(argv: list[str] | None = None) -> int:
    """Prints the table."""
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
        ("S3 requests a second", [f"{each.requests_per_second:.0f}" for each in columns]),
        ("S3 requests, millions", [f"{each.requests / 1e6:.0f}" for each in columns]),
        ("dollars for requests", [f"{each.dollars_requests:.0f}" for each in columns]),
        ("from S3, TB", [f"{each.terabytes:.0f}" for each in columns]),
    )
    for title, values in rows:
        print(f"{title:24}" + "".join(f"{value:>14}" for value in values))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
