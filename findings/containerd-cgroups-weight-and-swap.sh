#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever sets a container's limits on cgroup v2 by github.com/containerd/cgroups, as Kata and agents in Go do.
#
# cgroup2.ToResources of containerd/cgroups 3.1.3 turns the limits of a config.json into those of cgroup v2. The block
# weight of 10 to 1000 becomes one of 1 to 10000. It multiplies in 16 bits, so most results from 17 on are wrong, and a
# greater weight can get a smaller share: 1000 becomes 4. runtime-spec's swap counts memory and swap, and -1 is no limit.
# It subtracts the memory limit from -1 too: with a limit a negative number comes out, where cgroup v2 takes bytes or "max",
# and with no limit on either 0, which switches swap off. No error is raised. opencontainers/cgroups 0.1.0, which runc
# has, gives the right weights, and -1 for no limit, which it writes as "max".
#
# Needs Go.
#
# Observed output of this script:
#   block weight 10 16 17 100 500 1000: containerd 1 61 5 49 51 4, opencontainers 1 61 71 910 4950 10000
#   memory 104857600, swap 209715200: memory.swap.max: containerd 104857600, opencontainers 104857600
#   memory 104857600, swap -1: memory.swap.max: containerd -104857601, opencontainers -1
#   memory -1, swap -1: memory.swap.max: containerd 0, opencontainers -1
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOPATH=$dir/go GOFLAGS=-modcacherw GOCACHE=$dir/cache CGO_ENABLED=0
mkdir module
cat >module/go.mod <<'MOD'
module limits

go 1.25

require (
	github.com/containerd/cgroups/v3 v3.1.3
	github.com/opencontainers/cgroups v0.1.0
)
MOD
cat >module/main.go <<'GO'
package main

import (
	"fmt"
	"strings"

	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func main() {
	var weights, theirs, ours []string
	for _, w := range []uint16{10, 16, 17, 100, 500, 1000} {
		got := cgroup2.ToResources(&specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: &w}}).IO.BFQ.Weight
		weights, theirs = append(weights, fmt.Sprint(w)), append(theirs, fmt.Sprint(got))
		ours = append(ours, fmt.Sprint(cgroups.ConvertBlkIOToIOWeightValue(w)))
	}
	fmt.Printf("block weight %s: containerd %s, opencontainers %s\n", strings.Join(weights, " "), strings.Join(theirs, " "),
		strings.Join(ours, " "))
	for _, m := range [][2]int64{{100 << 20, 200 << 20}, {100 << 20, -1}, {-1, -1}} {
		got := *cgroup2.ToResources(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &m[0], Swap: &m[1]}}).Memory.Swap
		want, err := cgroups.ConvertMemorySwapToCgroupV2Value(m[1], m[0])
		if err != nil {
			panic(err)
		}
		fmt.Printf("memory %d, swap %d: memory.swap.max: containerd %d, opencontainers %d\n", m[0], m[1], got, want)
	}
}
GO
(cd module && go mod tidy && go build -o ../limits .) >build.log 2>&1 || { cat build.log; exit 1; }
found=$(./limits)
echo "$found"
[ "$found" = 'block weight 10 16 17 100 500 1000: containerd 1 61 5 49 51 4, opencontainers 1 61 71 910 4950 10000
memory 104857600, swap 209715200: memory.swap.max: containerd 104857600, opencontainers 104857600
memory 104857600, swap -1: memory.swap.max: containerd -104857601, opencontainers -1
memory -1, swap -1: memory.swap.max: containerd 0, opencontainers -1' ]
