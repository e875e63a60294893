"""Runs Prometheus on this machine for a cluster whose head runs here: `python -m cluster.monitoring.prometheus`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from cluster.local.record import read_record
from restore_dit.errors import UserError
from restore_dit.program import exit_status

FOLDER = Path(__file__).resolve().parent
NODES_FILE = "prom_metrics_service_discovery.json"
"""Ray's name of the file with the list of a cluster's nodes, in the temporary folder of its head."""


def nodes_file(local_cluster: str | None) -> Path:
    """Path of the node list of a local cluster or, if None, of a Ray head with the default temporary folder.

    Raises:
        UserError: no such local cluster.
    """
    if local_cluster is None:
        return Path("/tmp/ray") / NODES_FILE
    record = read_record(local_cluster)
    if record is None:
        raise UserError(f"--cluster {local_cluster}: no such local cluster; start it with `restore-dit cluster up`")
    return record.folder / "head" / NODES_FILE


def configuration(nodes: Path) -> str:
    """The shipped configuration with this node list, and with absolute paths, so that it works in any folder."""
    text = (FOLDER / "prometheus.yaml").read_text(encoding="utf-8")
    return text.replace(f"/tmp/ray/{NODES_FILE}", str(nodes)).replace("- alerts.yaml", f"- {FOLDER / 'alerts.yaml'}")


def command(folder: Path, nodes: Path, port: int) -> list[str]:
    """Writes the configuration into `folder`, in which Prometheus will also store its data, and returns the command
    line that starts Prometheus.

    Raises:
        UserError: Prometheus is not installed.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise UserError("prometheus is not installed; on Debian: apt install prometheus")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "prometheus.yaml"
    file.write_text(configuration(nodes), encoding="utf-8")
    return [
        program, f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Replaces this process by Prometheus, which runs until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m cluster.monitoring.prometheus",
        description="Starts Prometheus on this machine with the shipped configuration and alerts.",
        epilog="example: python -m cluster.monitoring.prometheus --cluster default",
    )
    parser.add_argument("--cluster", metavar="NAME", help="local cluster (default: a Ray head that uses /tmp/ray)")
    parser.add_argument("--port", type=int, default=9090, help="port of Prometheus (default: 9090)")
    parser.add_argument(
        "--folder", type=Path, default=Path("prometheus"), help="folder for its data (default: ./prometheus)"
    )
    given = parser.parse_args(argv)

    def start() -> int:
        words = command(given.folder, nodes_file(given.cluster), given.port)
        print(f"http://127.0.0.1:{given.port}/alerts", flush=True)
        os.execv(words[0], words)

    return exit_status(start, parser.prog)


if __name__ == "__main__":
    sys.exit(main())
