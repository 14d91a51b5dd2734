#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever runs container images with udocker on a cluster, where no container engine is allowed.
#
# udocker 1.3.17 (PyPI) unpacks a layer by tar with --exclude=dev/*, which is to leave out the device nodes of /dev. But a
# pattern of GNU tar's --exclude matches after any slash of a name, and its * matches slashes. So everything beneath a
# directory that is named "dev", at any depth, is missing in the container: an application with settings in config/dev and
# config/prod has only the latter. The directory itself is there and empty, and nothing is reported.
# udocker looks for whiteouts by the pattern */.wh.*, which asks for a slash. Layers of docker and buildah name the entries
# of the root without one (".wh.data"). So a file or directory of the root that a later layer has removed is still there.
# A removal further down (opt/.wh.old) works.
#
# Observed output of this script:
#   in the layers: config config/dev config/dev/settings config/prod config/prod/settings opt
#   in udocker's container: config config/dev config/prod config/prod/settings data data/file opt
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check udocker==1.3.17
# An archive of `docker save` with two layers.
venv/bin/python - <<'PYTHON'
import hashlib, io, json, tarfile

def tar(out, entries):
    with tarfile.open(fileobj=out, mode="w") as t:
        for name, data in entries:
            entry = tarfile.TarInfo(name)
            entry.mode = 0o644 if data is not None else 0o755
            entry.type = tarfile.REGTYPE if data is not None else tarfile.DIRTYPE
            entry.size = len(data or b"")
            t.addfile(entry, io.BytesIO(data or b""))
    return out

first = ["config", "config/dev", "config/dev/settings", "config/prod", "config/prod/settings", "data", "data/file", "opt", "opt/old"]
layers = [tar(io.BytesIO(), [(n, b"x" if n.endswith(("settings", "file", "old")) else None) for n in first]).getvalue(),
          tar(io.BytesIO(), [(".wh.data", b""), ("opt", None), ("opt/.wh.old", b"")]).getvalue()]
ids = [hashlib.sha256(l).hexdigest() for l in layers]
image = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]},
         "rootfs": {"type": "layers", "diff_ids": ["sha256:" + i for i in ids]}}
config = json.dumps(image).encode()
name = hashlib.sha256(config).hexdigest() + ".json"
entries = [(name, config)]
for n, (i, layer) in enumerate(zip(ids, layers)):
    old = {"id": i, "architecture": "amd64", "os": "linux", **({"parent": ids[n - 1]} if n else {})}
    entries += [(i, None), (i + "/VERSION", b"1.0"), (i + "/json", json.dumps(old).encode()), (i + "/layer.tar", layer)]
entries.append(("manifest.json", json.dumps([{"Config": name, "RepoTags": ["example/app:1"], "Layers": [i + "/layer.tar" for i in ids]}]).encode()))
entries.append(("repositories", json.dumps({"example/app": {"1": ids[-1]}}).encode()))
with open("image.tar", "wb") as f:
    tar(f, entries)
PYTHON
export UDOCKER_DIR=$dir/repo UDOCKER_TARBALL=$dir/none # its programs to run containers are not needed
udocker() { venv/bin/udocker --allow-root "$@" >log 2>&1 || { cat log; exit 1; }; }
udocker load -i image.tar
udocker create --name=c1 example/app:1
root=$UDOCKER_DIR/containers/c1/ROOT # a link to the directory of the container
found="in udocker's container: $(cd "$root" && find . -mindepth 1 | cut -c3- | sort | paste -sd' ')"
echo "in the layers: config config/dev config/dev/settings config/prod config/prod/settings opt"
echo "$found"
[ "$found" = "in udocker's container: config config/dev config/prod config/prod/settings data data/file opt" ]
