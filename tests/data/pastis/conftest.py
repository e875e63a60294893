"""PASTIS-R in miniature, written once."""

from pathlib import Path

import pytest

from restore_dit.data.pastis.write import plan_pastis
from restore_dit.data.runner import run
from tests.data.pastis.miniature import SMALL, ingest


@pytest.fixture(scope="session")
def pastis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four patches, one in each tile: 10000, 20000, 30000, 40000."""
    folder = tmp_path_factory.mktemp("pastis") / "PASTIS-R"
    run(plan_pastis(SMALL, str(folder), 4, seed=5))
    return folder


@pytest.fixture(scope="session")
def undamaged(pastis: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that an ingest of `pastis` makes."""
    store = tmp_path_factory.mktemp("undamaged") / "store"
    assert ingest(pastis, store).failed == {}
    return store
