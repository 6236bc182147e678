#!/usr/bin/env bash
# `coprof link` beside iperf3 on the same link, shaped by the kernel in two network namespaces.
# usage: sudo benches/link-vs-iperf3.sh [RATE ...]       (needs ip, tc and iperf3; default: 50mbit)
# Prints, per rate and direction, both bandwidths in Mbit/s and their ratio: the median of three rounds, taken in turns.
set -euo pipefail
coprof=${COPROF:-$(dirname "$0")/../target/release/coprof}
coprof=$(realpath "$coprof")
rounds=3
folder=$(mktemp -d)
cleanup() {
    [ -z "$(jobs -p)" ] || kill $(jobs -p) 2>/dev/null || true
    ip netns del coprof-a 2>/dev/null || true
    ip netns del coprof-b 2>/dev/null || true
    rm -rf "$folder"
}
trap cleanup EXIT

ip netns add coprof-a
ip netns add coprof-b
ip link add va netns coprof-a type veth peer name vb netns coprof-b
for side in a b; do
    [ $side = a ] && host=1 || host=2
    ip -n coprof-$side addr add 10.77.0.$host/24 dev v$side
    ip -n coprof-$side link set v$side up
    ip -n coprof-$side link set lo up
done
ip netns exec coprof-b iperf3 --server >/dev/null &
ip netns exec coprof-b "$coprof" serve --listen 10.77.0.2:7411 --insecure >/dev/null &
sleep 1

median() { sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
field() { python3 -c "import json, sys; d = json.load(sys.stdin); print($1)"; }

cd "$folder"
for rate in "${@:-50mbit}"; do
    for side in a b; do
        tc -n coprof-$side qdisc replace dev v$side root tbf rate "$rate" burst 16kb latency 50ms
    done
    : >up.iperf; : >down.iperf; : >up.coprof; : >down.coprof
    for _ in $(seq $rounds); do
        ip netns exec coprof-a iperf3 --client 10.77.0.2 --time 5 --omit 1 --json |
            field 'd["end"]["sum_received"]["bits_per_second"] / 1e6' >>up.iperf
        ip netns exec coprof-a iperf3 --client 10.77.0.2 --time 5 --omit 1 --reverse --json |
            field 'd["end"]["sum_received"]["bits_per_second"] / 1e6' >>down.iperf
        ip netns exec coprof-a "$coprof" link --peer 10.77.0.2 --json -q >link.json
        field 'd["uplink"]["bits_per_second"] / 1e6' <link.json >>up.coprof
        field 'd["downlink"]["bits_per_second"] / 1e6' <link.json >>down.coprof
    done
    for way in up down; do
        ours=$(median <$way.coprof) theirs=$(median <$way.iperf)
        printf '%s %s: coprof %.2f, iperf3 %.2f Mbit/s, ratio %.3f\n' "$rate" "$way" "$ours" "$theirs" \
            "$(awk "BEGIN { print $ours / $theirs }")"
    done
done
