#!/usr/bin/env bash
# Put Fashion-MNIST's four idx files (.gz) into the user's cache and print that folder as the only line on stdout.
# They come from the Debian (and Ubuntu) package dataset-fashion-mnist, unpacked without being installed: no root needed.
set -euo pipefail

package=dataset-fashion-mnist
installed=/usr/share/datasets/fashion-mnist
cache=${XDG_CACHE_HOME:-$HOME/.cache}/imagetrain/datasets
target=$cache/fashion-mnist

say() { echo "==> $*" >&2; }
fail() { echo "make: $*" >&2; exit 1; }

if [ -e "$installed/train-images-idx3-ubyte.gz" ]; then
    echo "$installed"
    exit 0
fi
if [ ! -e "$target" ]; then
    command -v apt-get >/dev/null || fail "Fashion-MNIST comes from the Debian package $package, and there is no apt-get" \
        "here. Put its four idx .gz files into $target."
    mkdir -p "$cache"
    build=$(mktemp -d "$cache/build.XXXXXX")
    trap 'rm -rf "$build"' EXIT
    if ! apt-cache show "$package" >/dev/null 2>&1; then
        [ "$(id -u)" = 0 ] || fail "apt knows no package $package. Run: sudo apt-get update"
        say "Updating apt's package lists (about 10 s)"
        apt-get update -qq >&2
    fi
    say "Downloading the Debian package $package (31 MB, about 10 s)"
    # As root apt would drop to a user who cannot write here, and warn.
    (cd "$build" && apt-get -o APT::Sandbox::User=root download -qq "$package" >&2)
    dpkg-deb -x "$build/$package"_*.deb "$build/root"
    mv "$build/root$installed" "$target"
fi
echo "$target"
