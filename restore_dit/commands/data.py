"""Commands that simulate, ingest and export data."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from restore_dit.commands.arguments import command, group, overrides
from restore_dit.commands.dry_run import show
from restore_dit.config import dump
from restore_dit.config.cube_mapping import shipped_cube_mappings
from restore_dit.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from restore_dit.commands.arguments import Commands
    from restore_dit.config.simulation import SimulationConfig

_WORKERS = "concurrent Ray tasks (default: one per CPU, or none for few {}); 0: run in this process"


def add_to(commands: Commands) -> None:
    """`simulate`, `ingest cube`, `ingest pastis`, `export`."""
    parser = command(
        commands, "simulate", simulate, "Simulate tiles into a tile store.", "simulate stores/sim --tiles 24"
    )
    parser.add_argument("out", help="folder or URI of the tile store")
    parser.add_argument(
        "--layout",
        choices=("store", "pastis", "netcdf"),
        default="store",
        help="tile store, a folder laid out like PASTIS-R, or a folder with one NetCDF file per tile (default: store)",
    )
    parser.add_argument("--dates", metavar="FILE", help="pastis: JSON with the acquisition dates of its four tiles")
    parser.add_argument(
        "--bad-frames", metavar="FILE", help="pastis: bad_frames.json from which to copy patches and lists"
    )
    parser.add_argument("--tiles", type=int, default=24, help="number of tiles (default: 24)")
    parser.add_argument("--first", type=int, default=0, help="index of the first tile (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulated area (default: 0)")
    parser.add_argument("--workers", type=int, help=_WORKERS.format("tiles"))
    overrides(parser)

    sources = group(commands, "ingest", "Ingest data into a tile store.", of="source")
    parser = command(
        sources,
        "ingest cube",
        ingest_cube,
        "Ingest data cubes (NetCDF, Zarr, GeoTIFF) into a tile store.",
        "ingest cube data/site stores/site",
    )
    parser.add_argument("source", help="a folder with one site's files, a folder of such folders, or a single file")
    parser.add_argument("out", help="folder or URI of the tile store")
    parser.add_argument(
        "--mapping",
        default="worldcereal",
        metavar="F",
        help=f"YAML file, or a shipped mapping: {', '.join(shipped_cube_mappings())} (default: worldcereal)",
    )
    parser.add_argument("--allow-bad-tiles", action="store_true", help="exit with 0 even if tiles were quarantined")
    parser.add_argument("--workers", type=int, help=_WORKERS.format("sites"))
    overrides(parser)

    parser = command(
        sources,
        "ingest pastis",
        ingest_pastis,
        "Ingest PASTIS-R, unpacked or as the published ZIP, into a tile store.",
        "ingest pastis 'https://zenodo.org/records/5735646/files/PASTIS-R.zip?download=1' s3://bucket/pastis",
    )
    parser.add_argument("source", help="folder of PASTIS-R, or its ZIP: a path, s3:// or https://")
    parser.add_argument("out", help="folder or URI of the tile store")
    parser.add_argument("--radar", metavar="S1A,S1D", help="radar tracks to ingest (default: both)")
    parser.add_argument("--patches", metavar="10000,10001", help="only these patches (default: all)")
    parser.add_argument("--folds", metavar="1,2", help="only patches of these folds (default: all)")
    parser.add_argument("--bad-frames", metavar="FILE", help="bad_frames.json (default: the one in the source)")
    parser.add_argument("--allow-bad-tiles", action="store_true", help="exit with 0 even if patches were quarantined")
    parser.add_argument(
        "--workers", type=int, help="concurrent Ray tasks (default: one per CPU); 0: run in this process"
    )
    overrides(parser)

    parser = command(
        commands,
        "export",
        export,
        "Export one tile of a store as a NetCDF file, which the endpoint accepts.",
        "export stores/sim series.nc --tile sim-0-000001",
    )
    parser.add_argument("store", help="folder or URI of the tile store")
    parser.add_argument("out", help="path or URI of the NetCDF file to write")
    parser.add_argument("--tile", metavar="T", help="tile id (default: the first)")


def simulate(given: argparse.Namespace) -> int:
    from jobs.simulate import run
    from restore_dit.config.loading import load_section
    from restore_dit.config.simulation import SimulationJobConfig
    from restore_dit.program import console

    options = {name: getattr(given, name) for name in ("tiles", "first", "seed", "workers")}
    if given.tiles < 1:
        raise UserError(f"--tiles {given.tiles}: must be at least 1", status=2)
    config = load_section(SimulationJobConfig, given.overrides, output=given.out, **options)
    if given.layout == "store" and (given.dates or given.bad_frames):
        raise UserError("--dates and --bad-frames require --layout pastis", status=2)
    if given.layout == "pastis" and given.first:
        raise UserError("--first: not available with --layout pastis, which starts with the first patches", status=2)
    if given.layout == "pastis" and given.workers:
        raise UserError("--workers: not available with --layout pastis, which is written by this process", status=2)
    if given.layout == "netcdf" and given.workers:
        raise UserError("--workers: not available with --layout netcdf, which is written by this process", status=2)
    if given.dry_run:
        return show(config)
    if given.layout == "netcdf":
        return _simulate_netcdf(given, config.simulation)
    if given.layout == "pastis":
        return _simulate_pastis(given, config.simulation, console())
    return run(config, console())


def _simulate_pastis(given: argparse.Namespace, config: SimulationConfig, console: Console) -> int:
    from jobs.progress import JobProgress
    from restore_dit.data.pastis.template import read_template
    from restore_dit.data.pastis.write import write_pastis

    template = read_template(given.dates, given.bad_frames)
    with JobProgress("simulate", "patches", given.tiles, console) as progress:
        write_pastis(config, given.out, given.tiles, seed=given.seed, template=template, on_patch=progress.update)
    print(f"{given.out}: {given.tiles} patches in the layout of PASTIS-R")
    return 0


def _simulate_netcdf(given: argparse.Namespace, config: SimulationConfig) -> int:
    from restore_dit.data.exchange import netcdf
    from restore_dit.data.simulation import simulate_tiles
    from restore_dit.data.storage import locate, write_bytes_atomically

    for series in simulate_tiles(config, given.seed, range(given.first, given.first + given.tiles)):
        place = locate(given.out).join(f"{series.tile_id}.nc")
        write_bytes_atomically(place, netcdf.encode(series))
        print(place.uri)
    return 0


def export(given: argparse.Namespace) -> int:
    from restore_dit.data.exchange import netcdf
    from restore_dit.data.storage import locate, write_bytes_atomically
    from restore_dit.data.store.tile_store import TileStore

    store = TileStore.open(given.store)
    tile = given.tile or next(iter(store.tile_ids), "")
    if tile not in store.manifest.tiles:
        raise UserError(f"{given.store}: no tile {tile!r}; `restore-dit inspect {given.store}` lists the tiles")
    series = store.load(tile).series()
    place = locate(given.out)
    write_bytes_atomically(place, netcdf.encode(series))
    height, width = series.size
    print(f"{place.uri}: tile {tile}, {len(series.optical)} dates, {height}×{width} pixels")
    return 0


def ingest_cube(given: argparse.Namespace) -> int:
    from jobs.ingest_cubes import run
    from restore_dit.config.cube_mapping import load_cube_mapping
    from restore_dit.config.cubes import CubesConfig
    from restore_dit.config.loading import load_section
    from restore_dit.data.cubes.sites import find_sites
    from restore_dit.program import console

    mapping = load_cube_mapping(given.mapping, given.overrides)
    if given.dry_run:
        print(dump(mapping), end="")
        for site in find_sites(given.source, mapping):
            name = f" ({site.name})" if site.renamed else ""
            print(f"# {site.tile_id}{name}: {site.problem or ', '.join(file.name for file in site.files) or 'no file'}")
        return 0
    config = load_section(
        CubesConfig,
        source=given.source,
        output=given.out,
        own_mapping=mapping.model_dump(mode="json"),
        workers=given.workers,
        allow_bad_tiles=given.allow_bad_tiles,
    )
    return run(config, console())


def ingest_pastis(given: argparse.Namespace) -> int:
    from jobs.ingest import run
    from restore_dit.config.loading import load_section
    from restore_dit.config.pastis import PastisConfig
    from restore_dit.data.storage.addresses import without_secrets
    from restore_dit.program import console

    options = {
        name: value
        for name in ("radar", "patches", "folds", "bad_frames", "workers")
        if (value := getattr(given, name)) is not None
    }
    if given.allow_bad_tiles:
        options["allow_bad_tiles"] = True
    config = load_section(PastisConfig, given.overrides, source=given.source, output=given.out, **options)
    if given.dry_run:
        # The address may be signed, and the output may end up in a log.
        return show(config.model_copy(update={"source": without_secrets(config.source)}))
    return run(config, console())
