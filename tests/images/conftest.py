# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that compare caisson-image with skopeo, umoci and buildah."""
import os
import shutil
import subprocess

import pytest

from harness import machine, oci, rootfs, user

# The mount(8) of Debian 13 gives each option to fsconfig(2), which refuses more than 255 bytes; a list of layers is longer.
# This variable has it call mount(2), as the mount(8) of Debian 12 does.
os.environ["LIBMOUNT_FORCE_MOUNT2"] = "always"


def open_to_users(path):
    """Whether an ordinary user can reach the file. On Debian /root is closed, and a newcomer's clone is often there."""
    while path != "/":
        path = os.path.dirname(path)
        if not os.stat(path).st_mode & 0o001:
            return False
    return True


@pytest.fixture(scope="session")
def program(binary, work):
    """The path of caisson-image: beside caisson in the build directory, or in libexec if it is installed."""
    if not open_to_users(os.path.realpath(binary)):
        binary = user.install(binary, os.environ.get("CAISSON_BUILD"), os.path.join(work, "open"))
    for p in (os.path.join(os.path.dirname(os.path.realpath(binary)), "caisson-image"),
              os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(binary))), "libexec/caisson/caisson-image")):
        if os.access(p, os.X_OK):
            return p
    pytest.fail("no caisson-image beside " + binary)


@pytest.fixture
def images(program, tmp):
    """caisson-image with an empty store."""
    return oci.Images(program, os.path.join(tmp, "store"))


@pytest.fixture
def layout(tmp):
    return oci.Layout(os.path.join(tmp, "layout"))


@pytest.fixture(params=["plain", "shared"])
def form(request):
    """Every layer is unpacked in two forms: into a directory, and into the store, where an overlay mount makes a tree of the
    layers. Both must give the same tree."""
    return request.param


@pytest.fixture
def unpack(images, layout, tmp, form):
    """Makes an image of layers (each a list of entries, or a tar) and unpacks it: returns its root directory."""
    count = [0]
    mounted = []

    def shared(tag, root):
        """Mounts the layers, read-only. Of one layer there is nothing to mount."""
        lower = images("unpack", tag).strip().split(":")
        dirs = [os.path.join(lower[0], n) for n in lower[1:]]
        if len(dirs) == 1:
            return dirs[0]
        os.mkdir(root)
        subprocess.run(["mount", "-t", "overlay", "-o", "ro,lowerdir=" + ":".join(dirs), "test", root], check=True)
        mounted.append(root)
        return root

    def unpack(*layers, options=(), compress=True):
        count[0] += 1
        tag = f"t{count[0]}"
        layout.image([oci.tar(*x) if isinstance(x, list) else x for x in layers], tag, compress=compress)
        images("import", f"oci:{layout.path}:{tag}")
        root = os.path.join(tmp, tag)
        if form == "shared":
            if options:
                pytest.skip("the store keeps one form of a layer")
            return shared(tag, root)
        images("unpack", *options, tag, root)
        return root
    yield unpack
    for root in mounted:
        subprocess.run(["umount", root], check=True)
    if form == "shared" and count[0]:
        # Trees that are too deep for Python are removed by the store's own collection, which leaves no layer.
        images("rm", *[f"t{i + 1}" for i in range(count[0])])
        assert os.listdir(os.path.join(images.store, "layers")) == os.listdir(os.path.join(images.store, "chains")) == []
    for i in range(count[0]):
        shutil.rmtree(os.path.join(tmp, f"t{i + 1}"), ignore_errors=True)


@pytest.fixture
def refuse(images, layout, tmp, form):
    """Checks that unpacking an image of these layers fails for this reason and leaves nothing."""
    def refuse(*layers, saying):
        layout.image([oci.tar(*x) if isinstance(x, list) else x for x in layers], "bad")
        images("import", f"oci:{layout.path}:bad")
        root = os.path.join(tmp, "bad-root")
        if form == "shared":
            dirs = [os.path.join(images.store, name) for name in ("layers", "chains")]
            before = len(os.listdir(dirs[1])) if os.path.isdir(dirs[1]) else 0
            images.fails("unpack", "bad", saying=saying)
            # The layers below the bad one may stay, because they are whole.
            in_layers, in_chains = (len(os.listdir(d)) for d in dirs)
            assert in_layers == in_chains < before + len(layers)
            return
        images.fails("unpack", "bad", root, saying=saying)
        assert os.listdir(root) == []
        os.rmdir(root)
    return refuse


def go_program(name, package):
    """The path of a program from the Go module proxy, which is built once."""
    path = os.path.join(rootfs.CACHE, "go", package.partition("@")[2], name)
    if not os.path.exists(path):
        if not shutil.which("go"):
            pytest.skip("there is no Go to build " + name + " with")
        machine.outside(["env", "GOBIN=" + os.path.dirname(path), "GOFLAGS=-mod=mod", "go", "install", package], check=True, timeout=900)
    return path


@pytest.fixture(scope="session")
def crane():
    return go_program("crane", "github.com/google/go-containerregistry/cmd/crane@v0.20.6")


@pytest.fixture(scope="session", params=["docker-registry 2.8", "distribution 3.1"])
def registry_program(request):
    """Debian's docker-registry, and the version that followed it."""
    if request.param.startswith("docker"):
        return "docker-registry"
    return go_program("registry", "github.com/distribution/distribution/v3/cmd/registry@v3.1.0")


@pytest.fixture
def podman(tmp):
    """podman with an empty store of its own, which accepts every image."""
    with open(tmp + "/policy.json", "w") as f:
        f.write('{"default":[{"type":"insecureAcceptAnything"}]}')

    def run(*args):
        p = subprocess.run(["podman", "--root", tmp + "/podman", "--runroot", "/run/podman-test", "--storage-driver", run.driver, *args],
                           capture_output=True, text=True, timeout=120, check=False)
        assert p.returncode == 0, f"podman {args}: {p.stderr}"
        return p.stdout
    run.driver = "vfs"
    run.policy = ("--signature-policy", tmp + "/policy.json")
    yield run
    run("rmi", "--all", "--force")
    subprocess.run(["rm", "-rf", tmp + "/podman", "/run/podman-test", "/run/containers", "/run/libpod", "/dev/shm/libpod_lock",
                    "/run/lock/netavark.lock"], check=True)
