#!/bin/sh
# Sets up what `make demo` and `make test` need: a virtual environment in .venv with the package, and the servers
# named as arguments (commands or files to find, each followed by a colon and its Debian package).
#
#   tools/setup.sh EXTRAS [COMMAND:PACKAGE ...]
#
# Installing the servers starts none of them as a system service. Without root it installs nothing and prints the line
# to run; that alone is no failure here: who needs the server says so himself.
set -eu

extras=$1
shift
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }

have() {
    case $1 in
    /*) [ -e "$1" ] && return ;; # a library has no command: a file of it stands for it
    esac
    command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/usr/lib/rabbitmq/bin/$1" ]
}

install_packages() {
    if [ "$(id -u)" -ne 0 ]; then
        say "missing: $*; install it with: sudo apt-get install --no-install-recommends $*"
        return 1
    fi
    if ! command -v apt-get >/dev/null 2>&1; then
        say "missing: $*; install it with the package manager of this system"
        return 1
    fi
    say "installing $*"
    # A policy that forbids services to start, put aside again whatever happens.
    policy=/usr/sbin/policy-rc.d
    saved=
    if [ -e "$policy" ]; then
        saved=$(mktemp)
        cp -p "$policy" "$saved"
    fi
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    restore() {
        if [ -n "$saved" ]; then mv "$saved" "$policy"; else rm -f "$policy"; fi
    }
    trap restore EXIT INT TERM
    export DEBIAN_FRONTEND=noninteractive
    status=0
    log=$(mktemp)
    apt-get install -y --no-install-recommends "$@" >"$log" 2>&1 ||
        { apt-get update >>"$log" 2>&1 && apt-get install -y --no-install-recommends "$@" >>"$log" 2>&1; } || status=1
    restore
    trap - EXIT INT TERM
    if [ "$status" -ne 0 ]; then
        tail -5 "$log" >&2
        say "that failed; run: apt-get update && apt-get install --no-install-recommends $*"
    fi
    rm -f "$log"
    return "$status"
}

python=
for candidate in python3.11 python3.12 python3.13 python3; do
    if command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    say "Python 3.11 or newer is missing; install it with: apt-get install python3 python3-venv"
    exit 1
fi

stamp=.venv/.setup-$extras
if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
    if [ ! -x .venv/bin/pip ]; then
        "$python" -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv || exit 1
        rm -rf .venv
        "$python" -m venv .venv
    fi
    say "installing the package and its Python libraries into .venv"
    .venv/bin/pip install --quiet --disable-pip-version-check --editable ".[$extras]" 2>.venv/pip.log || {
        { grep -o "ERROR: .*" .venv/pip.log || tail -5 .venv/pip.log; } >&2
        say "that failed; is the package index reachable?"
        exit 1
    }
    touch "$stamp"
fi

missing=
for pair in "$@"; do
    have "${pair%%:*}" || missing="$missing ${pair#*:}"
done
# shellcheck disable=SC2086
[ -z "$missing" ] || install_packages $missing || true
