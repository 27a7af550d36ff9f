#!/usr/bin/env bash
# A Ray cluster on this machine, of a head that runs no job and two nodes that do, and on it the same
# sweep as by Hydra's basic launcher; both must write the same table. In the environment of
# `make setup-ray`:
#   scripts/ray/test_cluster.sh FOLDER [PYTHON]
set -euo pipefail

[[ $# -ge 1 ]] || { echo "usage: $0 FOLDER [PYTHON]" >&2; exit 2; }
repository=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
python=${2:-$repository/.venv-ray/bin/python}
[[ -x $python ]] || { echo "$python is not there; type \`make setup-ray\` first." >&2; exit 3; }

# Ray would report to its maker.
export RAY_USAGE_STATS_ENABLED=0
# Sockets have short paths at most, so Ray's own files cannot lie in any folder.
sockets=$(mktemp -d)
port=$("$python" -c 'import socket
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    print(s.getsockname()[1])')

# Each node is a group of processes of its own, so that it ends by being told to, and others of this
# machine are left alone.
nodes=()
node() {
    setsid "$python" -m ray.scripts.scripts start --block --disable-usage-stats \
        --node-ip-address=127.0.0.1 "$@" >>"$folder/ray.log" 2>&1 &
    nodes+=($!)
}
finish() {
    # The head last: the others take leave of it.
    for ((index = ${#nodes[@]} - 1; index >= 0; index--)); do
        kill -TERM -- "-${nodes[index]}" 2>/dev/null || true
        wait "${nodes[index]}" || true
    done
    rm -rf "$sockets"
}
trap finish EXIT

cd "$repository"
export PYTHONPATH=$repository
node --head --port="$port" --num-cpus=0 --include-dashboard=false --temp-dir="$sockets"
until "$python" -c "import socket; socket.create_connection(('127.0.0.1', $port))" 2>/dev/null; do
    kill -0 "${nodes[0]}" || { echo "Ray did not start; see $folder/ray.log" >&2; exit 1; }
    sleep 0.5
done
export RAY_ADDRESS=127.0.0.1:$port
# One after the other: Ray gives a node half a minute, which a busy machine needs for one.
for alive in 2 3; do
    node --address="127.0.0.1:$port" --num-cpus=1
    "$python" - "$alive" <<'CODE'
import sys
import time

import ray

ray.init(log_to_driver=False)
deadline = time.monotonic() + 120
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[1]):
    if time.monotonic() > deadline:
        raise SystemExit("the nodes of the cluster did not start; see ray.log")
    time.sleep(0.5)
CODE
done

run() {
    "$python" -m experiments.run -m experiment=table6 profile=bundled engine=eager draws=1 \
        perturbation.num=4,64 model=efficientnet_lite0,efficientnet_lite1 \
        paths.results="$folder/$1" paths.cache="$folder/cache" "hydra/launcher=$2"
}
rm -rf "$folder/basic" "$folder/ray"
run basic basic >"$folder/basic.log"
run ray ray_cluster | tee "$folder/ray-run.log"
for suffix in csv md tex; do
    cmp "$folder"/basic/table6-sweep-*/"table6.$suffix" "$folder"/ray/table6-sweep-*/"table6.$suffix"
done
echo "the tables are the same"
