"""Private interfaces of Ray and DeepSpeed are used in one file only, which says so when one is missing."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from restore_dit import private_interfaces
from tests.messages import refused

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("restore_dit", "jobs", "tuning", "serving", "cluster")
THE_FILE = Path(private_interfaces.__file__).resolve()

LIBRARIES = ("ray", "deepspeed")
UNDOCUMENTED = ("ray.autoscaler.v2", "ray.dashboard", "ray.experimental", "ray.scripts", "deepspeed.runtime")
"""Packages that no guide or reference mentions, although their names have no underscore."""
IN_TEXT = re.compile(r"\b(ray|deepspeed)(\.\w+)*\._[a-z]|" + "|".join(re.escape(name) for name in UNDOCUMENTED))


def private_uses(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of each private interface that the source uses: names imported, attributes of others' objects,
    attributes and methods that a class has from the library, names in strings, changes of imported modules."""
    tree = ast.parse(source)
    imported: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            for name in node.names:
                whole = f"{module}{name.name}"
                imported[name.asname or name.name.partition(".")[0]] = whole
                if whole.startswith(tuple(f"{library}." for library in LIBRARIES)) and _is_private(whole):
                    yield node.lineno, whole
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="torch"), attr=attr) if attr.startswith("_foreach_"):
                pass  # torch's own
            case ast.Attribute(value=ast.Name(id="os"), attr="_exit"):
                pass  # documented, for the children of a fork
            case ast.Attribute(value=value, attr=attr) if _hidden(attr) and not _is_own(value):
                yield node.lineno, ast.unparse(node)
            case ast.Attribute(ctx=ast.Store()) if ast.unparse(node).partition(".")[0] in imported:
                yield node.lineno, ast.unparse(node)
            case ast.Constant(value=str(text)) if IN_TEXT.search(text):
                yield node.lineno, text
            case ast.ClassDef(bases=bases):
                origins = [imported.get(ast.unparse(base).partition(".")[0], "") for base in bases]
                for origin in origins:
                    if origin.partition(".")[0] in LIBRARIES:
                        yield from _inherited(node, origin)


def _is_private(name: str) -> bool:
    return any(_hidden(part) for part in name.split(".")) or name.startswith(UNDOCUMENTED)


def _hidden(name: str) -> bool:
    public = name.startswith("__") and name.endswith("__") and name != "__compatible_ops__"  # such as __version__
    return name.startswith("_") and not public


def _is_own(value: ast.expr) -> bool:
    return ast.unparse(value) in ("self", "cls", "super()")


def _inherited(definition: ast.ClassDef, base: str) -> Iterator[tuple[int, str]]:
    """Uses of what the class has from its base: private methods that it overrides, attributes that it never sets."""
    module, _, name = base.rpartition(".")
    known = dir(getattr(importlib.import_module(module), name, None))
    methods = {part.name for part in definition.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)}
    own = [node for node in ast.walk(definition) if isinstance(node, ast.Attribute) and _is_own(node.value)]
    set_here = {node.attr for node in own if isinstance(node.ctx, ast.Store)} | methods
    for method in filter(_hidden, methods & {*known}):
        yield definition.lineno, f"{base}.{method}"
    for node in own:
        if _hidden(node.attr) and node.attr not in set_here:
            yield node.lineno, f"{base}.{node.attr}"


@pytest.mark.parametrize(
    "source",
    [
        "from ray._private import services",
        "from ray.experimental.internal_kv import _internal_kv_get",
        "import ray\nray._raylet.GcsClient()",
        "def link(optimiser):\n    optimiser._lazy_init()",
        "import ray.data\nray.data.Dataset = None",
        'run("from ray._private import services")',
        "from ray.tune.search import Searcher\nclass Own(Searcher):\n    def f(self):\n        return self._metric",
        "from ray.job_submission import JobSubmissionClient as C\nclass Own(C):\n    def _do_request(self): ...",
        "import deepspeed\ndeepspeed.ops.__compatible_ops__.clear()",
    ],
)
def test_a_private_interface_is_found(source: str):
    assert list(private_uses(source))


def test_private_interfaces_are_used_in_one_file():
    files = [file for package in PRODUCT for file in sorted((ROOT / package).rglob("*.py")) if file != THE_FILE]
    found = [
        f"{file.relative_to(ROOT)}:{line}: {use}" for file in files for line, use in private_uses(file.read_text())
    ]
    assert len(files) > 200
    assert not found, "\n".join(found)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_minor_versions_called_tested_are_those_that_are_required(library: str):
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    [required] = [found for found in map(Requirement, dependencies) if found.name == library]
    allowed = [
        f"{major}.{minor}" for major in range(4) for minor in range(100) if f"{major}.{minor}.99" in required.specifier
    ]
    assert private_interfaces.TESTED[library] == " to ".join(dict.fromkeys([allowed[0], allowed[-1]]))


def test_a_private_interface_that_is_missing_is_one_line_with_the_versions(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray.autoscaler._private.aws.node_provider", None)
    tested = private_interfaces.TESTED
    with refused(version("ray"), tested["ray"]):
        private_interfaces.aws_node_provider()
    with refused(version("deepspeed"), tested["deepspeed"], "_lazy_init_hp_params_optimizer_state"):
        private_interfaces.link_moments(object())
