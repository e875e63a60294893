"""Shows that an installation is whole: every module of the project and every package that it depends on is imported,
the commands answer, networks run, and nothing outside the user's own folders can be written to. Run it as that user.
With --head it starts a Ray head too, and leaves it: for a process namespace of its own, which ends it."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import pkgutil
import re
import secrets
import stat
import subprocess
import sys
import time

PROJECT = ("restore_dit", "jobs", "tuning", "serving", "cluster")
DISTRIBUTION = "restore-dit"
WRITABLE = ("/tmp", "/var/tmp", "/dev", "/proc", "/sys", "/run/lock", os.path.expanduser("~"))


def modules() -> list[str]:
    """Every module of the project, by name."""
    found = list(PROJECT)
    for name in PROJECT:
        package = importlib.import_module(name)
        found += [module.name for module in pkgutil.walk_packages(package.__path__, f"{name}.")]
    return [name for name in found if not name.endswith("__main__")]


def dependencies() -> list[str]:
    """The importable names of the packages that the project says it needs."""
    wanted = set()
    for line in importlib.metadata.requires(DISTRIBUTION) or []:
        if "extra ==" not in line:
            wanted.add(re.split(r"[^\w.-]", line, maxsplit=1)[0].lower().replace("_", "-"))
    names = importlib.metadata.packages_distributions().items()
    return sorted(
        name
        for name, owners in names
        if name.isidentifier()
        and not name.startswith("_")
        and any(owner.lower().replace("_", "-") in wanted for owner in owners)
    )


def writable(root: str = "/") -> list[str]:
    """Files and folders below `root` that this user may write to, other than its own."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in WRITABLE]
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            mode = os.lstat(path).st_mode
            if (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and os.access(path, os.W_OK):
                found.append(path)
    return found


def head_starts() -> None:
    """A Ray head with a token: what KubeRay's probes ask for answers, jobs are refused to who has no token."""
    with_token = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    start = ["ray", "start", "--head", "--num-cpus=0", "--dashboard-host=127.0.0.1", "--object-store-memory=100000000"]
    subprocess.run(start, env=with_token, check=True, timeout=120, stdout=subprocess.DEVNULL)
    wget = ["wget", "--quiet", "--tries=1", "--timeout=10", "--output-document=-"]
    for address in ("52365/api/local_raylet_healthz", "8265/api/gcs_healthz"):
        deadline = time.monotonic() + 60
        while b"success" not in subprocess.run([*wget, f"http://127.0.0.1:{address}"], capture_output=True).stdout:
            if time.monotonic() > deadline:
                sys.exit(f"verify.py: {address} does not answer")
            time.sleep(1)
    if subprocess.run([*wget, "http://127.0.0.1:8265/api/jobs/"], capture_output=True).returncode == 0:
        sys.exit("verify.py: the list of jobs is given to who has no token")
    listing = subprocess.run(["ray", "job", "list"], env=with_token, capture_output=True, timeout=60)
    if listing.returncode:
        sys.exit(f"verify.py: ray job list: {listing.stderr.decode()[-500:]}")


def main() -> None:
    """Checks; exits with what is wrong."""
    if os.getuid() == 0:
        sys.exit("verify.py: run it as the image's user, not as root")
    for command in (["restore-dit", "--help"], ["ray", "--version"], ["wget", "--version"], ["rsync", "--version"]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120)
    login = {"HOME": os.path.expanduser("~")}  # `ray up` works through login shells, which set their own PATH
    subprocess.run(["bash", "--login", "-c", "command -v ray restore-dit"], env=login, check=True, timeout=10)
    names = modules() + dependencies()
    for name in names:
        importlib.import_module(name)

    import segmentation_models_pytorch
    import torch

    with torch.no_grad():  # convolutions and attention, which cuDNN would do on a GPU
        segmentation_models_pytorch.Unet("resnet18", encoder_weights=None).eval()(torch.rand(1, 3, 64, 64))
        torch.nn.functional.scaled_dot_product_attention(*torch.rand(3, 1, 2, 8, 16))
        torch.linalg.solve(torch.eye(3), torch.ones(3))
    if open_to_all := writable():
        sys.exit(f"verify.py: the user may write to {len(open_to_all)} files, such as {open_to_all[:5]}")
    words = "modules import, commands answer, networks run, nothing is writable"
    if sys.argv[1:] == ["--head"]:
        head_starts()
        words += ", a head starts"
    print(len(names), words)


if __name__ == "__main__":
    main()
