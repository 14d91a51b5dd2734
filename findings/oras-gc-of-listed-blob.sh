#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever keeps more than manifests in index.json of an OCI image layout, and collects garbage with oras-go.
#
# index.json may list a blob of any media type; image-spec's own example of an image layout lists an XML file there.
# oras-go 2.7.0 reads such an index, and writes it again with every entry. But oci.Store.GC() keeps only what can be
# reached from manifests: it deletes the listed blob, returns no error, and leaves the entry in index.json, so that the
# layout is broken. umoci 0.6.0's gc and regclient 0.11.7 keep the blob.
#
# Needs Go.
#
# Observed output of this script:
#   before: 3 blobs
#   GC: <nil>
#   after: 2 blobs, index.json lists application/xml, its blob is missing
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOPATH=$dir/go GOFLAGS=-modcacherw GOCACHE=$dir/cache
mkdir module
cat >module/main.go <<'GO'
package main

import (
	"context"
	_ "crypto/sha256"
	"fmt"
	"os"

	"oras.land/oras-go/v2/content/oci"
)

func main() {
	store, err := oci.New(os.Args[1])
	if err != nil {
		panic(err)
	}
	fmt.Println("GC:", store.GC(context.Background()))
}
GO
(
	cd module
	go mod init example.invalid/try 2>/dev/null
	go get oras.land/oras-go/v2@v2.7.0 2>/dev/null
	go mod tidy 2>/dev/null
	go build -o ../collect .
)
cat >layout.py <<'PYTHON'
import hashlib, json, os
os.makedirs("layout/blobs/sha256")
def put(media_type, data, **more):
    name = hashlib.sha256(data).hexdigest()
    with open(f"layout/blobs/sha256/{name}", "wb") as f:
        f.write(data)
    return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(data), **more}
config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [],
            "config": put("application/vnd.oci.image.config.v1+json", json.dumps(config).encode())}
entries = [put(manifest["mediaType"], json.dumps(manifest).encode(), annotations={"org.opencontainers.image.ref.name": "v1"}),
           put("application/xml", b"<component/>\n", annotations={"org.freedesktop.specifications.metainfo.version": "1.0"})]
with open("layout/index.json", "w") as f:
    json.dump({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}, f)
with open("layout/oci-layout", "w") as f:
    f.write('{"imageLayoutVersion": "1.0.0"}')
PYTHON
python3 layout.py
blobs() { find layout/blobs -type f | wc -l; }
before=$(blobs)
gc=$(./collect layout)
entry=$(python3 - <<'PYTHON'
import json, os
last = [m for m in json.load(open("layout/index.json"))["manifests"] if m["mediaType"] == "application/xml"][0]
path = "layout/blobs/" + last["digest"].replace(":", "/")
print(f'index.json lists {last["mediaType"]}, its blob is', "there" if os.path.exists(path) else "missing")
PYTHON
)
found="before: $before blobs
$gc
after: $(blobs) blobs, $entry"
echo "$found"
[ "$found" = "before: 3 blobs
GC: <nil>
after: 2 blobs, index.json lists application/xml, its blob is missing" ]
