"""Fixtures that every test may use."""

import logging
import os
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import hypothesis
import pytest
import torch
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from cluster.local.node import SERVE_ENVIRONMENT
from restore_dit.config import (
    DataConfig,
    GapConfig,
    ModelConfig,
    OptimiserConfig,
    RadarConfig,
    RunConfig,
    SplitConfig,
    TargetConfig,
    TrainingConfig,
)
from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.examples.normalisation import Normalisation
from restore_dit.data.simulation import simulate_tiles
from restore_dit.data.store.tile_store import TileStore, TileStoreWriter
from restore_dit.model.denoiser import Denoiser
from restore_dit.reconstruction.model_directory import Model
from tests.s3.ceph_server import CephServer, installed_server
from tests.s3.failing_proxy import FailingProxy

ROOT = Path(__file__).resolve().parent.parent

# How long an example takes says more of what else the machine does than of the code: speed is for benchmarks. Each run
# draws other examples, so that fewer a run are many in a week.
hypothesis.settings.register_profile("untimed", deadline=None, max_examples=40)
hypothesis.settings.load_profile("untimed")

SERVERS = ("ray_cluster", "pytest.mark.s3")
"""What is written in files whose tests need a server that takes long to start, and that one process can share."""


@cache
def server(file: Path) -> str:
    """Of these words the first in the file, or nothing."""
    text = file.read_text(encoding="utf-8")
    return next((name for name in SERVERS if name in text), "")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m` and one mark, files that do not have it are not even imported, which takes ten seconds in all."""
    mark = config.option.markexpr
    if not mark.isidentifier() or not collection_path.match("test_*.py"):
        return None
    return f"pytest.mark.{mark}" not in collection_path.read_text(encoding="utf-8") or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What lasts begins first: the tests of a server, then files that start processes or clusters of their own."""
    slow = {item.path for item in items if item.get_closest_marker("cluster") or item.get_closest_marker("slow")}
    items.sort(key=lambda item: ((*SERVERS, "").index(server(item.path)), item.path not in slow))


class ByServerThenFile(LoadScopeScheduling):
    """On several processes (pytest-xdist): all tests of a server go to one, the others file by file."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return server(ROOT / file) or file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByServerThenFile:
    """That of `--dist loadscope`."""
    return ByServerThenFile(config, log)


@pytest.fixture(scope="session")
def reference() -> Path:
    """Golden numbers of the published implementation."""
    return ROOT / "tests" / "fixtures" / "reference"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("RESTORE_DIT_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"real data not found: {folder} (set RESTORE_DIT_SHARED)")
    return folder


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> TileStore:
    """Eleven simulated tiles of 24×24 pixels over a bit more than half a year."""
    folder = tmp_path_factory.mktemp("small") / "store"
    writer = TileStoreWriter(folder, source="simulation")
    for series in simulate_tiles(SimulationConfig(height=24, width=24, days=220, field_hectares=0.8), 3, range(11)):
        writer.add(series)
    writer.commit()
    return TileStore.open(folder)


@pytest.fixture(scope="session")
def small_run(small_store: TileStore, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A run on `small_store` that a CPU steps through in milliseconds; tests change its output and what they test."""
    return RunConfig(
        name="small",
        output=str(tmp_path_factory.mktemp("runs")),
        data=DataConfig(
            store=small_store.uri,
            frames=6,
            crop=16,
            targets=TargetConfig(most_hidden=0.1, most_no_data=0.1),
            examples_per_tile=2,
            flips=True,
            radar=RadarConfig(frames=7, dropout=0.2),
            gaps=GapConfig(frame_dropout=0.1, mask_flips=True),
            split=SplitConfig(test_fraction=0.2, validation_fraction=0.15),
        ),
        model=ModelConfig(hidden_size=16, depth=1, heads=2),
        training=TrainingConfig(
            epochs=3,
            batch_size=4,
            optimiser=OptimiserConfig(learning_rate=1e-3, warmup_steps=2, ema_decay=0.9),
            validate_every=4,
            save_every=3,
            log_every=1,
            validation_examples=4,
        ),
    )


@pytest.fixture(scope="session")
def pixels_run(small_run: RunConfig) -> RunConfig:
    """The same for a network of pixels, with all that varies its examples."""
    data = small_run.data.model_copy(
        update={
            "frames": 20,
            "crop": 12,
            "radar": RadarConfig(track="both", frames=20, dropout=0.3),
            "gaps": GapConfig(frames_only=0.2, runs=0.2, partial=0.2, mask_flips=True),
            "partly_clear": 0.3,
            "least_kept": 0.5,
            "band_dropout": 0.3,
            "coarser": 0.3,
            "gain": 0.1,
            "pixels": 40,
        }
    )
    model = ModelConfig(
        network="pixels",
        members=2,
        hidden_size=16,
        depth=1,
        heads=2,
        mlp_ratio=2,
        radar_channels=("VV", "VH"),
        nearest=2,
    )
    return small_run.model_copy(update={"name": "pixels", "data": data, "model": model})


@pytest.fixture(scope="session")
def small_model(small_run: RunConfig) -> Model:
    """Random weights, so that every input has a say."""
    torch.manual_seed(0)
    denoiser = Denoiser(small_run.model)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Model(denoiser.eval(), small_run, Normalisation(("VV", "VH", "VV-VH"), (-11, -18, 7), (3, 3, 3)), {"a": 1.5})


@pytest.fixture(scope="session")
def ceph_server() -> Iterator[CephServer]:
    """A real S3 server; tests that need it are marked `s3`."""
    with installed_server() as server:
        yield server


@pytest.fixture
def s3(ceph_server: CephServer, monkeypatch: pytest.MonkeyPatch) -> CephServer:
    """The S3 server, named in the environment as users name theirs, and answering."""
    for name, value in ceph_server.environment().items():
        monkeypatch.setenv(name, value)
    ceph_server.start_gateway()
    return ceph_server


@pytest.fixture
def bucket(s3: CephServer) -> str:
    """The name of an empty bucket of the test's own."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3.client().create_bucket(Bucket=name)
    return name


@pytest.fixture
def proxy(s3: CephServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[FailingProxy]:
    """The S3 server behind a proxy that fails as the test wants it; the environment names the proxy."""
    with FailingProxy(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


@pytest.fixture(scope="session")
def s3_environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """What Ray's processes need to know of the S3 server: they begin before any test that uses it."""
    try:
        return request.getfixturevalue("ceph_server").environment()
    except pytest.skip.Exception:
        return {}


@pytest.fixture(scope="session")
def ray_cluster(s3_environment: dict[str, str]):
    """One Ray cluster for all tests that share it: two CPUs, whatever the machine has."""
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    # Worker groups that start on a busy machine are slow, not broken.
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = "180"
    # One process less for each training: it looks whether a cloud takes a node away.
    os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
    # Inherited rather than a runtime environment, for which Ray starts two interpreters for each process.
    with pytest.MonkeyPatch.context() as inherited:
        for name, value in ({"OMP_NUM_THREADS": "1"} | s3_environment | SERVE_ENVIRONMENT).items():
            inherited.setenv(name, value)
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
            object_store_memory=512 * 2**20,
        )
    yield
    ray.shutdown()
