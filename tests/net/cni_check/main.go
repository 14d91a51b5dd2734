// SPDX-License-Identifier: Apache-2.0

// cni_check PLUGIN-DIRECTORY NETWORK NETNS: drives caisson-cni by the CNI project's own library, in every version of the
// specification, and checks each answer as that library does, and strictly: an answer may have no member that the
// version does not have. It prints "ok" and the versions, or ends with exit code 1 and the reason.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	types040 "github.com/containernetworking/cni/pkg/types/040"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

const pluginType = "caisson-cni"

func must(err error, what string, args ...any) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", fmt.Sprintf(what, args...), err)
		os.Exit(1)
	}
}

func check(ok bool, what string, args ...any) {
	if !ok {
		must(errors.New("it does not hold"), what, args...)
	}
}

// recorder keeps what the plug-in answered last, before the library interprets it.
type recorder struct {
	invoke.DefaultExec
	answer []byte
}

func (r *recorder) ExecPlugin(ctx context.Context, path string, stdin []byte, env []string) ([]byte, error) {
	answer, err := r.DefaultExec.ExecPlugin(ctx, path, stdin, env)
	r.answer = answer
	return answer, err
}

func strict(data []byte, into any, what string) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	must(d.Decode(into), "%s: %s", what, data)
}

func list(v, network string) *libcni.NetworkConfigList {
	text := fmt.Sprintf(`{"cniVersion": %q, "name": "check", "plugins": [{"type": %q, "network": %q,
		"capabilities": {"portMappings": true, "ips": true, "mac": true}}]}`, v, pluginType, network)
	l, err := libcni.ConfListFromBytes([]byte(text))
	must(err, "the configuration of %s", v)
	return l
}

func checkResult(exec *recorder, result types.Result, v, netns string) {
	check(result.Version() == v, "%s: the answer's version %s", v, result.Version())
	if strings.HasPrefix(v, "0.") {
		strict(exec.answer, &types040.Result{}, v)
	} else {
		strict(exec.answer, &types100.Result{}, v)
	}
	r, err := types100.NewResultFromResult(result)
	must(err, "%s: the answer as one of 1.0.0", v)
	check(len(r.Interfaces) == 2 && r.Interfaces[1].Name == "eth0" && r.Interfaces[1].Sandbox == netns && r.Interfaces[0].Sandbox == "", "%s: interfaces", v)
	check(len(r.IPs) == 2 && *r.IPs[0].Interface == 1 && r.IPs[0].Gateway != nil && r.IPs[0].Address.Contains(r.IPs[0].Gateway), "%s: ips", v)
	check(len(r.Routes) == 2 && r.Routes[0].Dst.String() == "0.0.0.0/0" && r.Routes[1].Dst.String() == "::/0", "%s: routes", v)
	for _, other := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		_, err := result.GetAsVersion(other)
		must(err, "%s: the answer as one of %s", v, other)
	}
}

func drive(cni *libcni.CNIConfig, exec *recorder, v, network, netns string) {
	ctx := context.Background()
	l := list(v, network)
	rt := &libcni.RuntimeConf{ContainerID: "check-" + v, NetNS: netns, IfName: "eth0",
		CapabilityArgs: map[string]any{"portMappings": []map[string]any{{"hostPort": 8099, "containerPort": 80, "protocol": "tcp"}}}}
	atLeast := func(wanted string) bool {
		ok, err := version.GreaterThanOrEqualTo(v, wanted)
		must(err, "compare versions")
		return ok
	}
	_, err := cni.ValidateNetworkList(ctx, l)
	must(err, "%s: validate", v)
	result, err := cni.AddNetworkList(ctx, l, rt)
	must(err, "%s: ADD", v)
	checkResult(exec, result, v, netns)
	cached, err := cni.GetNetworkListCachedResult(l, rt)
	must(err, "%s: the cached result", v)
	check(reflect.DeepEqual(cached, result), "%s: the cached result is the answer", v)
	if atLeast("0.4.0") {
		must(cni.CheckNetworkList(ctx, l, rt), "%s: CHECK", v)
		check(len(bytes.TrimSpace(exec.answer)) == 0, "%s: CHECK answers nothing", v)
	}
	_, err = cni.AddNetworkList(ctx, l, &libcni.RuntimeConf{ContainerID: rt.ContainerID, NetNS: netns, IfName: "eth0"})
	var e *types.Error
	check(errors.As(err, &e) && e.Code >= 100 && e.Msg != "", "%s: a second ADD of the interface is an error of the plug-in's own: %v", v, err)
	if atLeast("1.1.0") {
		must(cni.GetStatusNetworkList(ctx, l), "%s: STATUS", v)
		err = cni.GetStatusNetworkList(ctx, list(v, "no-such-network"))
		check(errors.As(err, &e) && e.Code == 50, "%s: STATUS without a network: %v", v, err)
		args := &libcni.GCArgs{ValidAttachments: []types.GCAttachment{{ContainerID: rt.ContainerID, IfName: "eth0"}}}
		must(cni.GCNetworkList(ctx, l, args), "%s: GC that keeps", v)
		must(cni.CheckNetworkList(ctx, l, rt), "%s: CHECK after GC", v)
		must(cni.GCNetworkList(ctx, l, &libcni.GCArgs{}), "%s: GC", v)
		_, err = cni.GetNetworkListCachedResult(l, rt)
		must(err, "%s: the cache", v)
	}
	must(cni.DelNetworkList(ctx, l, rt), "%s: DEL", v)
	must(cni.DelNetworkList(ctx, l, rt), "%s: DEL again", v)
	rt.NetNS = ""
	must(cni.DelNetworkList(ctx, l, rt), "%s: DEL without a namespace", v)
	check(len(bytes.TrimSpace(exec.answer)) == 0, "%s: DEL answers nothing", v)
}

func main() {
	directory, network, netns := os.Args[1], os.Args[2], os.Args[3]
	exec := &recorder{}
	exec.RawExec = &invoke.RawExec{Stderr: os.Stderr}
	cache, err := os.MkdirTemp("", "cni-check")
	must(err, "make a directory")
	defer os.RemoveAll(cache)
	cni := libcni.NewCNIConfigWithCacheDir([]string{directory}, cache, exec)
	info, err := invoke.GetVersionInfo(context.Background(), filepath.Join(directory, pluginType), exec)
	must(err, "VERSION")
	for _, v := range info.SupportedVersions() {
		drive(cni, exec, v, network, netns)
	}
	fmt.Println("ok", strings.Join(info.SupportedVersions(), " "))
}
