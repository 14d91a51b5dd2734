#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever writes layers whose entries are sorted, with a whiteout for each file that a new one replaces.
#
# The image specification says that a whiteout hides files of lower layers only, never of its own. containerd, docker and
# podman hold to it for the opaque whiteout, wherever it stands in the layer. A plain whiteout that stands after the new
# file of its name removes the new file in all three: only for the opaque one do they look up what this layer unpacked.
# If the whiteout stands first, the file stays. Sorted by bytes, a whiteout stands before most names, because of its
# dot, but after those that begin with a space or one of !"#$%&'()*+,-. So a file "+x" is in the tree that the layer was
# made of, and in no container. umoci 0.4.7 keeps it.
#
# Needs Go.
#
# Observed output of this script, each line with the files of the image in directory d:
#   containerd 2.4.2: whiteout first: +x; file first: none; opaque last: +x
#   go-archive 0.3.3 (docker): whiteout first: +x; file first: none; opaque last: +x
#   storage 1.65.1 (podman): whiteout first: +x; file first: none; opaque last: +x
#   umoci 0.4.7: whiteout first: +x; file first: +x; opaque last: +x
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
	go.podman.io/storage v1.65.1
)
END
cat >module/main.go <<'END'
package main

import (
	"context"
	"log"
	"os"

	containerd "github.com/containerd/containerd/v2/pkg/archive"
	docker "github.com/moby/go-archive"
	podman "go.podman.io/storage/pkg/archive"
)

func main() {
	tool, root := os.Args[1], os.Args[2]
	for _, layer := range os.Args[3:] {
		f, err := os.Open(layer)
		if err == nil {
			switch tool {
			case "containerd":
				_, err = containerd.Apply(context.Background(), root, f)
			case "docker":
				_, err = docker.UnpackLayer(root, f, nil)
			case "podman":
				_, err = podman.UnpackLayer(root, f, nil)
			}
		}
		if err != nil {
			log.Fatal(err)
		}
	}
}
END
(cd module && go mod tidy && go build -o ../apply .) >build.log 2>&1 || { cat build.log; exit 1; }
apt-get download -q umoci=0.4.7+ds-3+b7 >/dev/null 2>&1
dpkg -x ./umoci_*.deb umoci

mkdir -p base/d new/d
echo old >base/d/+x
echo new >new/d/+x
: >new/d/.wh.+x
: >new/d/.wh..wh..opq
tar -C base -cf base.tar d
tar -C new --no-recursion -cf whiteout.tar d d/.wh.+x d/+x
tar -C new --no-recursion -cf file.tar d d/+x d/.wh.+x
tar -C new --no-recursion -cf opaque.tar d d/+x d/.wh..wh..opq

unpack() { # TOOL ROOT LAYER...
	local tool=$1 root=$2 layer
	shift 2
	[ "$tool" != umoci ] || {
		umoci/usr/bin/umoci init --layout image.umoci
		umoci/usr/bin/umoci new --image image.umoci:i
		for layer; do umoci/usr/bin/umoci raw add-layer --image image.umoci:i "$layer"; done
		umoci/usr/bin/umoci unpack --image image.umoci:i bundle
		mv bundle/rootfs/* "$root"
		rm -r image.umoci bundle
		return
	}
	./apply "$tool" "$root" "$@"
}
left() { # TOOL LAYER
	rm -rf root && mkdir root
	unpack "$1" root base.tar "$2" >unpack.log 2>&1 || { cat unpack.log >&2; exit 1; }
	ls -A root/d | grep . || echo none
}
line() { echo "$2: whiteout first: $(left "$1" whiteout.tar); file first: $(left "$1" file.tar); opaque last: $(left "$1" opaque.tar)"; }
found=$(
	line containerd "containerd 2.4.2"
	line docker "go-archive 0.3.3 (docker)"
	line podman "storage 1.65.1 (podman)"
	line umoci "umoci 0.4.7"
)
echo "$found"
[ "$found" = "containerd 2.4.2: whiteout first: +x; file first: none; opaque last: +x
go-archive 0.3.3 (docker): whiteout first: +x; file first: none; opaque last: +x
storage 1.65.1 (podman): whiteout first: +x; file first: none; opaque last: +x
umoci 0.4.7: whiteout first: +x; file first: +x; opaque last: +x" ]
