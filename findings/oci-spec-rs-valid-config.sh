#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever reads or rewrites a config.json with the Rust crate oci-spec (youki and its libraries do), or reads
# image references with it.
#
# runtime-spec 1.2 and 1.3 name the flag of process.scheduler SCHED_FLAG_RESET_ON_FORK, and runc and crun take that name.
# oci-spec 0.10.0 knows it only as SCHED_RESET_ON_FORK, and so refuses the whole file, while it spells the other six
# flags as the specification does. vm.hwConfig (runtime-spec 1.3) is read without an error and is not written
# back. A device rule without "access" is written back with "access": null, and an interface of linux.netDevices that is
# {} with "name": null. A reference whose registry is an IPv6 address is refused. An upper-case first part names a registry
# for docker, but for the crate it is a part of a repository of docker.io, where upper case is not allowed.
#
# Needs Rust's cargo.
#
# Observed output of this script:
#   scheduler: ERR unknown variant `SCHED_FLAG_RESET_ON_FORK`
#   rewritten: vm {"hypervisor":{"path":"/h"},"kernel":{"path":"/k"}}
#   rewritten: devices [{"allow":true,"type":"b","major":8,"access":null}]
#   rewritten: netDevices {"eth1":{"name":null}}
#   [::1]:5000/a: invalid reference format
#   Foo/bar: docker.io Foo/bar
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "try"
version = "0.1.0"
edition = "2021"

[dependencies]
oci-spec = "=0.10.0"
serde_json = { version = "1", features = ["raw_value"] }
TOML
cat >src/main.rs <<'RUST'
use oci_spec::{distribution::Reference, runtime::Spec};
use serde_json::{json, Value};

fn config(process: Value) -> String {
    let mut conf = json!({"ociVersion": "1.3.0", "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/x"]},
        "root": {"path": "/r"}, "vm": {"hypervisor": {"path": "/h"}, "kernel": {"path": "/k"}, "hwConfig": {"vcpus": 2, "memory": 65536}},
        "linux": {"netDevices": {"eth1": {}}, "resources": {"devices": [{"allow": true, "type": "b", "major": 8}]}}});
    for (name, value) in process.as_object().unwrap() {
        conf["process"][name] = value.clone();
    }
    conf.to_string()
}

fn main() {
    let scheduler = json!({"scheduler": {"policy": "SCHED_FIFO", "priority": 1, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}});
    let error = serde_json::from_str::<Spec>(&config(scheduler)).unwrap_err().to_string();
    println!("scheduler: ERR {}", error.split(',').next().unwrap());

    let spec: Spec = serde_json::from_str(&config(json!({}))).unwrap();
    let text = serde_json::to_string(&spec).unwrap();
    for (name, from) in [("vm", "\"vm\":"), ("devices", "\"devices\":"), ("netDevices", "\"netDevices\":")] {
        let rest = &text[text.find(from).unwrap() + from.len()..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&serde_json::value::RawValue>();
        println!("rewritten: {name} {}", values.next().unwrap().unwrap().get());
    }
    for name in ["[::1]:5000/a", "Foo/bar"] {
        match name.parse::<Reference>() {
            Ok(r) => println!("{name}: {} {}", r.registry(), r.repository()),
            Err(e) => println!("{name}: {e}"),
        }
    }
}
RUST
found=$(CARGO_HOME=$dir/cargo cargo run -q --release 2>/dev/null)
echo "$found"
[ "$found" = 'scheduler: ERR unknown variant `SCHED_FLAG_RESET_ON_FORK`
rewritten: vm {"hypervisor":{"path":"/h"},"kernel":{"path":"/k"}}
rewritten: devices [{"allow":true,"type":"b","major":8,"access":null}]
rewritten: netDevices {"eth1":{"name":null}}
[::1]:5000/a: invalid reference format
Foo/bar: docker.io Foo/bar' ]
