"""The whole way once, from simulated tiles to a filled series."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from restore_dit.commands.arguments import command
from restore_dit.errors import UserError

if TYPE_CHECKING:
    from restore_dit.commands.arguments import Commands


def add_to(commands: Commands) -> None:
    """`quickstart`."""
    parser = command(
        commands,
        "quickstart",
        quickstart,
        "Simulate, train, evaluate, reconstruct: minutes on a laptop.",
        "quickstart",
    )
    parser.add_argument("--folder", default="quickstart", help="where everything goes (default quickstart)")


def quickstart(given: argparse.Namespace) -> int:
    folder = given.folder
    commands = [
        ["simulate", f"{folder}/store", "--tiles", "40", "height=64", "width=64"],
        ["train", "--config", "tiny", f"data.store={folder}/store", f"output={folder}", "name=run"],
        ["evaluate", f"{folder}/run/model", f"{folder}/store", "--output", f"{folder}/evaluation"],
        ["reconstruct", f"{folder}/run/model", f"{folder}/store", f"{folder}/clear", "tiles=[sim-0-000000]"],
    ]
    for words in commands:
        print(f"\n$ restore-dit {shlex.join(words)}", flush=True)
        if words[0] == "train" and _is_finished(f"{folder}/run"):
            print("already trained; delete the folder to train anew")
            continue
        status = given.main(words)
        if status:
            return status
    print(f"\nLook at {folder}/evaluation (table and figures) and {folder}/clear (rasters and a picture).")
    return 0


def _is_finished(run: str) -> bool:
    from restore_dit.data.storage import locate, read_bytes
    from restore_dit.training.run_folder import RunRecord

    try:
        return RunRecord.model_validate_json(read_bytes(locate(run).join("run.json"))).status == "finished"
    except UserError:
        return False
