#!/usr/bin/env bash
# Make .venv hold exactly what requirements/dev-cpu.txt locks, plus this checkout as an editable install.
# Needs a Python between 3.11 and 3.13 and nothing else; PYTHON=/path/to/python picks one. Quick when nothing changed.
set -euo pipefail
cd "$(dirname "$0")/.."

lock=requirements/dev-cpu.txt
stamp=.venv/installed-lock
# The folder is part of the key: a virtual environment does not survive being moved.
key=$({ pwd && cat "$lock" pyproject.toml; } | sha256sum)

say() { echo "==> $*"; }
fail() { echo "make: $*" >&2; exit 1; }

# TensorFlow 2.21 ships wheels for these versions.
is_supported_python() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.12 python3.11 python3.13}; do
        if is_supported_python "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.11, 3.12 or 3.13 found (tried: ${PYTHON:-python3 python3.12 python3.11 python3.13})." \
        "Install one (Debian 12: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3.11."
}

# Debian and Ubuntu leave ensurepip out of python3; the package python3.X-venv brings it.
require_ensurepip() {
    local python=$1 package
    "$python" -c 'import ensurepip' >/dev/null 2>&1 && return
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
        fail "$python cannot make virtual environments. Run: sudo apt-get install $package"
    say "Installing the Debian package $package (about 20 s)"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null
}

# Two terminals may both run make; the second waits here and then finds everything done.
exec 9<"$lock"
flock 9

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$key" ] && is_supported_python .venv/bin/python; then
    exit 0
fi

[ "$(uname -sm)" = "Linux x86_64" ] || fail "this is $(uname -sm); tensorflow-cpu has wheels for Linux on x86_64 alone."

# pip fails where its interpreter is gone or the folder was moved.
if ! { is_supported_python .venv/bin/python && .venv/bin/pip --version; } >/dev/null 2>&1; then
    python=$(find_python)
    require_ensurepip "$python"
    say "Creating .venv with $("$python" --version) (about 10 s)"
    rm -rf .venv
    "$python" -m venv .venv
fi
rm -f "$stamp"
say "Installing the locked packages of $lock into .venv (about 2 min at first, 2.3 GB on disk)"
# The lock is complete. Without --no-deps, pip resolves extras such as coverage[toml] anew, finds a newer release than the
# locked one, and refuses it for having no hash.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r "$lock"
say "Installing imagetrain itself, editable (about 5 s)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
echo "$key" >"$stamp"
