"""Hooks of the documentation's site: what the guides link to outside `docs` becomes part of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_OUTSIDE = re.compile(r"\]\(\.\./([^)#]+)")


def on_files(files: Files, *, config: Any) -> Files:
    """Adds the files outside `docs` that a guide links to."""
    docs = Path(config.docs_dir)
    linked = {path for guide in docs.glob("*.md") for path in _OUTSIDE.findall(guide.read_text(encoding="utf-8"))}
    for path in sorted(linked):
        files.append(File.generated(config, f"repository/{_name(path)}", abs_src_path=str(docs.parent / path)))
    return files


def on_page_markdown(markdown: str, **context: Any) -> str:
    """Lets the links lead to them."""
    return _OUTSIDE.sub(lambda link: f"](repository/{_name(link[1])}", markdown)


def _name(path: str) -> str:
    """The files are shown as they are, so that their own links need not work here."""
    return f"{path}.txt"
