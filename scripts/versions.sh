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

# locked_tch: the version of tch in Cargo.lock, or nothing.
locked_tch() {
  local key value found=
  [ -f "$root/Cargo.lock" ] || return 0
  while read -r key _ value; do
    value=${value%$'\r'}
    case "$key $value" in
      'name "tch"') found=1 ;;
      'version "'*) if [ -n "$found" ]; then value=${value#\"}; echo "${value%\"}"; return; fi ;;
    esac
  done <"$root/Cargo.lock"
  die "$root/Cargo.lock names no tch: restore it, or delete it and let cargo make it anew"
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
