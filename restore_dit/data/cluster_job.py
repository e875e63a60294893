"""The resources of a Ray cluster (nodes, CPUs, GPUs, autoscaler), and waiting for them with a time limit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import ray
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from restore_dit.errors import UserError
from restore_dit.private_interfaces import autoscaler_node_types

Bundle = dict[str, float]
"""Resources of one worker: CPU, GPU, memory in bytes."""

LONGEST_WAIT = 30.0
"""Default maximum wait in minutes, for resources in use or for nodes that an autoscaler starts."""

FIRST_LINE_AFTER = 5.0
"""Seconds before the first message; available resources are granted faster."""

SECONDS_BETWEEN_LINES = 60.0


def on_this_node() -> NodeAffinitySchedulingStrategy:
    """Places an actor on the node of this process. An actor that reserves no CPUs may lie on any node otherwise, and
    whatever asks it would fail if that node were lost."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def cpus() -> int:
    """Current number of CPUs in the cluster, at least one."""
    return max(1, int(ray.cluster_resources().get("CPU", 0)))


def gpus() -> int:
    """Current number of GPUs in the cluster, at least one, so that a request on a cluster without GPUs fails with a
    clear error."""
    return max(1, int(ray.cluster_resources().get("GPU", 0)))


def description() -> str:
    """One-line summary of the cluster."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    present = ray.cluster_resources()
    growing = ", more on demand" if has_autoscaler() else ""
    return (
        f"{len(alive)} {'node' if len(alive) == 1 else 'nodes'}, {present.get('CPU', 0):g} CPUs, "
        f"{present.get('GPU', 0):g} GPUs{growing}"
    )


def has_autoscaler() -> bool:
    """Whether nodes are added on demand, as far as the cluster reveals it.

    Ray's monitor runs on every head node. The v1 autoscaler in monitoring-only mode derives each node's type from the
    node's own id; v2 runs only if an autoscaler was configured.
    """
    types = autoscaler_node_types()
    return types is None or bool(types - {f"node_{node['NodeID']}" for node in ray.nodes()})


def await_room(
    bundles: Sequence[Bundle],
    say: Callable[[str], object] = lambda line: print(line, flush=True),
    *,
    strategy: str = "PACK",
    minutes: float | None = None,
    advice: str = "",
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Waits until the cluster has room for all bundles at the same time; returns False if `stop` ends the wait.

    If the cluster could not provide the room even when idle, and no autoscaler adds nodes, this fails immediately;
    otherwise it waits and reports progress. The room is requested through a placement group, which makes an autoscaler
    add nodes and is removed when this process ends.

    Args:
        bundles: the resources needed, one entry per worker.
        say: called with each progress message.
        strategy: placement strategy of Ray's placement groups.
        minutes: maximum wait; a value above 0 also waits for nodes that no known autoscaler adds. None: 30, without
            waiting for such nodes.
        advice: what the user can do about missing resources, for messages.
        stop: polled every second.

    Raises:
        UserError: the cluster cannot provide the room, or did not within the time.
    """
    too_small = lacks(bundles, node_resources())
    hint = f"; {advice}" if advice else ""
    if too_small and not minutes and not has_autoscaler():
        raise UserError(f"the cluster is too small: {too_small}, and no autoscaler adds nodes{hint}")
    begin = time.monotonic()
    end = begin + 60 * (LONGEST_WAIT if minutes is None else minutes)
    next_line = begin + FIRST_LINE_AFTER
    group = placement_group(list(bundles), strategy=strategy)
    try:
        while not group.wait(timeout_seconds=1):
            now = time.monotonic()
            missing = lacks(bundles, node_resources()) or f"{_total_text(bundles)} requested, which others are using"
            if stop():
                return False
            if now >= max(end, begin + FIRST_LINE_AFTER):
                raise UserError(f"the cluster had no room within {(end - begin) / 60:g} minutes: {missing}{hint}")
            if now >= next_line:
                next_line = now + SECONDS_BETWEEN_LINES
                say(f"waiting for the cluster, for at most {math.ceil((end - now) / 60)} minutes: {missing}")
    finally:
        remove_placement_group(group)
    return True


def _totals(bundles: Sequence[Bundle]) -> Bundle:
    names = dict.fromkeys(name for bundle in bundles for name in bundle)
    return {name: sum(bundle.get(name, 0.0) for bundle in bundles) for name in names}


def _total_text(bundles: Sequence[Bundle]) -> str:
    return " and ".join(_amount(name, value) for name, value in _totals(bundles).items())


def node_resources() -> list[Bundle]:
    """Total resources of each living node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def lacks(bundles: Sequence[Bundle], nodes: Sequence[Bundle]) -> str:
    """Describes what these nodes could never provide, in total or for one bundle on one node; empty if they could."""
    present = _totals(nodes)
    short = " and ".join(
        f"{_amount(name, value)} requested, {_amount(name, present.get(name, 0.0))} available"
        for name, value in _totals(bundles).items()
        if value > present.get(name, 0.0) + 1e-6
    )
    if short:
        return short
    for bundle in bundles:
        if not any(all(value <= node.get(name, 0.0) + 1e-6 for name, value in bundle.items()) for node in nodes):
            return f"{_total_text([bundle])} requested on one node, which no node has"
    return ""


def _amount(name: str, value: float) -> str:
    if name == "memory":
        return f"{round(value / 2**30, 2):.10g} GiB of memory"
    return f"{value:g} {name}{'' if value == 1 else 's'}"
