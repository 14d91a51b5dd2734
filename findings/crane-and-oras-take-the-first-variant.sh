#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever pulls from an image index that has builds for newer processors too, such as linux/amd64/v3.
#
# Such an index has one entry for linux/amd64 and one for linux/amd64/v3. Asked for linux/amd64, which is crane's default,
# go-containerregistry 0.22.1 and oras-go 2.7.0 take the first entry whose system and architecture are these, also where
# an entry without variant stands behind it. So the order in the index decides whether the image runs on an older
# processor. containerd's platforms 0.2.1 and regclient 0.11.7 take the entry that fits best, whatever the order. Of
# linux/arm without a variant they take v7, and crane and oras the first entry. Asked for a variant, crane and oras
# want this very one: linux/arm64/v8 finds no linux/arm64, which is the same machine, and v4 finds neither v3 nor plain.
#
# Needs Go. The registry is in the program itself, on the loopback address.
#
# Observed output of this script:
#   index amd64/v3 amd64: amd64: crane amd64/v3, oras amd64/v3, regclient amd64, containerd amd64
#   index amd64 amd64/v3: amd64: crane amd64, oras amd64, regclient amd64, containerd amd64
#   index amd64 amd64/v3: amd64/v4: crane none, oras none, regclient amd64/v3, containerd amd64/v3
#   index arm/v5 arm/v7: arm: crane arm/v5, oras arm/v5, regclient arm/v7, containerd arm/v7
#   index arm64: arm64/v8: crane none, oras none, regclient arm64, containerd arm64
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOPATH=$dir/go GOFLAGS=-modcacherw GOCACHE=$dir/cache CGO_ENABLED=0 HOME=$dir
mkdir module
cat >module/go.mod <<'MOD'
module choose

go 1.25

require (
	github.com/containerd/platforms v0.2.1
	github.com/google/go-containerregistry v0.22.1
	github.com/opencontainers/image-spec v1.1.1
	github.com/regclient/regclient v0.11.7
	oras.land/oras-go/v2 v2.7.0
)
MOD
cat >module/main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"strings"

	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	spec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/regclient/regclient"
	"github.com/regclient/regclient/config"
	"github.com/regclient/regclient/types/platform"
	"github.com/regclient/regclient/types/ref"
	"oras.land/oras-go/v2"
	orasremote "oras.land/oras-go/v2/registry/remote"
)

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

// Puts an index of the entries in a registry, and prints what each library takes of it for the platform.
func try(entries, wanted string) {
	ctx := context.Background()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	var index v1.ImageIndex = empty.Index
	names, containerd := map[string]string{"": "none"}, "none"
	only, best := platforms.Only(must(platforms.Parse("linux/"+wanted))), spec.Platform{}
	for _, entry := range strings.Fields(entries) {
		p := must(v1.ParsePlatform("linux/" + entry))
		file := &v1.ConfigFile{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, RootFS: v1.RootFS{Type: "layers"}}
		image := must(mutate.ConfigFile(empty.Image, file))
		names[must(image.Digest()).String()] = entry
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: p}})
		found := spec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
		if only.Match(found) && (containerd == "none" || only.Less(found, best)) {
			containerd, best = entry, found
		}
	}
	if err := remote.WriteIndex(must(name.ParseReference(host+"/image:1")), index); err != nil {
		log.Fatal(err)
	}

	p := must(v1.ParsePlatform("linux/" + wanted))
	fromCrane := ""
	if image, err := crane.Pull(host+"/image:1", crane.WithPlatform(p)); err == nil {
		fromCrane = must(image.Digest()).String()
	}
	repository := must(orasremote.NewRepository(host + "/image"))
	repository.PlainHTTP = true
	target := &spec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
	fromOras, _ := oras.Resolve(ctx, repository, "1", oras.ResolveOptions{TargetPlatform: target})
	client := regclient.New(regclient.WithConfigHost(config.Host{Name: host, TLS: config.TLSDisabled}))
	fromRegclient := must(client.ManifestGet(ctx, must(ref.New(host+"/image:1")),
		regclient.WithManifestPlatform(must(platform.Parse("linux/"+wanted)))))
	fmt.Printf("index %s: %s: crane %s, oras %s, regclient %s, containerd %s\n", entries, wanted, names[fromCrane],
		names[fromOras.Digest.String()], names[fromRegclient.GetDescriptor().Digest.String()], containerd)
}

func main() {
	try("amd64/v3 amd64", "amd64")
	try("amd64 amd64/v3", "amd64")
	try("amd64 amd64/v3", "amd64/v4")
	try("arm/v5 arm/v7", "arm")
	try("arm64", "arm64/v8")
}
GO
(cd module && go mod tidy && go build -o ../choose .) >build.log 2>&1 || { cat build.log; exit 1; }
found=$(./choose)
echo "$found"
[ "$found" = "index amd64/v3 amd64: amd64: crane amd64/v3, oras amd64/v3, regclient amd64, containerd amd64
index amd64 amd64/v3: amd64: crane amd64, oras amd64, regclient amd64, containerd amd64
index amd64 amd64/v3: amd64/v4: crane none, oras none, regclient amd64/v3, containerd amd64/v3
index arm/v5 arm/v7: arm: crane arm/v5, oras arm/v5, regclient arm/v7, containerd arm/v7
index arm64: arm64/v8: crane none, oras none, regclient arm64, containerd arm64" ]
