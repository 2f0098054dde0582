# Fetching wheels with pip, for the scripts beside this file; sourced, not run.
#
# The wheels of a script stay in one folder until they are unpacked: a run after one that was broken off fetches only
# those that are not complete (within a run, pip 25.1 and later goes on in the middle of a wheel). pip verifies every
# wheel, a kept one too, against its SHA-256. A script that sources this has `set -euo pipefail` and $0 as its name.
# shellcheck shell=bash

say() { echo "scripts/${0##*/}: $*"; }
die() { echo "scripts/${0##*/}: $*" >&2; exit 1; }

# one_at_a_time FILE: waits until no other program has the lock of this name; ours lasts as long as this program.
# Descriptor 9 is closed for what outlives it.
one_at_a_time() {
  command -v flock >/dev/null || return 0
  exec 9>"$1"
  flock --nonblock 9 || { say "waiting for another run, which has ${1%/*}" >&2; flock 9; }
}

need_pip() {
  python3 -m pip --version >/dev/null 2>&1 ||
    die "pip is missing: install it for python3 (Debian, Ubuntu: apt install python3-pip; macOS: python3 -m ensurepip)"
}

# The name of this machine in the tables of wheels, or nothing.
wheel_platform() {
  case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) echo linux-x86_64 ;;
    Linux-aarch64) echo linux-aarch64 ;;
    Darwin-arm64) echo macos-arm64 ;;
  esac
}

# Where all that is fetched is unpacked.
cache_folder() { echo "${XDG_CACHE_HOME:-$HOME/.cache}/tch-svgd"; }

# cpu_libtorch VERSION PLATFORM: where scripts/libtorch unpacks the libtorch of a version.
cpu_libtorch() { echo "$(cache_folder)/libtorch-$1-$2-cpu"; }

# fetch_wheels PLATFORM FOLDER NOTE, the table on standard input: PLATFORM PACKAGE==VERSION SHA-256, one line a wheel.
# Only the lines of the platform count.
fetch_wheels() {
  local platform=$1 folder=$2 note=$3 where wheel sha256 attempt glibc
  # pip's names for the wheels of this machine: the local Python's version does not matter.
  local options=(--quiet) tags=()
  if [ -t 1 ]; then options=(); fi
  case "$(python3 -m pip download --help)" in *--resume-retries*) options+=(--resume-retries 10) ;; esac
  case $platform in
    linux-*) for glibc in 28 27 26 25 24 17; do tags+=(--platform "manylinux_2_${glibc}_$(uname -m)"); done
             tags+=(--platform "manylinux2014_$(uname -m)" --platform "manylinux2010_$(uname -m)") ;;
    macos-*) tags+=(--platform macosx_14_0_arm64 --platform macosx_11_0_arm64) ;;
  esac
  mkdir -p "$folder"
  trap 'exit 130' INT  # pip takes an interrupt for a failure like any other
  while read -r where wheel sha256; do
    [ "$where" = "$platform" ] || continue
    say "fetching $wheel into $folder ($note)"
    for attempt in 1 2 3; do
      # Temporary files go there too: a folder in memory may be too small, and what a kill leaves is removed at the end.
      TMPDIR=$folder python3 -m pip download --no-cache-dir --disable-pip-version-check --no-deps \
        --only-binary=:all: --require-hashes ${options[@]+"${options[@]}"} \
        --python-version 3.11 --implementation cp --abi cp311 --abi none "${tags[@]}" --dest "$folder" \
        --requirement <(echo "$wheel --hash=sha256:$sha256") </dev/null && break
      [ "$attempt" -lt 3 ] || die "$wheel could not be fetched: pip's reason stands above; run this again to go on"
      say "attempt $attempt failed: trying again"
      sleep 2
    done
  done
}

# install_unpacked FOLDER NAME: gives a folder its name in one step, once all of it is on the disk. What has the name is
# not whole, or it would not have been fetched again.
install_unpacked() {
  chmod 755 "$1"
  sync
  rm -rf "$2"
  mv "$1" "$2"
}
