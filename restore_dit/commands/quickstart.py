"""The quickstart: apply the shipped model to a series, then train and evaluate a small model."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
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
        "Fill a simulated series with the shipped model, then train a small one. Takes minutes on a laptop.",
        "quickstart",
    )
    parser.add_argument(
        "--folder", default="quickstart", help="folder for everything that is written (default: quickstart)"
    )


def quickstart(given: argparse.Namespace) -> int:
    folder = given.folder
    series, clear, store, run = (f"{folder}/{name}" for name in ("series", "clear", "store", "run"))
    filling = [
        # Seed 7 gives a place, a year and an archive that the shipped model, trained on seed 1, has never seen.
        ["simulate", series, "--tiles", "1", "--seed", "7", "varied=true", "days=400", "height=64", "width=64"],
        ["reconstruct", series, clear],
        ["evaluate", series, "--output", f"{folder}/scores", "part=all"],
    ]
    training = [
        ["simulate", store, "--tiles", "40", "height=64", "width=64"],
        ["train", "--config", "tiny", f"data.store={store}", f"output={folder}", "name=run"],
        ["evaluate", f"{run}/model", store, "--output", f"{folder}/evaluation"],
    ]
    status = _all_of(filling, given)
    if status:
        return status
    print(
        f"\nThe shipped model has filled a series: see {clear} (rasters and a picture) and {folder}/scores (the table "
        "above and figures). Next, a small model is trained. Press Ctrl-C to stop it; run the same command again to "
        "resume."
    )
    status = _all_of(training, given)
    if not status:
        print(f"\nSee {folder}/evaluation for the table and figures of your own model.")
    return status


def _all_of(commands: Sequence[Sequence[str]], given: argparse.Namespace) -> int:
    """Runs the commands in turn until one fails. Returns its exit status, or 0."""
    for words in commands:
        print(f"\n$ restore-dit {shlex.join(words)}", flush=True)
        if words[0] == "train" and _is_finished(f"{given.folder}/run"):
            print("already trained; delete the folder to train again")
            continue
        status: int = given.main(list(words))
        if status:
            return status
    return 0


def _is_finished(run: str) -> bool:
    from restore_dit.data.storage import locate, read_bytes
    from restore_dit.training.run_folder import RunRecord

    try:
        return RunRecord.model_validate_json(read_bytes(locate(run).join("run.json"))).status == "finished"
    except UserError:
        return False
