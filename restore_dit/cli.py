"""`restore-dit …`: one thin command for each thing a user does. What a command needs is imported when it runs."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from typing import TYPE_CHECKING

from pydantic import BaseModel

from restore_dit import __version__
from restore_dit.config import PRESETS, dump, load, shipped
from restore_dit.config.cube_mapping import shipped_cube_mappings
from restore_dit.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from restore_dit.config.simulation import SimulationConfig
    from restore_dit.data.store.tile_store import TileStore

OVERRIDES = "key=value"


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
        "inspect", inspect, "What is in a tile store or model directory.", "inspect stores/site --contact-sheet"
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
    sub.add_argument("--tiles", metavar="A,B", help="with --contact-sheet: the tiles to draw")

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
        "quickstart", quickstart, "Simulate, train, evaluate, reconstruct: minutes on a laptop.", "quickstart"
    )
    sub.add_argument("--folder", default="quickstart", help="where everything goes (default quickstart)")
    return top


def simulate(given: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import track

    from restore_dit.config.loading import load_section
    from restore_dit.config.simulation import SimulationConfig
    from restore_dit.data.simulation.simulator import simulate_tile, tile_name
    from restore_dit.data.store.tile_store_writer import TileStoreWriter

    config = load_section(SimulationConfig, given.overrides)
    if given.tiles < 1:
        raise UserError(f"--tiles {given.tiles}: at least 1", status=2)
    if given.layout == "store" and (given.dates or given.bad_frames):
        raise UserError("--dates and --bad-frames go with --layout pastis", status=2)
    if given.layout == "pastis" and given.first:
        raise UserError("--first: PASTIS-R's layout begins with its first patches; give --tiles alone", status=2)
    if given.dry_run:
        return show(config)
    console = Console()
    if given.layout == "pastis":
        return _simulate_pastis(given, config, console)
    writer = TileStoreWriter(given.out, source=f"simulation, seed {given.seed}")
    indices = range(given.first, given.first + given.tiles)
    for index in track(indices, "simulating", console=console, disable=not console.is_terminal):
        if not writer.has(tile_name(given.seed, index)):
            writer.add(simulate_tile(config, given.seed, index))
    manifest = writer.commit()
    print(f"{given.out}: {len(manifest.tiles)} tiles")
    return 0


def _simulate_pastis(given: argparse.Namespace, config: SimulationConfig, console: Console) -> int:
    from rich.progress import Progress

    from restore_dit.data.pastis.template import read_template
    from restore_dit.data.pastis.write import write_pastis

    template = read_template(given.dates, given.bad_frames)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("simulating", total=given.tiles)

        def on_patch(done: int) -> None:
            progress.update(task, completed=done)
            if not console.is_terminal and (done == given.tiles or done % 10 == 0):
                console.print(f"patch {done} of {given.tiles}", highlight=False)

        write_pastis(config, given.out, given.tiles, seed=given.seed, template=template, on_patch=on_patch)
    print(f"{given.out}: {given.tiles} patches in PASTIS-R's layout")
    return 0


def ingest_cube(given: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from restore_dit.config.cube_mapping import load_cube_mapping
    from restore_dit.data.cubes.ingest import ingest_cubes
    from restore_dit.data.cubes.sites import find_sites

    mapping = load_cube_mapping(given.mapping, given.overrides)
    if given.dry_run:
        print(dump(mapping), end="")
        for site in find_sites(given.source, mapping):
            print(f"# {site.tile_id}: {site.problem or ', '.join(file.name for file in site.files) or 'no file'}")
        return 0
    console = Console(stderr=True)
    # Lines go to standard output, also where that is no terminal and the bar's is.
    with Progress(
        console=console, transient=True, disable=not console.is_terminal, redirect_stdout=sys.stdout.isatty()
    ) as progress:
        task = progress.add_task("ingesting", total=None)

        def report(done: int, total: int, outcome: str) -> None:
            progress.update(task, completed=done, total=total)
            print(f"{done}/{total} {outcome}", flush=True)

        manifest = ingest_cubes(given.source, given.out, mapping, report)
    print(f"{given.out}: {len(manifest.tiles)} tiles, {len(manifest.quarantined)} quarantined")
    for tile, reason in manifest.quarantined.items():
        print(f"restore-dit: quarantined {tile}: {reason}", file=sys.stderr)
    return 1 if manifest.quarantined and not given.allow_bad_tiles else 0


def ingest_pastis(given: argparse.Namespace) -> int:
    from jobs.entry import console
    from jobs.ingest import run
    from restore_dit.config.loading import load_section
    from restore_dit.config.pastis import PastisConfig

    options = {
        name: value
        for name in ("radar", "patches", "folds", "bad_frames", "workers")
        if (value := getattr(given, name)) is not None
    }
    if given.allow_bad_tiles:
        options["allow_bad_tiles"] = True
    config = load_section(PastisConfig, given.overrides, source=given.source, output=given.out, **options)
    return show(config) if given.dry_run else run(config, console())


def inspect(given: argparse.Namespace) -> int:
    from restore_dit.data.storage import exists, join_uri
    from restore_dit.data.store.description_text import description_text
    from restore_dit.data.store.inspection import describe_store
    from restore_dit.data.store.tile_store import TileStore

    if exists(join_uri(given.place, "model.safetensors")):
        return _inspect_model(given)
    for option, needed in (("deep", "verify"), ("tiles", "contact_sheet")):
        if getattr(given, option) and getattr(given, needed) in (None, False):
            raise UserError(f"--{option} means nothing without --{needed.replace('_', '-')}: add it", status=2)
    if given.contact_sheet and not given.contact_sheet.endswith(".png"):
        raise UserError(
            f"--contact-sheet {given.contact_sheet}: a picture's name ends in .png; give the store first", status=2
        )
    store = TileStore.open(given.place)
    description = describe_store(store)
    print(json.dumps(description.as_json(), indent=1) if given.json else description_text(description), flush=True)
    if given.contact_sheet is not None:
        _draw_contact_sheet(given, store)
    return _verify(given, store) if given.verify else 0


def _inspect_model(given: argparse.Namespace) -> int:
    from restore_dit.reconstruction.model_directory import load_model

    for option in ("verify", "deep", "contact_sheet", "tiles"):
        if getattr(given, option) not in (None, False):
            name = option.replace("_", "-")
            raise UserError(
                f"{given.place}: a model directory, and --{name} is for tile stores: leave it out", status=2
            )
    model = load_model(given.place)
    parameters = sum(p.numel() for p in model.denoiser.parameters())
    if given.json:
        tree = {"config": model.config.model_dump(mode="json"), "parameters": parameters, "metrics": model.metrics}
        print(json.dumps(tree, indent=1))
        return 0
    print(dump(model.config), end="")
    print(f"parameters: {parameters}")
    for name, value in model.metrics.items():
        print(f"{name}: {value:.6g}")
    return 0


def _draw_contact_sheet(given: argparse.Namespace, store: TileStore) -> None:
    from restore_dit.data.storage import write_bytes_atomically
    from restore_dit.data.store.contact_sheet import contact_sheet

    file = given.contact_sheet or f"{store.location.name}.png"
    write_bytes_atomically(file, contact_sheet(store, given.tiles.split(",") if given.tiles else None))
    print(f"contact sheet: {file}", file=sys.stderr)


def _verify(given: argparse.Namespace, store: TileStore) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from restore_dit.data.store.verification import verify_store

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("verifying", total=None)
        problems = verify_store(
            store, lambda done, total: progress.update(task, completed=done, total=total), deep=given.deep
        )
    for problem in problems:
        print(f"restore-dit inspect: {problem}", file=sys.stderr)
    print(
        f"verified {len(store.tile_ids)} tiles: {len(problems)} damaged, missing or unknown files",
        file=sys.stderr if given.json else sys.stdout,
    )
    return 1 if problems else 0


def train(given: argparse.Namespace) -> int:
    from jobs.entry import console
    from jobs.train import run

    overrides = list(given.overrides)
    if given.init_from:
        overrides.append(f"training.init_from={given.init_from}")
    config = load(given.config, overrides)
    return show(config) if given.dry_run else run(config, console())


def evaluate(given: argparse.Namespace) -> int:
    from jobs.entry import console
    from jobs.evaluate import run
    from restore_dit.config.jobs import EvaluationConfig
    from restore_dit.config.loading import load_section

    config = load_section(
        EvaluationConfig,
        given.overrides,
        model=given.model,
        store=given.store,
        protocol=given.protocol,
        output=given.output,
    )
    return show(config) if given.dry_run else run(config, console())


def reconstruct(given: argparse.Namespace) -> int:
    from jobs.entry import console
    from jobs.reconstruct import run
    from restore_dit.config.jobs import ReconstructionConfig
    from restore_dit.config.loading import load_section

    config = load_section(
        ReconstructionConfig, given.overrides, model=given.model, input=given.input, output=given.output
    )
    return show(config) if given.dry_run else run(config, console())


def import_checkpoint(given: argparse.Namespace) -> int:
    from restore_dit.data.examples.normalisation import Normalisation, read_published_normalisation
    from restore_dit.model.published import read_published_checkpoint
    from restore_dit.reconstruction.model_directory import save_model

    model, weights = read_published_checkpoint(given.file, heads=given.heads)
    paper = PRESETS["paper"]()
    radar = paper.data.radar if model.radar_channels else None
    config = paper.model_copy(update={"model": model, "data": paper.data.model_copy(update={"radar": radar})})
    normalisation = Normalisation()
    if model.radar_channels and given.store:
        from restore_dit.data.store.tile_store import TileStore
        from restore_dit.training.setup import normalisation_of

        store = TileStore.open(given.store)
        normalisation = normalisation_of(store, config, store.tile_ids)
    elif model.radar_channels and given.normalisation:
        normalisation = read_published_normalisation(given.normalisation, model.radar_channels)
    elif model.radar_channels:
        raise UserError(
            "the checkpoint takes radar: give --normalisation NORM_S1A_patch.json or --store STORE", status=2
        )
    save_model(given.out, config, weights, normalisation, {})
    print(f"{given.out}: {sum(tensor.numel() for tensor in weights.values()) / 1e6:.2f} M parameters")
    return 0


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
        status = main(words)
        if status:
            return status
    print(f"\nLook at {folder}/evaluation (table and figures) and {folder}/clear (rasters and a picture).")
    return 0


def _is_finished(run: str) -> bool:
    from restore_dit.data.storage import join_uri, read_bytes
    from restore_dit.training.run_folder import RunRecord

    try:
        return RunRecord.model_validate_json(read_bytes(join_uri(run, "run.json"))).status == "finished"
    except UserError:
        return False


def _is_override(word: str) -> bool:
    return "=" in word and not word.startswith("-")


def show(config: BaseModel) -> int:
    """What `--dry-run` prints."""
    print(dump(config), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
