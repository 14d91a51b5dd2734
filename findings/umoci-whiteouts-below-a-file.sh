#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever changes an image with `umoci repack` so that a directory becomes a file or a link.
#
# umoci 0.6.0, as 0.4.7 of Debian 12, writes the new file into the layer, and then a whiteout for each file of the old
# directory, in a directory that is none any more: "d" and "d/.wh.old". umoci itself unpacks such a layer. The unpackers of
# containerd, docker and podman all stop with an error, each with one of its own, so none of the three engines can run
# the image.
#
# Needs Go.
#
# Observed output of this script:
#   layer: d d/.wh.old
#   umoci 0.6.0: d is a file
#   containerd 2.4.2: mkparent d: not a directory
#   go-archive 0.3.3 (docker): RemoveAll d/old: not a directory
#   storage 1.65.1 (podman): unlinkat d/old: not a directory
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOPATH=$dir/go GOFLAGS=-modcacherw GOCACHE=$dir/cache
mkdir module
cat >module/go.mod <<'END'
module apply

go 1.25

require (
	github.com/containerd/containerd/v2 v2.4.2
	github.com/moby/go-archive v0.3.3
	github.com/opencontainers/umoci v0.6.0
	go.podman.io/storage v1.65.1
)
END
cat >module/main.go <<'END'
package main

import (
	"context"
	"fmt"
	"os"

	containerd "github.com/containerd/containerd/v2/pkg/archive"
	docker "github.com/moby/go-archive"
	podman "go.podman.io/storage/pkg/archive"
)

func main() {
	f, err := os.Open(os.Args[3])
	if err == nil {
		switch os.Args[1] {
		case "containerd":
			_, err = containerd.Apply(context.Background(), os.Args[2], f)
		case "docker":
			_, err = docker.UnpackLayer(os.Args[2], f, nil)
		case "podman":
			_, err = podman.UnpackLayer(os.Args[2], f, nil)
		}
	}
	if err != nil {
		fmt.Println(err)
	}
}
END
cat >module/tools.go <<'END'
//go:build tools

package main

import _ "github.com/opencontainers/umoci/cmd/umoci"
END
(cd module && go mod tidy && go build -o ../apply . && go build -o ../umoci github.com/opencontainers/umoci/cmd/umoci) \
	>build.log 2>&1 || { cat build.log; exit 1; }

{
	./umoci init --layout image
	./umoci new --image image:i
	./umoci unpack --image image:i bundle
	mkdir bundle/rootfs/d
	echo old >bundle/rootfs/d/old
	./umoci repack --refresh-bundle --image image:i bundle
	rm -r bundle/rootfs/d
	echo new >bundle/rootfs/d
	./umoci repack --image image:i bundle
	./umoci unpack --image image:i again
} >umoci.log 2>&1 || { cat umoci.log; exit 1; }
blob() { echo "image/blobs/${1/://}"; }
manifest=$(blob "$(jq -r '.manifests[-1].digest' image/index.json)")
for n in 0 1; do gzip -dc "$(blob "$(jq -r ".layers[$n].digest" "$manifest")")" >layer$n.tar; done

refused() { # TOOL
	rm -rf root && mkdir root
	./apply "$1" root layer0.tar
	./apply "$1" root layer1.tar | sed -E "s,(${dir}/)?root/,,"
}
found=$(
	echo "layer: $(tar -tf layer1.tar | grep -v '^\.' | paste -sd' ')"
	[ ! -f again/rootfs/d ] || echo "umoci 0.6.0: d is a file"
	echo "containerd 2.4.2: $(refused containerd)"
	echo "go-archive 0.3.3 (docker): $(refused docker)"
	echo "storage 1.65.1 (podman): $(refused podman)"
)
echo "$found"
[ "$found" = "layer: d d/.wh.old
umoci 0.6.0: d is a file
containerd 2.4.2: mkparent d: not a directory
go-archive 0.3.3 (docker): RemoveAll d/old: not a directory
storage 1.65.1 (podman): unlinkat d/old: not a directory" ]
