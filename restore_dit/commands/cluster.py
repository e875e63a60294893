"""Commands for a local Ray cluster of several nodes."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from restore_dit.command_line import Commands, command
from restore_dit.errors import UserError

if TYPE_CHECKING:
    from cluster.local.record import ClusterRecord

MIB = 1 << 20

_name = click.option("--name", default="default", show_default=True, help="name of the cluster, to tell several apart")


@command("up", example="--nodes 3 --cpus-per-node 1")
@click.option("--nodes", type=int, default=3, show_default=True, help="number of nodes, including the head")
@click.option(
    "--cpus-per-node", type=int, metavar="N", help="CPUs per node (default: the machine's, divided by the nodes)"
)
@click.option(
    "--head-cpus", type=int, metavar="N", help="CPUs of the head (default: as the others); 0: it runs no tasks"
)
@click.option(
    "--gpus-per-node", type=int, default=0, show_default=True, metavar="N", help="GPUs per node, except the head"
)
@click.option("--object-store", type=int, metavar="MIB", help="size per node (default: at most 1024)")
@click.option(
    "--timeout", type=float, default=120, show_default=True, metavar="S", help="seconds until all nodes must be up"
)
@click.option(
    "--python",
    metavar="FILE",
    help="interpreter of another environment for the nodes; it needs the dependencies but not this project",
)
@click.option("--user", metavar="NAME", help="run the nodes as this user (requires root)")
@_name
def up(
    nodes: int,
    cpus_per_node: int | None,
    head_cpus: int | None,
    gpus_per_node: int,
    object_store: int | None,
    timeout: float,
    python: str | None,
    user: str | None,
    name: str,
) -> int:
    """Start a head and worker nodes as separate processes on this machine, on loopback and with a token."""
    from cluster.local import lifecycle
    from cluster.local.node import Runner

    share = max(1, (os.cpu_count() or 1) // max(nodes, 1))
    plan = lifecycle.ClusterPlan(
        nodes=nodes,
        cpus_per_node=share if cpus_per_node is None else cpus_per_node,
        head_cpus=head_cpus,
        gpus_per_node=gpus_per_node,
        object_store=None if object_store is None else object_store * MIB,
        name=name,
        seconds=timeout,
        runner=Runner(python or sys.executable, user),
    )
    _show(lifecycle.up(plan, lambda line: print(line, flush=True)))
    return 0


@command("down")
@_name
def down(name: str) -> int:
    """Stop the processes that `cluster up` started."""
    from cluster.local import lifecycle

    if not lifecycle.down(name):
        raise UserError(f"there is no local cluster '{name}'")
    print(f"local cluster '{name}' stopped")
    return 0


@command("status")
@_name
def status(name: str) -> int:
    """List the nodes and jobs of the cluster. Exits with 0 if every node is alive, else with 1."""
    from cluster.local import dashboard
    from cluster.local.record import read_record

    record = read_record(name)
    if record is None:
        raise UserError(f"there is no local cluster '{name}'; start one with `restore-dit cluster up`")
    try:
        nodes, jobs = dashboard.nodes(record), dashboard.jobs(record)
    except OSError as error:
        raise UserError(
            f"the local cluster '{record.name}' does not answer at {record.dashboard} ({error}); its head may have "
            "died: run `restore-dit cluster down` to clean up"
        ) from None
    for node in sorted(nodes, key=lambda node: not node.is_head):
        state = "alive" if node.alive else "dead"
        gpus = f", {node.gpus:g} GPUs" if node.gpus else ""
        store = f"object store {node.object_store / MIB:.0f} MiB"
        print(f"{'head' if node.is_head else 'node'}  {state:5}  {node.cpus:g} CPUs{gpus}, {store}")
    for job in jobs:
        print(f"job   {job.job_id}  {job.status.lower()}")
    _show(record)
    dead = [node.name for node in record.nodes if node.process() is None]
    return 1 if dead or not all(node.alive for node in nodes) else 0


cluster = Commands("cluster", help="A Ray cluster of several nodes on this machine.", commands=[up, down, status])


def _show(record: ClusterRecord) -> None:
    print(f"submit jobs with:  restore-dit submit JOB … --address {record.dashboard}")
    print(f"use Ray directly:  source {record.environment_file}")
    print(f"token:             {record.token_file}")
