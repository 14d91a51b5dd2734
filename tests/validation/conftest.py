# SPDX-License-Identifier: Apache-2.0
"""Builds the OCI project's validation programs, once, into the cache."""
import hashlib
import os
import shutil
import subprocess
import tarfile

import pytest
from harness import machine, rootfs

MODULE = "github.com/opencontainers/runtime-tools"
VERSION = "v0.9.1-0.20260316125833-8a4db579f5c8"


def go():
    for d in [*os.environ.get("PATH", "").split(":"), "/usr/local/go/bin"]:
        p = os.path.join(d, "go")
        if os.access(p, os.X_OK):
            return p
    return None


@pytest.fixture(scope="session")
def programs():
    """Returns {name: path} of the validation programs and runtimetest, which `go install` builds from the module
    proxy."""
    tool = go()
    if not tool:
        pytest.skip("no Go on this machine: the OCI validation programs can't be built")
    bin_ = os.path.join(rootfs.CACHE, "runtime-tools-" + VERSION)
    if not os.path.exists(os.path.join(bin_, ".complete")):
        shutil.rmtree(bin_, ignore_errors=True)
        os.makedirs(bin_)
        print(f"building {MODULE}@{VERSION} into {bin_} (a minute, cached)", flush=True)
        env = {**os.environ, "GOBIN": bin_, "CGO_ENABLED": "0", "GOFLAGS": "-trimpath", "HOME": os.environ.get("HOME", "/root")}
        # Runs outside of the namespaces, because the module proxy is reached through the machine's network.
        r = machine.outside([tool, "install", f"{MODULE}/cmd/runtimetest@{VERSION}", f"{MODULE}/validation/...@{VERSION}"],
                            env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if r.returncode:
            raise RuntimeError(f"go install failed:\n{r.stdout}")
        open(os.path.join(bin_, ".complete"), "w").close()
    return {n: os.path.join(bin_, n) for n in os.listdir(bin_) if not n.startswith(".")}


@pytest.fixture(scope="session")
def kit(programs, work, template):
    """The directory in which the programs run: rootfs-ARCH.tar.gz (the busybox tree) and runtimetest."""
    d = os.path.join(work, "validation")
    os.mkdir(d)
    shutil.copy(programs["runtimetest"], d)
    with tarfile.open(os.path.join(d, "rootfs-amd64.tar.gz"), "w:gz", compresslevel=1) as t:
        t.add(template, arcname=".")
    return d
