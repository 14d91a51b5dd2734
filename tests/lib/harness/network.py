# SPDX-License-Identifier: Apache-2.0
"""Makes network namespaces for tests, and links one to the network of the tests."""
import contextlib
import subprocess


def ip(*args):
    subprocess.run(["ip", *map(str, args)], check=True)


@contextlib.contextmanager
def namespace(name):
    """Makes a network namespace that has only a loopback interface, which is down. Returns its path."""
    ip("netns", "add", name)
    try:
        yield f"/run/netns/{name}"
    finally:
        ip("netns", "del", name)
        # ip has mounted the directory of namespaces.
        subprocess.run(["umount", "-l", "/run/netns"], stderr=subprocess.DEVNULL, check=False)


@contextlib.contextmanager
def veth(name, outer, inner, mtu=1500):
    """Makes a namespace with a loopback interface and eth0, which has the address `inner` and a default route. The
    other end of eth0 is here and has the address `outer`."""
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
