#!/bin/sh
# What `make run` does: the demo (a stand-in for kube-dns) and, in front of it, the resolver.
# PORT and DEMO_PORT choose other ports, BIN the folder of the Python that has the package. Ctrl-C or SIGTERM ends both; so does the end of either.
set -eu

BIN=${BIN:-.venv/bin}
PORT=${PORT:-5300}
DEMO_PORT=${DEMO_PORT:-5301}
UPSTREAM=/etc/resolv.conf
if ! grep -q '^[[:space:]]*nameserver[[:space:]]' "$UPSTREAM" 2>/dev/null; then
    UPSTREAM=127.0.0.1:$DEMO_PORT # no name server known here: the demo refuses what it does not have
fi
export DEMO_PORT UPSTREAM

folder=$(mktemp -d)
demo='' server=''

stop() {
    trap - EXIT INT TERM
    for pid in $server $demo; do
        kill -TERM "$pid" 2>/dev/null || true
    done
    wait
    rm -rf "$folder"
}
trap stop EXIT
trap 'stop; exit 0' INT TERM

# The demo prints its first line once it listens; without one it has said on stderr what is wrong.
mkfifo "$folder/demo"
"$BIN/python" -m resolver demo -port "$DEMO_PORT" >"$folder/demo" &
demo=$!
exec 3<"$folder/demo"
read -r _ <&3 || exit 1

cat <<EOF
The resolver answers on 127.0.0.1 port $PORT, UDP and TCP; behind it, the demo on port $DEMO_PORT.
Try, in another terminal:

  dig @127.0.0.1 -p $PORT web.shop.svc.cluster.local
  dig @127.0.0.1 -p $PORT _http._tcp.web.shop.svc.cluster.local SRV
  dig @127.0.0.1 -p $PORT big.demo.example TXT

Everything outside the demo's zones is asked at: $UPSTREAM
EOF

"$BIN/python" -m resolver -conf deploy/local/Corefile -dns.port "$PORT" &
server=$!
wait "$server"
