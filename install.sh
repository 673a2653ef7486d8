#!/usr/bin/env bash
# Finds Python, makes an environment, installs what it needs, and hands over.
#
#   ./install.sh demo [...]        the whole main job on a simulated Orin, on any Linux machine
#   ./install.sh test [...]        everything the tests need, then the tests (arguments to pytest)
#   sudo ./install.sh [...]        the real thing on a Jetson (arguments to `ishowtts-ops install`)
set -euo pipefail
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

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }

# What pip compiles (systemd-python), what the tool uses (git, espeak-ng), what the tests boot.
packages=(pkg-config libsystemd-dev gcc python3-dev python3-venv git espeak-ng)
[ "$job" = test ] && packages+=(debootstrap systemd-container shellcheck chromium)
missing=()
for package in "${packages[@]}"; do
  dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  if command -v apt-get >/dev/null && command -v "${as_root[0]:-true}" >/dev/null; then
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
if [ ! -x "$venv/bin/python" ]; then
  say "making an environment in $venv with $("$python" --version)"
  "$python" -m venv "$venv"
fi
say "installing ishowtts-ops into it"
pip=("$venv/bin/python" -m pip --disable-pip-version-check install --quiet)
case $job in
  install)
    "${pip[@]}" .
    exec "$venv/bin/ishowtts-ops" install "$@"
    ;;
  demo)
    "${pip[@]}" --editable .
    exec "$venv/bin/ishowtts-ops" demo "$@"
    ;;
  test)
    say "installing torch and the tests' packages (several GB the first time)"
    "${pip[@]}" torch==2.11.0 torchaudio==2.11.0
    "${pip[@]}" --editable '.[engine,test]'
    exec "$venv/bin/python" -m pytest "$@"
    ;;
esac
