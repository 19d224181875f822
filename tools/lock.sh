#!/usr/bin/env bash
# Write requirements/*.txt from pyproject.toml: exact versions with hashes, and no index address.
# Pinned versions stay as they are unless pyproject.toml rules them out; UPGRADE=1 takes the newest of everything.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() { # compile OUTPUT ARGUMENT...
    local output=requirements/$1
    shift
    echo "==> $output"
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --custom-compile-command "make lock" ${UPGRADE:+--upgrade} --output-file "$output" "$@"
}

mkdir -p requirements
compile dev-cpu.txt pyproject.toml --extra trainer-cpu --extra operator --extra dev
compile trainer-gpu.txt pyproject.toml --extra trainer-gpu
compile trainer-cpu.txt pyproject.toml --extra trainer-cpu
compile operator.txt --group operator-image
compile build.txt --group build
compile go.txt --group go

if grep -nE 'https?:|file:|/simple' requirements/*.txt; then
    echo "make lock: the lines above name a host or a path, and a lock file must not." >&2
    exit 1
fi
