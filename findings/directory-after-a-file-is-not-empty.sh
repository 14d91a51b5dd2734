#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever flattens an image in which a directory became a file, and later a directory again.
#
# The first layer has a directory with a file in it, the second has a file in place of the directory, and the third a
# directory again. The third layer has no whiteout: a tool that compares two trees, as containerd's differ does, sees nothing to
# hide in a file. Unpacked one after the other, the new directory has its new file only. go-containerregistry 0.22.1
# (`crane export`, `crane flatten`, mutate.Extract) and ocirender 0.3.0 read the layers from the top. They keep the newest
# entry of each name, and the second layer's file does not hide what was below the old directory: the deleted file is back.
#
# Needs Go and cargo.
#
# Observed output of this script:
#   third layer: d d/new
#   containerd's Apply: d d/new
#   mutate.Extract: d d/deleted d/new
#   ocirender: d d/deleted d/new
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOPATH=$dir/go GOFLAGS=-modcacherw GOCACHE=$dir/cache CARGO_HOME=$dir/cargo
mkdir -p flatten render/src
cat >flatten/go.mod <<'END'
module flatten

go 1.25

require (
	github.com/containerd/containerd/v2 v2.4.2
	github.com/google/go-containerregistry v0.22.1
)
END
# Makes layers of the trees ARGS[2:], an image of them in ./image, what mutate.Extract makes of it in ./extracted.tar, and
# what containerd makes of the layers in ./applied.
cat >flatten/main.go <<'END'
package main

import (
	"context"
	"io"
	"log"
	"os"

	"github.com/containerd/containerd/v2/pkg/archive"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

func main() {
	ctx, image := context.Background(), empty.Image
	for i := 1; i < len(os.Args)-1; i++ {
		name := os.Args[i+1] + ".tar"
		layer := must(os.Create(name))
		if err := archive.WriteDiff(ctx, layer, os.Args[i], os.Args[i+1]); err != nil {
			log.Fatal(err)
		}
		must(layer.Seek(0, io.SeekStart))
		must(archive.Apply(ctx, "applied", layer))
		var l v1.Layer = must(tarball.LayerFromFile(name))
		image = must(mutate.AppendLayers(image, l))
	}
	path := must(layout.Write("image", empty.Index))
	if err := path.AppendImage(image); err != nil {
		log.Fatal(err)
	}
	must(io.Copy(must(os.Create("extracted.tar")), mutate.Extract(image)))
}
END
cat >render/Cargo.toml <<'END'
[package]
name = "render"
version = "0.1.0"
edition = "2021"

[dependencies]
ocirender = "=0.3.0"
tokio = { version = "1", features = ["rt-multi-thread", "macros"] }
END
cat >render/src/main.rs <<'END'
#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    ocirender::convert_dir(args[1].as_ref(), args[2].as_ref()).await.unwrap();
}
END
(cd flatten && go mod tidy && go build -o ../flatten-trees .) >build.log 2>&1 || { cat build.log; exit 1; }
(cd render && cargo build -q && cp target/debug/render ../render-image) >build.log 2>&1 || { cat build.log; exit 1; }

mkdir -p tree0 tree1/d tree2 tree3/d applied
echo 1 >tree1/d/deleted
echo 2 >tree2/d
echo 3 >tree3/d/new
./flatten-trees tree0 tree1 tree2 tree3

names() { sed -E 's,^\./,,; s,/$,,' | grep -v '^\.\?$' | LC_ALL=C sort | paste -sd' '; }
found=$(
	echo "third layer: $(tar -tf tree3.tar | names)"
	echo "containerd's Apply: $(cd applied && find . | names)"
	echo "mutate.Extract: $(tar -tf extracted.tar | names)"
	./render-image image rendered
	echo "ocirender: $(cd rendered && find . | names)"
)
echo "$found"
[ "$found" = "third layer: d d/new
containerd's Apply: d d/new
mutate.Extract: d d/deleted d/new
ocirender: d d/deleted d/new" ]
