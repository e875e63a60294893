"""Data in: simulate, ingest."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from restore_dit.commands.dry_run import show
from restore_dit.config import dump
from restore_dit.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from restore_dit.config.simulation import SimulationConfig


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
    from restore_dit.data.storage.addresses import without_secrets

    options = {
        name: value
        for name in ("radar", "patches", "folds", "bad_frames", "workers")
        if (value := getattr(given, name)) is not None
    }
    if given.allow_bad_tiles:
        options["allow_bad_tiles"] = True
    config = load_section(PastisConfig, given.overrides, source=given.source, output=given.out, **options)
    if given.dry_run:
        # The address may be signed: what is printed may end in a log.
        return show(config.model_copy(update={"source": without_secrets(config.source)}))
    return run(config, console())
