"""Prints a digest of what the image is made of beside the project's code; `check.sh` writes down which it passed with.

python3 cluster/image/ingredients.py
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path


def digest(checkout: Path) -> str:
    """Of the image's files, of the constraints, and of what pyproject.toml says about the wheel and what it needs."""
    whole = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    project = whole["project"]
    del project["optional-dependencies"]["dev"]
    wheel = {"build-system": whole["build-system"], "project": project, "setuptools": whole["tool"]["setuptools"]}
    hashed = hashlib.sha256(json.dumps(wheel, sort_keys=True).encode())
    for file in (checkout / "constraints.txt", *sorted((checkout / "cluster" / "image").iterdir())):
        if file.is_file() and file.name != "checked.txt":
            hashed.update(f"{file.name}\0".encode() + file.read_bytes())
    return hashed.hexdigest()


if __name__ == "__main__":
    print(digest(Path(__file__).resolve().parents[2]))
