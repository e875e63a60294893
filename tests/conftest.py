"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


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
