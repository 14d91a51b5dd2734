# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that compare caisson-image with skopeo, umoci and buildah."""
import os
import shutil

import pytest

from harness import oci


@pytest.fixture(scope="session")
def program(binary):
    """The path of caisson-image: beside caisson in the build directory, or in libexec if it is installed."""
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


@pytest.fixture
def unpack(images, layout, tmp):
    """Makes an image of layers (each a list of entries, or a tar) and unpacks it: returns its root directory."""
    count = [0]

    def unpack(*layers, options=(), compress=True):
        count[0] += 1
        tag = f"t{count[0]}"
        layout.image([oci.tar(*x) if isinstance(x, list) else x for x in layers], tag, compress=compress)
        images("import", f"oci:{layout.path}:{tag}")
        root = os.path.join(tmp, tag)
        images("unpack", *options, tag, root)
        return root
    yield unpack
    for i in range(count[0]):
        shutil.rmtree(os.path.join(tmp, f"t{i + 1}"), ignore_errors=True)


@pytest.fixture
def refuse(images, layout, tmp):
    """Checks that unpacking an image of these layers fails for this reason and leaves nothing."""
    def refuse(*layers, saying):
        layout.image([oci.tar(*x) if isinstance(x, list) else x for x in layers], "bad")
        images("import", f"oci:{layout.path}:bad")
        root = os.path.join(tmp, "bad-root")
        images.fails("unpack", "bad", root, saying=saying)
        assert os.listdir(root) == []
        os.rmdir(root)
    return refuse
