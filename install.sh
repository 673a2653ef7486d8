#!/usr/bin/env bash
# Finds Python, makes an environment, installs what it needs, and hands over.
#
#   ./install.sh demo [...]        the whole main job on a simulated Orin, on any Linux machine
#   ./install.sh test [...]        everything the tests need, then the tests (arguments to pytest;
#                                  without any, two processes share them)
#   sudo ./install.sh [...]        the real thing on a Jetson (arguments to `ishowtts-ops install`)
#   sudo ./install.sh --wheels DIR [...]   the same without a network, from the folder that
#                                  `ishowtts-ops wheels make DIR` has made on another machine
set -euo pipefail

# Resolved before this script changes folder.
from=() # where pip takes packages from, when not from its index
for ((i = 1; i <= $#; i++)); do
  case ${!i} in
    --wheels) next=$((i + 1)) && folder=${!next-} ;;
    --wheels=*) next=$i && folder=${!i#*=} ;;
    *) continue ;;
  esac
  if ! compgen -G "$folder/*.whl" >/dev/null; then
    echo "error: there are no wheels in \`$folder\`; \`ishowtts-ops wheels make DIR\` makes such a" \
      "folder on a machine with a network." >&2
    exit 2
  fi
  folder=$(realpath -- "$folder")
  from=(--no-index --find-links "$folder")
  set -- "${@:1:i-1}" --wheels "$folder" "${@:next+1}"
  break
done
cd "$(dirname "${BASH_SOURCE[0]}")"

job=${1:-install}
case $job in
  demo | test) shift ;;
  install) [ $# -eq 0 ] || shift ;;
  -*) job=install ;;
  *)
    echo "error: there is no \`install.sh $job\`; use demo, test, or nothing on a Jetson." >&2
    exit 2
    ;;
esac

if [ "$job" = install ] && [ "$(id -u)" -ne 0 ]; then
  echo "error: installing on a Jetson needs root: \`sudo ./install.sh\`. To look first, on any" \
    "machine: \`./install.sh demo\`." >&2
  exit 1
fi

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }

# What pip compiles (systemd-python), what the tool uses (git, espeak-ng), what the tests boot.
packages=(python3-venv git espeak-ng)
[ ${#from[@]} -gt 0 ] || packages+=(pkg-config libsystemd-dev gcc python3-dev)
[ "$job" = test ] && packages+=(debootstrap systemd-container shellcheck chromium)
missing=()
for package in "${packages[@]}"; do
  dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  if [ ${#from[@]} -gt 0 ]; then
    say "without a network these system packages are yours to install, where they are wanted:" \
      "${missing[*]}"
  elif command -v apt-get >/dev/null && command -v "${as_root[0]:-true}" >/dev/null; then
    say "installing system packages: ${missing[*]}"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
      --no-install-recommends "${missing[@]}" >&2
  else
    say "please install by hand, with their names on this system: ${missing[*]}"
  fi
fi

python=
for candidate in python3 python3.12 python3.11 python3.10 python3.13; do
  if command -v "$candidate" >/dev/null &&
    "$candidate" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "error: no Python 3.10 or newer with ensurepip was found; install python3 and python3-venv." >&2
  exit 1
fi

venv=$PWD/.venv
[ "$job" = install ] && venv=/opt/ishowtts-ops/venv
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then # none, or one whose making was cut short
  say "making an environment in $venv with $("$python" --version)"
  "$python" -m venv "$venv"
fi
say "installing ishowtts-ops into it"
pip=("$venv/bin/python" -m pip --disable-pip-version-check install --quiet)
case $job in
  install)
    what=(.) # what would have to be compiled is left out
    [ ${#from[@]} -gt 0 ] || what=('.[systemd]')
    "${pip[@]}" "${from[@]}" "${what[@]}"
    # Everything the program says to type begins with its name alone.
    link=/usr/local/bin/ishowtts-ops
    if [ -L "$link" ] || [ ! -e "$link" ]; then
      ln -sfn "$venv/bin/ishowtts-ops" "$link"
    else
      say "$link is somebody else's and stays; the program is $venv/bin/ishowtts-ops"
    fi
    exec "$venv/bin/ishowtts-ops" install "$@"
    ;;
  demo)
    "${pip[@]}" --editable .
    exec "$venv/bin/ishowtts-ops" demo "$@"
    ;;
  test)
    say "installing torch and the tests' packages (several GB the first time)"
    "${pip[@]}" torch==2.11.0 torchaudio==2.11.0
    "${pip[@]}" --editable '.[engine,systemd,test]'
    # Two: one has the containers, which mostly wait, and meanwhile the other has all the rest.
    [ $# -gt 0 ] || set -- --numprocesses=2
    exec "$venv/bin/python" -m pytest "$@"
    ;;
esac
