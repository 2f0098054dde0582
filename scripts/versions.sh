# Reading build/versions.txt, for the scripts beside this file; sourced after wheels.sh, not run.
# shellcheck shell=bash
: "${root:?the folder of the crate}"

# table_block KEY VALUE: the block whose first line begins with them: that line, and the wheels below it.
table_block() {
  local line inside=
  while IFS= read -r line; do
    case $line in
      '#'* | '') ;;
      ' '*) [ -z "$inside" ] || echo "$line" ;;
      "$1 $2 "*) inside=1; echo "$line" ;;
      *) inside= ;;
    esac
  done <"$root/build/versions.txt"
}

# table_heads: the first lines of the blocks of tch, the newest first.
table_heads() {
  local line
  while IFS= read -r line; do
    case $line in 'tch '*) echo "$line" ;; esac
  done <"$root/build/versions.txt"
}

known_pairs() {
  local text='' tch libtorch
  while read -r _ tch _ libtorch _; do
    text="$text${text:+, }tch $tch with libtorch $libtorch"
  done < <(table_heads)
  echo "$text"
}

# tch_in FILE: the version of tch in a Cargo.lock, or nothing.
tch_in() {
  local key value found=
  [ -r "$1" ] || return 0
  while read -r key _ value; do
    value=${value%$'\r'}
    case "$key $value" in
      'name "tch"') found=1 ;;
      'version "'*) if [ -n "$found" ]; then value=${value#\"}; echo "${value%\"}"; return; fi ;;
    esac
  done <"$1"
}

# locked_tch: the version of tch in our own Cargo.lock, or nothing where there is none yet.
locked_tch() {
  local found
  [ -f "$root/Cargo.lock" ] || return 0
  found=$(tch_in "$root/Cargo.lock")
  [ -n "$found" ] || die "$root/Cargo.lock names no tch: restore it, or delete it and let cargo make it anew"
  echo "$found"
}

# pair_of_tch VERSION: the first line of the block of a tch, given as 0.26 or 0.26.0, as `oldest` or as `newest`, which
# nothing means too.
pair_of_tch() {
  local version=$1 block=
  case $version in
    '' | newest) block=$(table_heads) ;;
    oldest) block=$(table_heads); block=${block##*$'\n'} ;;
    *)
      if [[ $version =~ ^([0-9]+\.[0-9]+)(\.[0-9]+)?$ ]]; then block=$(table_block tch "${BASH_REMATCH[1]}"); fi
      ;;
  esac
  [ -n "$block" ] || die "tch $version goes with no libtorch that is known here. Known: $(known_pairs); choose one of them"
  echo "${block%%$'\n'*}"
}

# pair_of_libtorch VERSION: the first line of the block of a libtorch.
pair_of_libtorch() {
  local head libtorch
  while IFS= read -r head; do
    read -r _ _ _ libtorch _ <<<"$head"
    if [ "$libtorch" = "$1" ]; then echo "$head"; return; fi
  done < <(table_heads)
  die "libtorch $1 goes with no tch that is known here. Known: $(known_pairs); use one of them"
}

# header_version INCLUDE: the version of a libtorch, from its headers; nothing where there are none.
header_version() {
  local header word name value version=
  for header in torch/headeronly/version.h torch/csrc/api/include/torch/version.h; do
    [ -f "$1/$header" ] || continue
    while read -r word name value; do
      case "$word $name" in
        '#define TORCH_VERSION_MAJOR' | '#define TORCH_VERSION_MINOR' | '#define TORCH_VERSION_PATCH')
          version=$version${version:+.}$value ;;
      esac
    done <"$1/$header"
    echo "$version"
    return
  done
}

# The interpreter whose PyTorch LIBTORCH_USE_PYTORCH means: as torch-sys chooses it.
pytorch_python() { if [ -n "${VIRTUAL_ENV+set}" ]; then echo python; else echo python3; fi; }

# torch_folder PYTHON: the folder of that interpreter's PyTorch, which is not imported; fails where there is none.
torch_folder() {
  "$1" -c 'import importlib.util, os; print(os.path.dirname(importlib.util.find_spec("torch").origin))' 2>/dev/null
}
