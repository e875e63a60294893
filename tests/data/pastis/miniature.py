"""A miniature of PASTIS-R, packed, ingested and compared: 16×16 pixels over two months."""

import zipfile
from pathlib import Path

from restore_dit.config.ingestion import PastisConfig
from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.items import RunReport
from restore_dit.data.pastis.patch_plan import plan_patches
from restore_dit.data.runner import run
from restore_dit.data.store.manifest import TileRecord
from restore_dit.data.store.tile_store import TileStore

SIDE = 16
SMALL = SimulationConfig(height=SIDE, width=SIDE, days=60, field_hectares=0.5)


def ingest(source: object, store: Path, **options: object) -> RunReport[TileRecord]:
    """An ingest in this process."""
    plan = plan_patches(PastisConfig(**{"source": str(source), "output": str(store), "patch_size": SIDE, **options}))
    return run(plan)


def ingest_with_many_commits(source: str, store: str) -> None:
    """What a process does that is to be killed: it commits more often, so that commits are killed too."""
    ingest(source, Path(store), commit_every=0)


def fingerprint(store: Path, *but: str) -> str:
    """What a store's tiles hold, some left out."""
    manifest = TileStore.open(store).manifest
    tiles = {tile: record for tile, record in manifest.tiles.items() if tile not in but}
    return manifest.model_copy(update={"tiles": tiles}).fingerprint


def pack(folder: Path, archive: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """The folder as the published ZIP has it: below a top folder, with folders as members of their own."""
    with zipfile.ZipFile(archive, "w", method) as file:
        file.mkdir("PASTIS-R")
        for path in sorted(folder.rglob("*")):
            name = f"PASTIS-R/{path.relative_to(folder)}"
            if path.is_dir():
                file.mkdir(name)
            elif ".simulated" not in name:
                file.write(path, name)
    return archive
