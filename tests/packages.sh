#!/bin/sh
# Install the Debian packages whose programs the tests start: real peers and clients. None of them becomes a service.
# Arguments, like kresd:knot-resolver, are more programs with their packages.
# Where we are not root, or this is no Debian, say what is missing and go on; the tests that need it say so too.
set -eu

PATH=$PATH:/usr/sbin:/sbin
missing=''
need() { # PROGRAM PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need unbound unbound
need dig bind9-dnsutils
need dnsperf dnsperf
need dnsmasq dnsmasq-base
need promtool prometheus
for more in "$@"; do
    need "${more%%:*}" "${more##*:}"
done
need openssl openssl
need systemd-analyze systemd
need ip iproute2
need nft nftables
need iptables iptables
need conntrack conntrack
need nsenter util-linux
need cc gcc
need musl-gcc musl-tools
# The compiled lane is built for the tests, and needs what Python's own headers say.
header='import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'
"${PYTHON:-python3}" -c "$header" 2>/dev/null || missing="$missing python3-dev"

[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "missing for the tests:$missing (on Debian, as root: apt-get install$missing)" >&2
    exit 0
fi

echo "==> installing$missing"
# invoke-rc.d asks this script whether a package may start its service (Debian Policy 9.3.3).
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
# shellcheck disable=SC2086  # one word for each package
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 $missing >/dev/null
