"""What a Ray cluster has and may get: nodes, CPUs, GPUs, an autoscaler; and waiting for room on it, with a limit."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence

import ray
from ray._private import ray_constants
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.experimental import internal_kv
from ray.util import placement_group, remove_placement_group

from restore_dit.errors import UserError

Bundle = dict[str, float]
"""What one worker needs: CPU, GPU, memory in bytes."""

LONGEST_WAIT = 30.0
"""Minutes that a job waits where it is not told: for what others use, or for nodes that an autoscaler starts."""

FIRST_LINE_AFTER = 5.0
"""Seconds. Room that is there is had in less."""

SECONDS_BETWEEN_LINES = 60.0


def cpus() -> int:
    """CPUs of the cluster as it is now, one at least."""
    return max(1, int(ray.cluster_resources().get("CPU", 0)))


def gpus() -> int:
    """GPUs of the cluster as it is now, one at least: where there is none, whoever asks for it hears so."""
    return max(1, int(ray.cluster_resources().get("GPU", 0)))


def description() -> str:
    """The cluster in a line."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    present = ray.cluster_resources()
    growing = ", more on demand" if has_autoscaler() else ""
    return (
        f"{len(alive)} {'node' if len(alive) == 1 else 'nodes'}, {present.get('CPU', 0):g} CPUs, "
        f"{present.get('GPU', 0):g} GPUs{growing}"
    )


def has_autoscaler() -> bool:
    """Whether nodes are added on demand, as far as the cluster lets on.

    Ray's monitor runs on every head. Its first generation, where it may only look on, names each node's type after the
    node's own id; its second runs only where somebody asked for an autoscaler.
    """
    if is_autoscaler_v2(fetch_from_server=True):
        return True
    status = internal_kv._internal_kv_get(ray_constants.DEBUG_AUTOSCALING_STATUS)
    report = (json.loads(status).get("autoscaler_report") if status else None) or {}
    types = {*(report.get("active_nodes") or {}), *(report.get("idle_nodes") or {})}
    return bool(types - {f"node_{node['NodeID']}" for node in ray.nodes()})


def await_room(
    bundles: Sequence[Bundle],
    say: Callable[[str], object] = lambda line: print(line, flush=True),
    *,
    strategy: str = "PACK",
    minutes: float | None = None,
    advice: str = "",
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """True once the cluster has room for all bundles at the same time, False once `stop` says so.

    Where it could not have it even with nothing else running, and no autoscaler adds nodes, that is an error at once;
    else it waits, saying so. The wait asks for the room by a placement group, which is what makes an autoscaler add
    nodes, and which goes when this process does.

    Args:
        bundles: what is needed, one entry a worker.
        say: takes the lines.
        strategy: how workers are to lie on nodes, as Ray's placement groups name it.
        minutes: the longest wait; a number above 0 also waits for nodes that no autoscaler is known to add. None: 30,
            and none for such nodes.
        advice: what the user can do about it.
        stop: asked every second.

    Raises:
        UserError: no such room, or none within the time.
    """
    lacking = lacks(bundles, node_resources())
    hint = f"; {advice}" if advice else ""
    if lacking and not minutes and not has_autoscaler():
        raise UserError(f"the cluster is too small: {lacking}, and no autoscaler adds nodes{hint}")
    begin = time.monotonic()
    end = begin + 60 * (LONGEST_WAIT if minutes is None else minutes)
    next_line = begin + FIRST_LINE_AFTER
    group = placement_group(list(bundles), strategy=strategy)
    try:
        while not group.wait(timeout_seconds=1):
            now = time.monotonic()
            missing = lacks(bundles, node_resources()) or f"{_sum(bundles)} asked for, which others use"
            if stop():
                return False
            if now >= max(end, begin + FIRST_LINE_AFTER):
                raise UserError(f"the cluster had no room within {(end - begin) / 60:g} minutes: {missing}{hint}")
            if now >= next_line:
                next_line = now + SECONDS_BETWEEN_LINES
                say(f"waiting for the cluster, {math.ceil((end - now) / 60)} minutes at most: {missing}")
    finally:
        remove_placement_group(group)
    return True


def _totals(bundles: Sequence[Bundle]) -> Bundle:
    names = dict.fromkeys(name for bundle in bundles for name in bundle)
    return {name: sum(bundle.get(name, 0.0) for bundle in bundles) for name in names}


def _sum(bundles: Sequence[Bundle]) -> str:
    return " and ".join(_amount(name, value) for name, value in _totals(bundles).items())


def node_resources() -> list[Bundle]:
    """What each node that is alive has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def lacks(bundles: Sequence[Bundle], nodes: Sequence[Bundle]) -> str:
    """What of it these nodes could never give, all together or one of them to one bundle; empty if they could."""
    present = _totals(nodes)
    short = " and ".join(
        f"{_amount(name, value)} asked for, {_amount(name, present.get(name, 0.0))} there"
        for name, value in _totals(bundles).items()
        if value > present.get(name, 0.0) + 1e-6
    )
    if short:
        return short
    for bundle in bundles:
        if not any(all(value <= node.get(name, 0.0) + 1e-6 for name, value in bundle.items()) for node in nodes):
            return f"{_sum([bundle])} asked for on one node, which none has"
    return ""


def _amount(name: str, value: float) -> str:
    if name == "memory":
        return f"{round(value / 2**30, 2):.10g} GiB of memory"
    return f"{value:g} {name}{'' if value == 1 else 's'}"
