"""`restore-dit …`: the commands and their arguments. What each does is in `restore_dit.commands`."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from restore_dit import __version__
from restore_dit.commands.clouds import clouds_compare, clouds_detect, clouds_train
from restore_dit.commands.data import ingest_cube, ingest_pastis, simulate
from restore_dit.commands.inspect import inspect
from restore_dit.commands.models import evaluate, import_checkpoint, reconstruct, train
from restore_dit.commands.quickstart import quickstart
from restore_dit.config import PRESETS, shipped
from restore_dit.config.cube_mapping import shipped_cube_mappings

OVERRIDES = "key=value"
_OVERRIDE = re.compile(r"[\w.]+=")
"""How an override begins where a store might stand, too: `s3://bucket/year=2019/site` is none."""


def main(argv: list[str] | None = None) -> int:
    """Entry point; the exit status: 0, 1 (failed), 2 (bad usage) or 130 (interrupted)."""
    from jobs.entry import exit_status

    top = parser()
    given, rest = top.parse_known_args(argv)
    # argparse takes positional arguments in one run only; key=value may stand between options too.
    given.overrides = [*getattr(given, "overrides", ()), *(word for word in rest if _is_override(word))]
    unknown = [word for word in rest if not _is_override(word) or "dry_run" not in given]
    if unknown:
        top.error(f"unrecognised: {' '.join(unknown)}; see restore-dit {given.name} --help")
    if isinstance(getattr(given, "stores", None), list):  # several stores take the words that follow them, too
        overrides = [word for word in given.stores if _OVERRIDE.match(word) and not Path(word).is_dir()]
        given.overrides += overrides
        given.stores = [word for word in given.stores if word not in overrides]
    return exit_status(lambda: given.command(given), f"restore-dit {given.name}")


def parser() -> argparse.ArgumentParser:
    """All commands and their arguments."""
    top = argparse.ArgumentParser(
        prog="restore-dit",
        description="Gap-free Sentinel-2 series from what is visible, the radar series and the dates.",
        epilog="restore-dit COMMAND --help explains a command with an example.",
    )
    top.add_argument("--version", action="version", version=f"restore-dit {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: object, description: str, example: str, parent=commands) -> argparse.ArgumentParser:  # type: ignore[no-untyped-def]
        sub = parent.add_parser(
            name, help=description, description=description, epilog=f"example: restore-dit {example}"
        )
        sub.set_defaults(command=run, name=name)
        return sub

    def work(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("overrides", nargs="*", metavar=OVERRIDES, help="changes to the configuration")
        sub.add_argument("--dry-run", action="store_true", help="print the resolved configuration and stop")

    sub = command("simulate", simulate, "Write simulated tiles to a tile store.", "simulate stores/sim --tiles 24")
    sub.add_argument("out", help="tile store, a folder or URI")
    sub.add_argument(
        "--layout",
        choices=("store", "pastis"),
        default="store",
        help="tile store, or PASTIS-R's folder (default store)",
    )
    sub.add_argument("--dates", metavar="FILE", help="pastis: JSON with the acquisition dates of its four tiles")
    sub.add_argument(
        "--bad-frames", metavar="FILE", help="pastis: bad_frames.json whose patches and lists to take over"
    )
    sub.add_argument("--tiles", type=int, default=24, help="number of tiles (default 24)")
    sub.add_argument("--first", type=int, default=0, help="index of the first tile (default 0)")
    sub.add_argument("--seed", type=int, default=0, help="seed of the simulated area (default 0)")
    work(sub)

    ingest = commands.add_parser("ingest", help="Bring data into a tile store.").add_subparsers(
        title="sources", metavar="SOURCE", required=True
    )
    sub = command(
        "cube", ingest_cube, "Data cubes (NetCDF, Zarr, GeoTIFF) to a tile store.", "ingest cube data/site stores/site",
        ingest,
    )  # fmt: skip
    sub.add_argument("source", help="folder of one site's files, or of such folders, or a single file")
    sub.add_argument("out", help="tile store, a folder or URI")
    sub.add_argument(
        "--mapping", default="worldcereal", metavar="F",
        help=f"YAML file, or shipped: {', '.join(shipped_cube_mappings())} (default worldcereal)",
    )  # fmt: skip
    sub.add_argument("--allow-bad-tiles", action="store_true", help="exit with 0 although tiles were quarantined")
    work(sub)

    sub = command(
        "pastis", ingest_pastis, "PASTIS-R, unpacked or as the published ZIP, to a tile store.",
        "ingest pastis 'https://zenodo.org/records/5735646/files/PASTIS-R.zip?download=1' s3://bucket/pastis", ingest,
    )  # fmt: skip
    sub.set_defaults(name="ingest pastis")  # as messages call it
    sub.add_argument("source", help="PASTIS-R's folder, or its ZIP: a path, s3:// or https://")
    sub.add_argument("out", help="tile store, a folder or URI")
    sub.add_argument("--radar", metavar="S1A,S1D", help="radar tracks to take (default both)")
    sub.add_argument("--patches", metavar="10000,10001", help="only these patches (default all)")
    sub.add_argument("--folds", metavar="1,2", help="only patches of these folds (default all)")
    sub.add_argument("--bad-frames", metavar="FILE", help="bad_frames.json (default the one in the source)")
    sub.add_argument("--allow-bad-tiles", action="store_true", help="exit with 0 although patches were quarantined")
    sub.add_argument("--workers", type=int, help="Ray tasks at a time (default one a CPU); 0: this process, no Ray")
    work(sub)

    sub = command(
        "inspect",
        inspect,
        "What is in a tile store or model directory.",
        "inspect stores/site data.targets.most_haze=0.05 --frames",
    )
    sub.add_argument("place", help="tile store or model directory")
    sub.add_argument("--json", action="store_true", help="print it for machines")
    sub.add_argument("--verify", action="store_true", help="compare every file of a tile store with its checksum")
    sub.add_argument("--deep", action="store_true", help="with --verify: decode every acquisition, too")
    sub.add_argument(
        "--contact-sheet",
        nargs="?",
        const="",
        metavar="FILE.png",
        help="draw a picture of up to 12 tiles of a store (default: the store's name, in the working folder)",
    )
    sub.add_argument(
        "--frames",
        nargs="?",
        const="",
        metavar="FILE.png",
        help="draw every acquisition of up to 4 tiles: which may be targets, and why not (default: the store's name "
        "with _frames, in the working folder)",
    )
    sub.add_argument("--tiles", metavar="A,B", help="with --contact-sheet or --frames: the tiles to draw")
    sub.add_argument(
        "--config",
        default="default",
        metavar="F",
        help="YAML file, or shipped: whose data.targets decides which frames may be targets (default default)",
    )
    sub.add_argument("overrides", nargs="*", metavar=OVERRIDES, help="changes to that configuration")
    sub.set_defaults(dry_run=False)  # key=value may stand between options, as where work is done

    clouds = commands.add_parser("clouds", help="Cloud and shadow masks.").add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    sub = command(
        "detect", clouds_detect, "Cloud and shadow masks for the tiles of a store.",
        "clouds detect stores/site --weights models/clouds", clouds,
    )  # fmt: skip
    sub.set_defaults(name="clouds detect")
    sub.add_argument("store", help="tile store")
    sub.add_argument(
        "--method", choices=("network", "rule", "source", "s2cloudless"),
        help="network: by --weights; rule: needs none; source, s2cloudless: masks that came with the tiles "
        "(default network with --weights, else rule)",
    )  # fmt: skip
    sub.add_argument(
        "--weights", metavar="W", help="model directory of `clouds train`, or a published state dict: a path or URI"
    )
    sub.add_argument("--tiles", metavar="A,B", help="only these tiles (default all)")
    sub.add_argument("--workers", type=int, help="Ray actors (default one a CPU); 0: this process, no Ray")
    work(sub)

    sub = command(
        "train", clouds_train, "Train a network for cloud masks; Ctrl-C saves, the same command resumes.",
        "clouds train stores/labelled stores/sim --output models/clouds", clouds,
    )  # fmt: skip
    sub.set_defaults(name="clouds train")
    sub.add_argument("stores", nargs="+", metavar="store", help="tile store with masks to learn from")
    sub.add_argument("--output", default="models/clouds", help="model directory to write (default models/clouds)")
    work(sub)

    sub = command(
        "compare", clouds_compare, "Scores of one method's masks against another's.",
        "clouds compare stores/site --masks rule --against source", clouds,
    )  # fmt: skip
    sub.set_defaults(name="clouds compare")
    sub.add_argument("store", help="tile store")
    sub.add_argument("--masks", metavar="METHOD", help="network, rule, … (default the masks in use)")
    sub.add_argument("--against", metavar="METHOD", default="source", help="taken for the truth (default source)")
    sub.add_argument("--tiles", metavar="A,B", help="only these tiles (default all)")
    sub.add_argument("--picture", metavar="FILE.png", help="draw the acquisitions that agree least")
    sub.add_argument("--json", action="store_true", help="print it for machines")

    sub = command(
        "train", train, "Train a model; Ctrl-C saves, the same command resumes.",
        "train --config own_site data.store=stores/site name=site",
    )  # fmt: skip
    sub.add_argument(
        "--config",
        default="default",
        metavar="F",
        help=f"YAML file, or shipped: {', '.join(shipped())} (default default)",
    )
    sub.add_argument("--init-from", metavar="MODEL", help="model directory whose weights to begin with")
    work(sub)

    sub = command(
        "evaluate", evaluate, "The table and figures of a protocol, with baselines.",
        "evaluate runs/site/model stores/site --protocol paper --output evaluation",
    )  # fmt: skip
    sub.add_argument("model", help="model directory")
    sub.add_argument("store", help="tile store")
    sub.add_argument("--protocol", choices=("paper", "missing-frame"), default="paper", help="(default paper)")
    sub.add_argument("--output", default="evaluation", help="folder for table and figures (default evaluation)")
    work(sub)

    sub = command(
        "reconstruct", reconstruct, "A series or an area without gaps, as Cloud-optimised GeoTIFFs or NetCDF.",
        "reconstruct runs/site/model stores/site clear format=netcdf",
    )  # fmt: skip
    sub.add_argument("model", help="model directory")
    sub.add_argument("input", help="tile store, or folder of a data cube")
    sub.add_argument("output", help="folder for the rasters")
    work(sub)

    sub = command(
        "import-checkpoint", import_checkpoint, "A published .pth to a model directory.",
        "import-checkpoint Model_best.pth models/paper --normalisation NORM_S1A_patch.json",
    )  # fmt: skip
    sub.add_argument("file", help="published checkpoint")
    sub.add_argument("out", help="model directory to write")
    sub.add_argument("--heads", type=int, default=PRESETS["paper"]().model.heads, help="attention heads (default 4)")
    sub.add_argument("--normalisation", help="NORM_S1A_patch.json that the checkpoint was trained with")
    sub.add_argument("--store", help="tile store to take the radar's normalisation from instead")

    sub = command(
        "quickstart", lambda given: quickstart(given, main),
        "Simulate, train, evaluate, reconstruct: minutes on a laptop.", "quickstart",
    )  # fmt: skip
    sub.add_argument("--folder", default="quickstart", help="where everything goes (default quickstart)")
    return top


def _is_override(word: str) -> bool:
    return "=" in word and not word.startswith("-")


if __name__ == "__main__":
    sys.exit(main())
