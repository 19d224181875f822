#!/usr/bin/env bash
# Build Kubeflow's training operator, the peer of the benchmark, into the user's cache (1 min), and print its folder there:
# training-operator, and manifests/, its own. Quick when it is there.
# go.mod names the version, go.sum the hashes. Its client allows itself 20 requests a second and has no flag for that; two
# lines of its main raise the limit to 1000, so that it is compared at its best.
set -euo pipefail
cd "$(dirname "$0")"

module=github.com/kubeflow/training-operator
version=$(sed -n "s#.*$module \(v[^ ]*\).*#\1#p" go.mod)
target=${XDG_CACHE_HOME:-$HOME/.cache}/imagetrain/tools/training-operator-$version

if [ ! -x "$target/training-operator" ]; then
    command -v go >/dev/null || { echo "Go >= 1.24 must be on the PATH to build the peer." >&2; exit 1; }
    echo "==> Building training-operator $version (about 1 min on two cores with Go's cache empty)" >&2
    mkdir -p "$(dirname "$target")"
    # Beside the target, so that the last step is a rename; a build cut short leaves nothing that looks complete.
    build=$(mktemp -d "$target.XXXXXX")
    trap 'chmod -R u+w "$build" && rm -rf "$build"' EXIT
    mkdir "$build/source" "$build/done"
    cp go.mod go.sum "$build/source/"
    cd "$build/source"
    export CGO_ENABLED=0 GOFLAGS=-mod=readonly GOTOOLCHAIN=local
    go mod download "$module"
    upstream=$(go list -m -f '{{.Dir}}' "$module")
    sed 's/^\tmgr, err := ctrl.NewManager(ctrl.GetConfigOrDie(),/\tlimits := ctrl.GetConfigOrDie()\n\tlimits.QPS, limits.Burst = 1000, 1000\n\tmgr, err := ctrl.NewManager(limits,/' \
        "$upstream/cmd/training-operator.v1/main.go" >main.go
    [ "$(grep -c limits main.go)" = 3 ] || { echo "main.go of $module $version has changed: mend the edit above." >&2; exit 1; }
    go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$build/done/training-operator" . \
        2> >(grep -v '^go: downloading' >&2)
    cp -r "$upstream/manifests" "$build/done/manifests"
    chmod -R u+w "$build/done"
    mv "$build/done" "$target"
fi
echo "$target"
