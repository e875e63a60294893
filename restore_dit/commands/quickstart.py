"""The quickstart: apply the shipped model to a series, then train and evaluate a small model."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import click

from restore_dit.command_line import command, run_program
from restore_dit.errors import UserError


@command("quickstart")
@click.option(
    "--folder", default="quickstart", show_default=True, metavar="FOLDER", help="folder for everything that is written"
)
@click.pass_context
def quickstart(context: click.Context, folder: str) -> int:
    """Fill a simulated series with the shipped model, then train a small one. Takes minutes on a laptop."""
    series, clear, store, run = (f"{folder}/{name}" for name in ("series", "clear", "store", "run"))
    filling = [
        # Seed 7 gives a place, a year and an archive that the shipped model, trained on seed 1, has never seen.
        ["simulate", series, "--tiles", "1", "--seed", "7", "--varied", "days=400", "height=64", "width=64"],
        ["reconstruct", series, clear],
        ["evaluate", series, "--output", f"{folder}/scores", "part=all"],
    ]
    training = [
        ["simulate", store, "--tiles", "40", "height=64", "width=64"],
        ["train", "--config", "tiny", f"data.store={store}", f"output={folder}", "name=run"],
        ["evaluate", f"{run}/model", store, "--output", f"{folder}/evaluation"],
    ]
    status = _all_of(filling, context, folder)
    if status:
        return status
    print(
        f"\nThe shipped model has filled a series: see {clear} (rasters and a picture) and {folder}/scores (the table "
        "above and figures). Next, a small model is trained. Press Ctrl-C to stop it; run the same command again to "
        "resume."
    )
    status = _all_of(training, context, folder)
    if not status:
        print(f"\nSee {folder}/evaluation for the table and figures of your own model.")
    return status


def _all_of(commands: Sequence[Sequence[str]], context: click.Context, folder: str) -> int:
    """Runs the commands in turn until one fails. Returns its exit status, or 0."""
    for words in commands:
        print(f"\n$ restore-dit {shlex.join(words)}", flush=True)
        if words[0] == "train" and _is_finished(f"{folder}/run"):
            print("already trained; delete the folder to train again")
            continue
        status = run_program(context.find_root().command, words, "restore-dit")
        if status:
            return status
    return 0


def _is_finished(run: str) -> bool:
    from restore_dit.data.storage import locate, read_bytes
    from restore_dit.trainer.run_folder import RunRecord

    try:
        return RunRecord.model_validate_json(read_bytes(locate(run).join("run.json"))).status == "finished"
    except UserError:
        return False
