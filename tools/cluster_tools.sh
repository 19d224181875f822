#!/usr/bin/env bash
# Bring what the tests' Kubernetes cluster needs: Debian (or Ubuntu) packages, and Kubernetes, CoreDNS and Prometheus built
# from source into the user's cache. Quick when it is there. Where no cluster can be, it says so and leaves: those tests are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

unpacked=${XDG_CACHE_HOME:-$HOME/.cache}/imagetrain/tools/debian
# Programs of packages without a service: they are installed.
declare -A package_of=(
    [busybox]=busybox-static [conntrack]=conntrack [ip]=iproute2 [iptables]=iptables [mount]=mount [ps]=procps
    [/usr/lib/cni/ptp]=containernetworking-plugins [runc]=runc [unshare]=util-linux
)
# Those of packages that would start a service on this machine: they are unpacked into the cache, and nothing is installed.
declare -A service_package_of=([containerd]=containerd [etcd]=etcd-server)
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { echo "==> $*"; }
leave() {
    say "No Kubernetes cluster for the tests: $*"
    exit 0
}

update_package_lists() {
    [ -z "${updated:-}" ] || return 0
    updated=yes
    say "Updating apt's package lists (about 10 s)"
    apt-get update -qq
}

install_packages() {
    local program missing=()
    for program in "${!package_of[@]}"; do
        command -v "$program" >/dev/null || missing+=("${package_of[$program]}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    update_package_lists
    say "Installing the Debian packages ${missing[*]} (about 20 s)"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

unpack_packages() {
    local program package wanted=() missing=
    for program in "${!service_package_of[@]}"; do
        command -v "$program" >/dev/null && continue
        wanted+=("${service_package_of[$program]}")
        [ -x "$unpacked/usr/bin/$program" ] || missing=yes
    done
    [ -n "$missing" ] || return 0
    update_package_lists
    say "Unpacking the Debian packages ${wanted[*]} into $unpacked (about 20 s, 60 MB to download)"
    mkdir -p "$(dirname "$unpacked")"
    build=$(mktemp -d "$unpacked.XXXXXX")
    trap 'rm -rf "$build"' EXIT
    # As root apt would drop to a user who cannot write here, and warn.
    (cd "$build" && apt-get -o APT::Sandbox::User=root download -qq "${wanted[@]}" >&2)
    for package in "$build"/*.deb; do
        dpkg-deb -x "$package" "$build/root"
    done
    # A rename, the last step: a download cut short leaves nothing that looks complete.
    rm -rf "$unpacked"
    mv -T "$build/root" "$unpacked"
}

if [ -n "${IMAGETRAIN_TEST_KUBECONFIG:-}" ] && command -v kubectl >/dev/null; then
    exit 0
fi
[ "$(uname -s)" = Linux ] || leave "this is not Linux."
[ "$(id -u)" = 0 ] || leave "that takes root."
command -v apt-get >/dev/null || leave "its packages come from Debian or Ubuntu, and there is no apt-get here."
install_packages
unpack_packages
# Debian builds its Prometheus without the discovery of pods.
tools/go_tools.sh kubernetes coredns versitygw prometheus
