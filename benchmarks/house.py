"""How the code reads, in figures: the size of files, the share of imports and comments, and import cycles.

`python -m benchmarks.house` prints a table of the product's packages and, as its last line, JSON. It is not part of
`make bench`, since it measures no speed.
"""

from __future__ import annotations

import ast
import json
import statistics
import tokenize
from pathlib import Path
from typing import NamedTuple

import grimp
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("restore_dit", "jobs", "tuning", "serving", "cluster")
SHORT = 60
"""Lines below which a file counts as short, unless it is the `__init__.py` of a package and holds only a docstring."""


class Counts(NamedTuple):
    """Lines of one file: all of them, those of import statements, and those that hold nothing but a comment."""

    lines: int
    imports: int
    comments: int


def counts_of(path: Path) -> Counts:
    """Counts the lines of a file."""
    text = path.read_text(encoding="utf-8")
    imports = sum(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
    )
    with tokenize.open(path) as file:
        comments = {
            token.start[0] for token in tokenize.generate_tokens(file.readline) if token.type == tokenize.COMMENT
        }
    return Counts(text.count("\n"), imports, sum(text.splitlines()[line - 1].lstrip()[0] == "#" for line in comments))


def cycles() -> list[list[str]]:
    """The groups of modules that import each other in a circle, imports within functions included."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    modules = sorted(graph.modules)
    edges = [[other in graph.find_modules_directly_imported_by(module) for other in modules] for module in modules]
    _, groups = connected_components(csr_array(edges), connection="strong")
    members = [[module for module, own in zip(modules, groups, strict=True) if own == group] for group in set(groups)]
    return [group for group in members if len(group) > 1]


def main() -> None:
    """Prints the table and the JSON line."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    files = [counts for counts in map(counts_of, paths) if counts.lines]
    bare = [path for path in paths if path.name == "__init__.py" and counts_of(path).lines == 1]
    lines = sum(file.lines for file in files)
    circles = cycles()
    figures = {
        "files": len(files),
        "lines": lines,
        "median_lines": statistics.median(file.lines for file in files),
        f"below_{SHORT}_lines": sum(file.lines < SHORT for file in files) - len(bare),
        "init_of_one_line": len(bare),
        "import_share": round(sum(file.imports for file in files) / lines, 4),
        "comment_share": round(sum(file.comments for file in files) / lines, 4),
        "import_cycles": len(circles),
    }
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):20} {value}")
    for circle in circles:
        print("  " + " ↔ ".join(circle))
    print(json.dumps(figures | {"cycles": circles}))


if __name__ == "__main__":
    main()
