#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever reads packet filter rules with github.com/google/nftables, to copy, to save or to compare them.
#
# nft compiles a range of a number in host order (mark, uid, hour) to five expressions, the second of which swaps the
# bytes. google/nftables 0.3.0 can write that expression, but not read it, and GetRules() leaves out each expression that
# it can't read, without an error and without a placeholder. So the rule that is written back is taken by the kernel and
# matches other packets. The same happens to the load of socket, rt, ipsec and osf; there the kernel refuses the copy,
# because the comparison behind it has nothing to compare.
#
# Needs Go, and root, because it loads rules in a network namespace of its own.
#
# Observed output of this script:
#   tcp dport 1-1024 accept: read as Meta Cmp Payload Cmp Cmp Verdict, copy: tcp dport 1-1024 accept
#   meta mark 1-10 accept: read as Meta Cmp Cmp Verdict, copy: meta mark 0x01000000-0x0a000000 accept
#   meta skuid 1000-2000 accept: read as Meta Cmp Cmp Verdict, copy: meta skuid 3892510720-3490119680 accept
#   socket transparent 1 accept: read as Cmp Verdict, copy: no data available
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOPATH=$dir/go GOFLAGS=-modcacherw GOCACHE=$dir/cache CGO_ENABLED=0
apt-get download -q nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11=1.2.4-2 libjansson4 libedit2 libbsd0 libmd0 \
	libxtables12 libgmp10 libmnl0 >/dev/null 2>&1
for deb in ./*.deb; do dpkg -x "$deb" root; done
mkdir module
cat >module/main.go <<'GO'
package main

import (
	"fmt"
	"strings"

	"github.com/google/nftables"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// Copies the rules of the chain "from" to the chain "to", and prints what they were read as.
func main() {
	conn, err := nftables.New()
	check(err)
	list, err := conn.ListChains()
	check(err)
	chains := map[string]*nftables.Chain{}
	for _, chain := range list {
		chains[chain.Name] = chain
	}
	rules, err := conn.GetRules(chains["from"].Table, chains["from"])
	check(err)
	for _, rule := range rules {
		for i, e := range rule.Exprs {
			fmt.Print(strings.Repeat(" ", min(i, 1)), strings.TrimPrefix(fmt.Sprintf("%T", e), "*expr."))
		}
		conn.AddRule(&nftables.Rule{Table: chains["to"].Table, Chain: chains["to"], Exprs: rule.Exprs})
	}
	fmt.Print(", copy: ")
	if err := conn.Flush(); err != nil {
		fmt.Print(err.Error()[strings.LastIndex(err.Error(), ": ")+2:])
	}
}
GO
(
	cd module
	go mod init example.invalid/try 2>/dev/null
	go get github.com/google/nftables@v0.3.0 2>/dev/null
	go mod tidy 2>/dev/null
	go build -o ../copy .
)
cat >try.sh <<'TRY'
nft() { LD_LIBRARY_PATH=root/usr/lib/x86_64-linux-gnu:root/lib/x86_64-linux-gnu root/usr/sbin/nft "$@"; }
for rule in 'tcp dport 1-1024 accept' 'meta mark 1-10 accept' 'meta skuid 1000-2000 accept' 'socket transparent 1 accept'; do
	nft 'flush ruleset; table inet t { chain from { '"$rule"'; }; chain to { }; }'
	read=$(./copy)
	echo "$rule: read as $read$(nft -n list chain inet t to | sed -n 's/^\t\t//p')"
done
TRY
found=$(unshare --net bash -e try.sh)
echo "$found"
[ "$found" = "tcp dport 1-1024 accept: read as Meta Cmp Payload Cmp Cmp Verdict, copy: tcp dport 1-1024 accept
meta mark 1-10 accept: read as Meta Cmp Cmp Verdict, copy: meta mark 0x01000000-0x0a000000 accept
meta skuid 1000-2000 accept: read as Meta Cmp Cmp Verdict, copy: meta skuid 3892510720-3490119680 accept
socket transparent 1 accept: read as Cmp Verdict, copy: no data available" ]
