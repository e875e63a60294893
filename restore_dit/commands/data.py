"""Data in, and single series out: simulate, ingest, export."""

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

_WORKERS = "Ray tasks at a time (default one a CPU, this process for few {}); 0: this process, no Ray"


def add_to(commands: Commands) -> None:
    """`simulate`, `ingest cube`, `ingest pastis`, `export`."""
    parser = command(
        commands, "simulate", simulate, "Write simulated tiles to a tile store.", "simulate stores/sim --tiles 24"
    )
    parser.add_argument("out", help="tile store, a folder or URI")
    parser.add_argument(
        "--layout",
        choices=("store", "pastis", "netcdf"),
        default="store",
        help="tile store, PASTIS-R's folder, or a folder of NetCDF files, one a tile (default store)",
    )
    parser.add_argument("--dates", metavar="FILE", help="pastis: JSON with the acquisition dates of its four tiles")
    parser.add_argument(
        "--bad-frames", metavar="FILE", help="pastis: bad_frames.json whose patches and lists to take over"
    )
    parser.add_argument("--tiles", type=int, default=24, help="number of tiles (default 24)")
    parser.add_argument("--first", type=int, default=0, help="index of the first tile (default 0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulated area (default 0)")
    parser.add_argument("--workers", type=int, help=_WORKERS.format("tiles"))
    overrides(parser)

    sources = group(commands, "ingest", "Bring data into a tile store.", of="source")
    parser = command(
        sources,
        "ingest cube",
        ingest_cube,
        "Data cubes (NetCDF, Zarr, GeoTIFF) to a tile store.",
        "ingest cube data/site stores/site",
    )
    parser.add_argument("source", help="folder of one site's files, or of such folders, or a single file")
    parser.add_argument("out", help="tile store, a folder or URI")
    parser.add_argument(
        "--mapping",
        default="worldcereal",
        metavar="F",
        help=f"YAML file, or shipped: {', '.join(shipped_cube_mappings())} (default worldcereal)",
    )
    parser.add_argument("--allow-bad-tiles", action="store_true", help="exit with 0 although tiles were quarantined")
    parser.add_argument("--workers", type=int, help=_WORKERS.format("sites"))
    overrides(parser)

    parser = command(
        sources,
        "ingest pastis",
        ingest_pastis,
        "PASTIS-R, unpacked or as the published ZIP, to a tile store.",
        "ingest pastis 'https://zenodo.org/records/5735646/files/PASTIS-R.zip?download=1' s3://bucket/pastis",
    )
    parser.add_argument("source", help="PASTIS-R's folder, or its ZIP: a path, s3:// or https://")
    parser.add_argument("out", help="tile store, a folder or URI")
    parser.add_argument("--radar", metavar="S1A,S1D", help="radar tracks to take (default both)")
    parser.add_argument("--patches", metavar="10000,10001", help="only these patches (default all)")
    parser.add_argument("--folds", metavar="1,2", help="only patches of these folds (default all)")
    parser.add_argument("--bad-frames", metavar="FILE", help="bad_frames.json (default the one in the source)")
    parser.add_argument("--allow-bad-tiles", action="store_true", help="exit with 0 although patches were quarantined")
    parser.add_argument("--workers", type=int, help="Ray tasks at a time (default one a CPU); 0: this process, no Ray")
    overrides(parser)

    parser = command(
        commands,
        "export",
        export,
        "One tile of a store as a NetCDF file, such as the endpoint takes.",
        "export stores/sim series.nc --tile sim-0-000001",
    )
    parser.add_argument("store", help="tile store, a folder or URI")
    parser.add_argument("out", help="NetCDF file to write, a path or URI")
    parser.add_argument("--tile", metavar="T", help="tile id (default the first)")


def simulate(given: argparse.Namespace) -> int:
    from jobs.entry import console
    from jobs.simulate import run
    from restore_dit.config.loading import load_section
    from restore_dit.config.simulation import SimulationJobConfig

    options = {name: getattr(given, name) for name in ("tiles", "first", "seed", "workers")}
    if given.tiles < 1:
        raise UserError(f"--tiles {given.tiles}: at least 1", status=2)
    config = load_section(SimulationJobConfig, given.overrides, output=given.out, **options)
    if given.layout == "store" and (given.dates or given.bad_frames):
        raise UserError("--dates and --bad-frames go with --layout pastis", status=2)
    if given.layout == "pastis" and given.first:
        raise UserError("--first: PASTIS-R's layout begins with its first patches; give --tiles alone", status=2)
    if given.layout == "pastis" and given.workers:
        raise UserError("--workers: PASTIS-R's layout is written by this process; leave it out", status=2)
    if given.layout == "netcdf" and given.workers:
        raise UserError("--workers: NetCDF files are written by this process; leave it out", status=2)
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
    print(f"{given.out}: {given.tiles} patches in PASTIS-R's layout")
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
        raise UserError(f"{given.store}: no tile {tile!r}; restore-dit inspect {given.store} lists them")
    series = store.load(tile).series()
    place = locate(given.out)
    write_bytes_atomically(place, netcdf.encode(series))
    height, width = series.size
    print(f"{place.uri}: tile {tile}, {len(series.optical)} dates, {height}×{width} pixels")
    return 0


def ingest_cube(given: argparse.Namespace) -> int:
    from jobs.entry import console
    from jobs.ingest_cubes import run
    from restore_dit.config.cube_mapping import load_cube_mapping
    from restore_dit.config.cubes import CubesConfig
    from restore_dit.config.loading import load_section
    from restore_dit.data.cubes.sites import find_sites

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
