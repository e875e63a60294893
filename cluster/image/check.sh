#!/usr/bin/env bash
# Runs the image's steps in a fresh Debian 12 that debootstrap makes, without Docker, and verifies both targets:
#   cluster/image/check.sh          (or: make image-check)
# Needs root, debootstrap, ip, 9 GB below TMPDIR, and package archives; takes pip's configuration and the certificates of
# this machine along. What it mounts is seen by itself alone and goes with it; the folder is removed at the end.
set -euo pipefail

skip() {
  echo "image-check: skipped: $1" >&2
  exit 0
}

if [[ ${1:-} != inside ]]; then
  [[ $EUID -eq 0 ]] || skip "a chroot needs root"
  command -v debootstrap > /dev/null || skip "debootstrap is not installed (apt-get install debootstrap)"
  command -v ip > /dev/null || skip "ip is not installed (apt-get install iproute2)"
  unshare --mount true 2> /dev/null || skip "this machine does not let a process have mounts of its own"
  exec unshare --mount -- "$0" inside
fi

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
readonly CHECKOUT=$PWD MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
work=$(mktemp -d)
root=$work/root
remove() {
  umount --recursive --lazy "$root/proc" "$root/dev" "$root/staging" 2> /dev/null || true
  for folder in "${mounted[@]}"; do umount --lazy "$root$folder" 2> /dev/null || true; done
  rm -rf --one-file-system "$work"
}
mounted=()
trap remove EXIT
chmod 755 "$work"

lap() { echo "image-check: $(printf '%3d s' "$SECONDS") $*"; }

lap "a fresh Debian"
debootstrap --variant=minbase bookworm "$root" "$MIRROR" > "$work/debootstrap.log" 2>&1 || {
  tail -5 "$work/debootstrap.log" >&2
  exit 1
}
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
cp --dereference /etc/resolv.conf "$root/etc/resolv.conf"

# The sources as a commit would have them, and what lies beside: no caches, no environment.
mkdir -p "$root/staging"
mount -t tmpfs -o mode=755 tmpfs "$root/staging"
mkdir "$root/staging/source" "$root/staging/dist"
git -c safe.directory="$CHECKOUT" ls-files -z --cached --others --exclude-standard \
  pyproject.toml constraints.txt README.md LICENSE restore_dit jobs tuning serving cluster \
  | while IFS= read -r -d '' file; do if [[ -e $file ]]; then printf '%s\0' "$file"; fi; done \
  | tar --create --null --files-from=- | tar --extract --no-same-owner --directory "$root/staging/source"

# This machine's way to the package index: pip's settings as its variables, with the folders and files that they name.
settings=()
take_along() { # NAME VALUE: sets the variable in there; folders appear at their own place, files in /staging
  local name=$1 words=() word folder
  for word in $2; do
    folder=$(sed 's#^file://##; s#/simple/*$##' <<< "$word")
    if [[ -d $folder ]]; then
      mkdir -p "$root$folder"
      mount --bind -o ro "$folder" "$root$folder"
      mounted+=("$folder")
    elif [[ -f $word ]]; then
      cp --dereference "$word" "$root/staging/$(basename "$word")"
      word=/staging/$(basename "$word")
    fi
    words+=("$word")
  done
  settings+=("$name=${words[*]}")
}
while IFS='=' read -r key value; do
  name=$(tr 'a-z-' 'A-Z_' <<< "${key##*.}")
  value=${value#\'}
  take_along "PIP_$name" "${value%\'}"
done < <(python3 -m pip config list 2> /dev/null | sort --unique --field-separator=. --key=2)
for name in http_proxy https_proxy no_proxy SSL_CERT_FILE REQUESTS_CA_BUNDLE; do
  if [[ -n ${!name:-} ]]; then take_along "$name" "${!name}"; fi
done

inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "${settings[@]}" "$@"; }
as_user() {
  chroot --userspec=1000:1000 "$root" env -i PATH=/opt/restore-dit/bin:/usr/bin:/bin HOME=/home/ray LANG=C.UTF-8 "$@"
}
step() {
  lap "$*"
  inside /staging/source/cluster/image/install.sh "$@" > "$work/step.log" 2>&1 || {
    tail -30 "$work/step.log" >&2
    exit 1
  }
}
verify() {
  lap "verify: $1"
  export -f as_user
  # Network and processes of its own: the head that it starts meets no other, and ends with it.
  (cd / && root=$root unshare --net --pid --fork --kill-child --mount-proc="$root/proc" -- \
    bash -c 'ip link set lo up && as_user python /staging/source/cluster/image/verify.py --head')
}

step system
step user
step wheel /staging/source /staging/dist
step dependencies /staging/source gpu
step project "/staging/dist/$(ls "$root/staging/dist")"
verify "target gpu, $(du -sm "$root/opt/restore-dit" | cut -f1) MB"
step without_gpu
verify "target cpu, $(du -sm "$root/opt/restore-dit" | cut -f1) MB"
# Committed, it spares .ci/run the check until something of this changes.
python3 cluster/image/ingredients.py > cluster/image/checked.txt
lap "done"
