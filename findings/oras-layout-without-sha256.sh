#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever writes a small program in Go that reads an OCI image layout and does nothing else.
#
# go-digest 1.0.0 asks Go's registry of hash functions for SHA-256, and a hash function is there only if something in the
# program imports its package. oras-go 2.7.0's content/oci does not. A program that imports no more than that package
# can't open any layout: "invalid digest" is said of a digest which is right. As soon as anything imports net/http, or the
# program imports crypto/sha256 for its side effect, the same layout opens. So the tests of a larger program pass, and
# its helper program fails.
#
# Needs Go.
#
# Observed output of this script:
#   oras-go alone: invalid digest
#   with an unused import of crypto/sha256: opened
#   with an unused import of net/http: opened
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOPATH=$dir/go GOFLAGS=-modcacherw GOCACHE=$dir/cache
mkdir module layout
cd module
go mod init example.invalid/try 2>/dev/null
for import in '' crypto/sha256 net/http; do
	name=with-${import//\//-}
	mkdir "$name"
	cat >"$name/main.go" <<GO
package main

import (
	"fmt"
	"os"
	"strings"
	${import:+_ \"$import\"}

	"oras.land/oras-go/v2/content/oci"
)

func main() {
	if _, err := oci.New(os.Args[1]); err != nil {
		fmt.Println(err.Error()[strings.LastIndex(err.Error(), ": ")+2:])
		return
	}
	fmt.Println("opened")
}
GO
done
go get oras.land/oras-go/v2@v2.7.0 2>/dev/null
go mod tidy 2>/dev/null
go build -o "$dir/" ./...
cd ..
python3 - <<'PYTHON'
import hashlib, json, os
os.makedirs("layout/blobs/sha256")
def put(media_type, data):
    name = hashlib.sha256(data).hexdigest()
    with open(f"layout/blobs/sha256/{name}", "wb") as f:
        f.write(data)
    return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(data)}
config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [],
            "config": put("application/vnd.oci.image.config.v1+json", json.dumps(config).encode())}
entry = put(manifest["mediaType"], json.dumps(manifest).encode())
with open("layout/index.json", "w") as f:
    json.dump({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}, f)
with open("layout/oci-layout", "w") as f:
    f.write('{"imageLayoutVersion": "1.0.0"}')
PYTHON
found="oras-go alone: $(./with- layout)
with an unused import of crypto/sha256: $(./with-crypto-sha256 layout)
with an unused import of net/http: $(./with-net-http layout)"
echo "$found"
[ "$found" = "oras-go alone: invalid digest
with an unused import of crypto/sha256: opened
with an unused import of net/http: opened" ]
