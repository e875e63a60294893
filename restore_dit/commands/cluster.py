"""Commands for a local Ray cluster of several nodes."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from restore_dit.commands.arguments import command, group
from restore_dit.errors import UserError

if TYPE_CHECKING:
    from cluster.local.record import ClusterRecord
    from restore_dit.commands.arguments import Commands

MIB = 1 << 20


def add_to(commands: Commands) -> None:
    """`cluster up`, `cluster down`, `cluster status`."""
    clusters = group(commands, "cluster", "A Ray cluster of several nodes on this machine.")
    parser = command(
        clusters,
        "cluster up",
        cluster_up,
        "Start a head and worker nodes as separate processes on this machine, on loopback and with a token.",
        "cluster up --nodes 3 --cpus-per-node 1",
    )
    parser.add_argument("--nodes", type=int, default=3, help="number of nodes, including the head (default: 3)")
    parser.add_argument(
        "--cpus-per-node", type=int, metavar="N", help="CPUs per node (default: the machine's, divided by the nodes)"
    )
    parser.add_argument(
        "--head-cpus", type=int, metavar="N", help="CPUs of the head (default: as the others); 0: it runs no tasks"
    )
    parser.add_argument(
        "--gpus-per-node", type=int, default=0, metavar="N", help="GPUs per node, except the head (default: 0)"
    )
    parser.add_argument("--object-store", type=int, metavar="MIB", help="size per node (default: at most 1024)")
    parser.add_argument(
        "--timeout", type=float, default=120, metavar="S", help="seconds until all nodes must be up (default: 120)"
    )
    parser.add_argument(
        "--python",
        metavar="FILE",
        help="interpreter of another environment for the nodes; it needs the dependencies but not this project",
    )
    parser.add_argument("--user", metavar="NAME", help="run the nodes as this user (requires root)")
    _named(parser)

    parser = command(
        clusters, "cluster down", cluster_down, "Stop the processes that `cluster up` started.", "cluster down"
    )
    _named(parser)

    parser = command(
        clusters, "cluster status", cluster_status, "List the nodes and jobs of the cluster.", "cluster status"
    )
    _named(parser)


def cluster_up(given: argparse.Namespace) -> int:
    from cluster.local.lifecycle import ClusterPlan, up
    from cluster.local.node import Runner

    share = max(1, (os.cpu_count() or 1) // max(given.nodes, 1))
    plan = ClusterPlan(
        nodes=given.nodes,
        cpus_per_node=share if given.cpus_per_node is None else given.cpus_per_node,
        head_cpus=given.head_cpus,
        gpus_per_node=given.gpus_per_node,
        object_store=None if given.object_store is None else given.object_store * MIB,
        name=given.name_of_cluster,
        seconds=given.timeout,
        runner=Runner(given.python or sys.executable, given.user),
    )
    _show(up(plan, lambda line: print(line, flush=True)))
    return 0


def cluster_down(given: argparse.Namespace) -> int:
    from cluster.local.lifecycle import down

    if not down(given.name_of_cluster):
        raise UserError(f"there is no local cluster '{given.name_of_cluster}'")
    print(f"local cluster '{given.name_of_cluster}' stopped")
    return 0


def cluster_status(given: argparse.Namespace) -> int:
    """Prints the nodes and jobs. Returns the exit status: 0 if every node is alive, else 1."""
    from cluster.local import dashboard
    from cluster.local.record import read_record

    record = read_record(given.name_of_cluster)
    if record is None:
        raise UserError(f"there is no local cluster '{given.name_of_cluster}'; start one with `restore-dit cluster up`")
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


def _show(record: ClusterRecord) -> None:
    print(f"submit jobs with:  restore-dit submit JOB … --address {record.dashboard}")
    print(f"use Ray directly:  source {record.environment_file}")
    print(f"token:             {record.token_file}")


def _named(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--name",
        dest="name_of_cluster",
        default="default",
        metavar="NAME",
        help="name of the cluster, to tell several apart (default: default)",
    )
