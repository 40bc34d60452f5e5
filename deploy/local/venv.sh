#!/bin/sh
# Make .venv with a Python that is new enough; PYTHON names another one than python3.
# On a Debian machine, and as root, what is missing for that is installed; else the remedy is said.
set -eu

python=${PYTHON:-python3}

if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "==> installing python3-venv"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-venv >/dev/null
    else
        echo "$python cannot make a virtual environment. On Debian or Ubuntu: sudo apt-get install python3-venv" >&2
        exit 1
    fi
fi

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "node-resolver needs Python 3.11 or newer; $python is $("$python" --version)." >&2
    echo "Name another one: make PYTHON=python3.12 ..." >&2
    exit 1
fi

echo "==> making .venv with $("$python" --version)"
"$python" -m venv .venv
