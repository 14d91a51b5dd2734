# SPDX-License-Identifier: Apache-2.0
"""Network namespaces for tests, and a wire to one from the network of the tests."""
import contextlib
import subprocess


def ip(*args):
    subprocess.run(["ip", *map(str, args)], check=True)


@contextlib.contextmanager
def namespace(name):
    """The path of a new network namespace, which has nothing but a loopback interface that is down."""
    ip("netns", "add", name)
    try:
        yield f"/run/netns/{name}"
    finally:
        ip("netns", "del", name)
        # ip makes a mount for it.
        subprocess.run(["umount", "-l", "/run/netns"], stderr=subprocess.DEVNULL, check=False)


@contextlib.contextmanager
def veth(name, outer, inner, mtu=1500):
    """A namespace with a loopback interface and eth0, address `inner`, whose other end is `outer` here, the default route."""
    with namespace(name) as path:
        ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        try:
            ip("addr", "add", f"{outer}/24", "dev", name)
            ip("link", "set", name, "up")
            ip("-n", name, "addr", "add", f"{inner}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up", "mtu", mtu)
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "route", "add", "default", "via", outer)
            yield path
        finally:
            ip("link", "del", name)
