#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever writes a CNI plug-in in another language than Go, for containerd, Kubernetes or nerdctl.
#
# CNI's conventions (CONVENTIONS.md, "Dynamic Plugin specific fields") give the members of runtimeConfig: a port mapping has
# hostPort and containerPort, a bandwidth ingressRate, dns servers, and ipRanges is a list of lists of subnet. The types
# of containerd's go-cni 1.1.15, PortMapping, BandWidth, DNS and IPRanges, have no names for JSON. So containerd writes
# HostPort, IngressRate, Servers, and a plain list of Subnet. Go's JSON reader takes names in any case, so plug-ins in Go
# do not notice, but for ipRanges, whose form differs. A plug-in that looks for hostPort finds no port.
#
# Needs Go.
#
# Observed output of this script:
#   bandwidth {"EgressBurst": 0, "EgressRate": 0, "IngressBurst": 0, "IngressRate": 1}
#   dns {"Options": null, "Searches": null, "Servers": ["192.0.2.1"]}
#   ipRanges [{"Gateway": "", "RangeEnd": "", "RangeStart": "", "Subnet": "192.0.2.0/24"}]
#   portMappings [{"ContainerPort": 80, "HostIP": "", "HostPort": 8080, "Protocol": "tcp"}]
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOPATH=$dir/go GOFLAGS=-modcacherw GOCACHE=$dir/cache CGO_ENABLED=0 HOME=$dir
mkdir module plugins
cat >plugins/plugin <<PLUGIN
#!/bin/sh
cat > $dir/told
echo '{"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "x"}], "ips": [{"address": "192.0.2.9/24", "interface": 0}]}'
PLUGIN
chmod +x plugins/plugin
cat >plugins/try.conflist <<'LIST'
{"cniVersion": "1.0.0", "name": "try", "plugins": [{"type": "plugin",
	"capabilities": {"portMappings": true, "bandwidth": true, "dns": true, "ipRanges": true}}]}
LIST
cat >module/main.go <<'GO'
package main

import (
	"context"

	cni "github.com/containerd/go-cni"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	network, err := cni.New(cni.WithPluginDir([]string{"plugins"}), cni.WithConfListFile("plugins/try.conflist"))
	check(err)
	_, err = network.Setup(context.Background(), "box", "/proc/self/ns/net",
		cni.WithCapabilityPortMap([]cni.PortMapping{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}),
		cni.WithCapabilityBandWidth(cni.BandWidth{IngressRate: 1}), cni.WithCapabilityDNS(cni.DNS{Servers: []string{"192.0.2.1"}}),
		cni.WithCapabilityIPRanges([]cni.IPRanges{{Subnet: "192.0.2.0/24"}}))
	check(err)
}
GO
(
	cd module
	go mod init example.invalid/try 2>/dev/null
	go get github.com/containerd/go-cni@v1.1.15 2>/dev/null
	go mod tidy 2>/dev/null
	go build -o ../try .
)
./try
found=$(python3 -c 'import json
for name, value in sorted(json.load(open("told"))["runtimeConfig"].items()): print(name, json.dumps(value, sort_keys=True))')
echo "$found"
[ "$found" = 'bandwidth {"EgressBurst": 0, "EgressRate": 0, "IngressBurst": 0, "IngressRate": 1}
dns {"Options": null, "Searches": null, "Servers": ["192.0.2.1"]}
ipRanges [{"Gateway": "", "RangeEnd": "", "RangeStart": "", "Subnet": "192.0.2.0/24"}]
portMappings [{"ContainerPort": 80, "HostIP": "", "HostPort": 8080, "Protocol": "tcp"}]' ]
