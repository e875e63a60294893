"""A core that needs neither Ray nor DeepSpeed; the arrows between packages are for `make imports`."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent

# Every module of these packages, but for those whose names say that they are made for Ray.
IMPORT_CORE = """
import importlib, pkgutil, sys
import restore_dit
assert not {"ray", "deepspeed", "torch"} & set(sys.modules), "import restore_dit alone"

PACKAGES = "config model diffusion data trainer clouds reconstruction evaluation inspection pictures"
for package in PACKAGES.split():
    name = "restore_dit." + package
    names = [name]
    for module in pkgutil.walk_packages(importlib.import_module(name).__path__, name + "."):
        last = module.name.rpartition(".")[2]
        if not (module.name.startswith("restore_dit.data.stream") or last.startswith("ray_") or last.endswith("_job")):
            names.append(module.name)
    for module in names:
        importlib.import_module(module)
        found = {"ray", "deepspeed"} & set(sys.modules)
        assert not found, f"{module} imports {found}"
    print(len(names), package)
"""


def test_the_core_imports_neither_ray_nor_deepspeed():
    command = [sys.executable, "-c", IMPORT_CORE]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 10


IMPORT_DEEPSPEED = """
import sys, torch
from restore_dit.private_interfaces import import_deepspeed

compiling = torch.compile
deepspeed = import_deepspeed()
assert deepspeed.initialize
assert not {"mlflow", "torch._dynamo", "torch._inductor"} & set(sys.modules)
assert torch.compile is compiling
import mlflow
assert import_deepspeed() is deepspeed
assert sys.modules["mlflow"] is mlflow
"""


def test_deepspeed_comes_without_a_compiler_and_mlflow_which_can_be_had_after_it():
    done = subprocess.run([sys.executable, "-c", IMPORT_DEEPSPEED], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
