#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever makes an image layer of a source tree with `git archive`.
#
# `git archive COMMIT` begins the tar file with a PAX global header that has the commit's name as a comment. umoci 0.6.0
# takes such a layer into an image without a word (`raw add-layer`), and only `unpack` refuses it, as an entry of unknown
# type 'g'. `git archive TREE` writes no such header, so the same files work when HEAD^{tree} is named instead of HEAD.
#
# Needs Go and git.
#
# Observed output of this script:
#   HEAD: first entry type g; add-layer exit 0; unpack: unknown typeflag '\x67'
#   HEAD^{tree}: first entry type 0; add-layer exit 0; unpack: hello
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOPATH=$dir/go GOFLAGS=-modcacherw GOCACHE=$dir/cache HOME=$dir
# `go install` refuses umoci, because its go.mod has replace directives.
mkdir module && cd module
go mod init example.invalid/try 2>/dev/null
go get github.com/opencontainers/umoci/cmd/umoci@v0.6.0 2>/dev/null
go build -o ../umoci github.com/opencontainers/umoci/cmd/umoci
cd ..
git init -q source
echo hello >source/file
git -C source add file
git -C source -c user.name=author -c user.email=author@example.invalid commit -q -m 'a file'
found=$(
	for what in HEAD 'HEAD^{tree}'; do
		rm -rf layout bundle
		git -C source archive -o "$dir/layer.tar" "$what"
		./umoci init --layout layout
		./umoci new --image layout:tag
		status=0
		./umoci raw add-layer --image layout:tag layer.tar >/dev/null 2>&1 || status=$?
		if ./umoci unpack --rootless --image layout:tag bundle >out 2>&1; then
			result=$(cat bundle/rootfs/file)
		else
			result=$(grep -o 'unknown typeflag.*' out | tail -n 1)
		fi
		echo "$what: first entry type $(head -c 157 layer.tar | tail -c 1); add-layer exit $status; unpack: $result"
	done
)
echo "$found"
[ "$found" = "HEAD: first entry type g; add-layer exit 0; unpack: unknown typeflag '\\x67'
HEAD^{tree}: first entry type 0; add-layer exit 0; unpack: hello" ]
