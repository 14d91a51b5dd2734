#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever writes a CNI plug-in that answers GC, the command that CNI 1.1 brought.
#
# CNI's specification (1.1.0, section 2, "GC") requires the key cni.dev/valid-attachments, and calls its value a list. A
# runtime whose last container has gone asks to remove everything, so an empty list is the case that matters most. libcni
# 1.3.0 has a Go slice there: a runtime that keeps no attachment and leaves the slice as it was made sends null, which is no
# list. With an empty slice, which most Go code takes for the same, it sends []. A plug-in that checks the type refuses
# the first, and one that takes null for "the key is missing" keeps every address.
#
# Needs Go.
#
# Observed output of this script:
#   nil null
#   empty []
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOPATH=$dir/go GOFLAGS=-modcacherw GOCACHE=$dir/cache CGO_ENABLED=0 HOME=$dir
mkdir module plugins
cat >plugins/plugin <<PLUGIN
#!/bin/sh
if [ "\$CNI_COMMAND" = GC ]; then cat > $dir/told; else cat >/dev/null; fi
PLUGIN
chmod +x plugins/plugin
cat >module/main.go <<'GO'
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	list, err := libcni.ConfListFromBytes([]byte(`{"cniVersion": "1.1.0", "name": "try", "plugins": [{"type": "plugin"}]}`))
	check(err)
	runtime := libcni.NewCNIConfigWithCacheDir([]string{"plugins"}, "cache", nil)
	for _, c := range []struct {
		name string
		keep []types.GCAttachment
	}{{"nil", nil}, {"empty", []types.GCAttachment{}}} {
		check(runtime.GCNetworkList(context.Background(), list, &libcni.GCArgs{ValidAttachments: c.keep}))
		told, err := os.ReadFile("told")
		check(err)
		var got map[string]json.RawMessage
		check(json.Unmarshal(told, &got))
		fmt.Println(c.name, string(got["cni.dev/valid-attachments"]))
	}
}
GO
(
	cd module
	go mod init example.invalid/try 2>/dev/null
	go get github.com/containernetworking/cni@v1.3.0 2>/dev/null
	go mod tidy 2>/dev/null
	go build -o ../try .
)
found=$(./try)
echo "$found"
[ "$found" = 'nil null
empty []' ]
