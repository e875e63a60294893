#!/usr/bin/env bash
# The steps that make the image, each one a word; the Dockerfile runs them one a layer, `check.sh` all of them in a fresh
# Debian. As root, on Debian 12 (x86_64):
#   install.sh system                     what the operating system has to bring
#   install.sh user                       the user that everything runs as: number 1000, not root
#   install.sh wheel SOURCE OUT           the project's wheel into the folder OUT
#   install.sh dependencies SOURCE cpu|gpu
#                                         Python packages at the versions of SOURCE/constraints.txt
#   install.sh project WHEEL              the project itself
#   install.sh without_gpu                (part of `dependencies … cpu`) takes out what only a GPU needs
set -euo pipefail

readonly VENV=/opt/restore-dit
readonly RUN_USER=ray RUN_UID=1000
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1

system() {
  # wget: KubeRay's probes. rsync, openssh-client: `ray up` fills the container with the one, and the head reaches its
  # workers with the other. libexpat1 and libgomp1 are what the wheels of rasterio and torch leave to the system.
  apt-get update
  apt-get install -y --no-install-recommends \
    ca-certificates libexpat1 libgomp1 openssh-client procps python3 python3-venv rsync wget
  apt-get clean
  rm -rf /var/lib/apt/lists/*
}

user() {
  useradd --create-home --shell /bin/bash --uid "$RUN_UID" "$RUN_USER"
  # Made here, because Docker makes the folder of a mounted file itself, for root, where it is absent.
  install -d -o "$RUN_USER" -g "$RUN_USER" -m 700 "/home/$RUN_USER/.ray"
  # A login shell, which `ray up` asks for, forgets the PATH of the image.
  # shellcheck disable=SC2016
  printf 'export PATH="%s/bin:$PATH"\n' "$VENV" > /etc/profile.d/restore-dit.sh
}

wheel() { # SOURCE OUT
  local work
  work=$(mktemp -d)
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install --no-cache-dir -c "$1/constraints.txt" build setuptools
  "$work/venv/bin/python" -m build --wheel --no-isolation --outdir "$2" "$1"
  rm -rf "$work"
}

dependencies() { # SOURCE cpu|gpu
  local needed
  needed=$(mktemp)
  python3 -m venv "$VENV"
  "$VENV/bin/python" - "$1/pyproject.toml" > "$needed" << 'END'
import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
print(*project["dependencies"], *project["optional-dependencies"]["mlflow"], sep="\n")
END
  "$VENV/bin/pip" install --no-cache-dir --no-compile -c "$1/constraints.txt" -r "$needed"
  rm "$needed"
  if [[ $2 == cpu ]]; then without_gpu; fi
  compiled
}

without_gpu() {
  # torch's wheel is the CUDA build, and `import torch` loads most of NVIDIA's libraries. What goes is what it loads only
  # once a GPU computes: the compiler of GPU kernels, linear algebra, linking, and all of cuDNN but its entry.
  "$VENV/bin/pip" uninstall --yes triton nvidia-cusolver nvidia-nvjitlink
  find "$VENV" -path '*/nvidia/cudnn/lib/libcudnn_*' -delete
}

project() { # WHEEL
  "$VENV/bin/pip" install --no-cache-dir --no-deps --no-index --no-compile "$1"
  compiled
}

compiled() {
  # Once for everybody: the user cannot write there, and would compile in every process anew. By the file's checksum and
  # not its time, so that the same sources give the same layer; unchanged files are left as they are.
  PYTHONDONTWRITEBYTECODE='' "$VENV/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$VENV/lib" \
    > /dev/null || true # some packages carry templates that are no Python
}

"$@"
