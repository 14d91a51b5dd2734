#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever saves a packet filter as JSON and loads it again, for example to put published ports back
# after another program flushed the rules.
#
# nftables 1.0.6 (Debian 12) prints a map whose data is an address and a port as "map": "ipv4_addr . inet_service". The
# same nft refuses that member when it reads the JSON ("Invalid map type"): a concatenation must be a list there, as it
# is for "type" in the same object. So `nft -j list ruleset | nft -j -f -` fails as soon as one such map is loaded, and
# the whole transaction with it. The same ruleset as text goes round without loss.
#
# Needs root, because it loads rules in a network namespace of its own.
#
# Observed output of this script:
#   type: ["inet_proto", "inet_service"]
#   map: "ipv4_addr . inet_service"
#   JSON: refused, Invalid map type 'ipv4_addr . inet_service'.
#   JSON with the list put in by hand: refused, set is not a map
#   text: taken, and equal
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -q nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11=1.2.4-2 libjansson4 libedit2 libbsd0 libmd0 \
	libxtables12 libgmp10 libmnl0 >/dev/null 2>&1
for deb in ./*.deb; do dpkg -x "$deb" root; done
export LD_LIBRARY_PATH=$dir/root/usr/lib/x86_64-linux-gnu:$dir/root/lib/x86_64-linux-gnu NFT=$dir/root/usr/sbin/nft
cat >rules.nft <<'RULES'
table ip ports {
	map published {
		type inet_proto . inet_service : ipv4_addr . inet_service
		elements = { tcp . 8080 : 192.0.2.7 . 80 }
	}
}
RULES
cat >try.sh <<'TRY'
load() { "$NFT" flush ruleset; "$NFT" "$@" 2>err && echo taken || echo "refused, $(sed -n '1s/.*Error: //p' err)"; }
load -f rules.nft >/dev/null
"$NFT" list ruleset >before.txt
"$NFT" -j list ruleset >rules.json
python3 - <<'PYTHON'
import json
rules = json.load(open("rules.json"))
[m] = [r["map"] for r in rules["nftables"] if "map" in r]
print("type:", json.dumps(m["type"]))
print("map:", json.dumps(m["map"]))
m["map"] = m["map"].split(" . ")
json.dump(rules, open("mended.json", "w"))
PYTHON
echo "JSON: $(load -j -f rules.json)"
echo "JSON with the list put in by hand: $(load -j -f mended.json)"
text=$(load -f before.txt)
"$NFT" list ruleset | cmp -s - before.txt && echo "text: $text, and equal"
TRY
found=$(unshare --net bash try.sh)
echo "$found"
[ "$found" = 'type: ["inet_proto", "inet_service"]
map: "ipv4_addr . inet_service"
JSON: refused, Invalid map type '\''ipv4_addr . inet_service'\''.
JSON with the list put in by hand: refused, set is not a map
text: taken, and equal' ]
