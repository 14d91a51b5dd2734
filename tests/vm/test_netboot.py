# SPDX-License-Identifier: Apache-2.0
"""Tests kernels that come from elsewhere: `caisson image fetch` and `caisson run --kernel URL`, by HTTP and out of an OCI
artifact, and a kernel that has only Xen's PVH entry. The kernel of tests/lib/harness/pvh.py writes its command line
and its initramfs to the serial port, and resets the machine."""
import hashlib
import http.server
import os
import signal
import ssl
import threading

import pytest

from harness import mode, oci, registry
from harness.pvh import pvh_kernel
from test_inside import put
from test_machine import machines, until  # pylint: disable=unused-import

class Server(http.server.ThreadingHTTPServer):
    """A web server in memory: {path: bytes or (status, location)}. `seen` has the paths that were asked for."""

    def __init__(self, files, certificate=None):
        self.files, self.seen = files, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                outer.seen.append(self.path)
                found = outer.files.get(self.path, (404, ""))
                status, location = found if isinstance(found, tuple) else (200, "")
                self.send_response(status)
                if location:
                    self.send_header("Location", location)
                self.end_headers()
                if status == 200:
                    self.wfile.write(found)

        super().__init__(("127.0.0.1", 0), Handler)
        self.daemon_threads = True
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self.server_address[1]}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(f"{certificate}/server.crt", f"{certificate}/server-key.pem")
            self.socket = context.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture
def images(binary, tmp):
    return oci.Images(os.path.join(os.path.dirname(binary), "caisson-image"), os.path.join(tmp, "store"))


@pytest.fixture
def web():
    s = Server({})
    yield s
    s.shutdown()
    s.server_close()


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def test_boot_by_http(machines, rt, web, images):
    """The kernel and the initramfs come from a web server, and the machine has no disk. With a digest the file is fetched
    once."""
    kernel, initrd = pvh_kernel(), b"the initramfs"
    web.files.update({"/k": (302, "/kernel"), "/kernel": kernel, "/i": initrd})
    words = ["--store", images.store, "--kernel", f"{web.url}/k@{sha256(kernel)}", "--initrd", web.url + "/i", "--append", "a=1 b"]
    for seen in (["/k", "/kernel", "/i"], ["/i"]):
        r = machines.run(*words, timeout=120)
        assert "PVH: " in r.out and "a=1 b" in r.out and " + the initramfs end" in r.out, r
        # Without reboot=t a reboot of Linux on QEMU's microvm now and then boots the kernel again.
        assert ("reboot=t" in r.out) == (mode.HYPERVISOR == "qemu"), r
        assert r.rc == 0 and web.seen == seen, (r, web.seen)
        web.seen.clear()
    assert os.listdir(machines.dir) == []
    web.files["/kernel"] = kernel + b"!"
    machines.run("--store", images.store, "--kernel", f"{web.url}/kernel@sha256:{'1' * 64}").failed("digest")
    machines.run("--store", images.store, "--kernel", web.url + "/nosuch").failed("404", "/nosuch")
    machines.run("--kernel", "http://192.0.2.1/k").failed("http://192.0.2.1/k", "TLS", "@sha256:")
    for option in (("--ephemeral",), ("--size", "1G"), ("--overlay", "x"), ("--format", "raw"), ("--firmware", "efi")):
        machines.run("--kernel", "/x", *option).failed(option[0])
    rt("run", "--kernel", "/x", "m").failed("--isolation vm")
    assert os.listdir(machines.dir) == []


def test_pvh_of_32_bits(machines, tmp):
    """A PVH kernel may be a 32-bit ELF, as Xen's own test kernels are."""
    r = machines.run("--kernel", put(tmp, "k", pvh_kernel(32)), "--append", "c", timeout=120)
    assert r.rc == 0 and "PVH: " in r.out and " + " in r.out, r


def test_a_machine_that_hangs(machines, tmp):
    """The first signal to `run` presses the power button. A guest that hangs ignores it, and a later signal switches the machine off."""
    output = os.path.join(tmp, "output")
    with open(output, "wb") as f:
        p = machines.rt.popen(*machines.words("--kernel", put(tmp, "k", pvh_kernel(hangs=True)), "--append", "c", "m1"), stdout=f)
    try:
        until(lambda: b"PVH: " in open(output, "rb").read() and machines.status("m1") == "running", 120, 0.1)
        p.send_signal(signal.SIGTERM)
        assert machines.status("m1") == "running" and p.poll() is None
        machines.rt("kill", "m1", "TERM").ok()
        assert machines.status("m1") == "running"
        until(lambda: p.poll() is not None or p.send_signal(signal.SIGTERM), 60, 0.5)
        assert p.wait() == 128 + signal.SIGTERM and os.listdir(machines.dir) == []
    finally:
        p.kill()
        p.wait()


def test_artifact(images):
    """A file of an OCI artifact is chosen by its title, or is the only one."""
    hub = registry.Hostile()
    try:
        config = b"{}"
        def layer(data, title):
            return {"mediaType": "application/octet-stream", "digest": hub.add(data), "size": len(data),
                    "annotations": {"org.opencontainers.image.title": title}}
        def artifact(tag, *layers):
            hub.add_manifest({"schemaVersion": 2, "mediaType": registry.TYPES["manifest"], "artifactType": "application/x.boot",
                              "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": hub.add(config), "size": 2},
                              "layers": list(layers)}, tag)
        artifact("two", layer(b"kernel", "vmlinuz"), layer(b"initramfs", "initrd.img"))
        artifact("one", layer(b"only", "x"))
        for source, wanted in (("a:two#vmlinuz", b"kernel"), ("a:two#initrd.img", b"initramfs"), ("a:one", b"only")):
            with open(images("fetch", f"oci://{hub.host}/{source}").strip(), "rb") as f:
                assert f.read() == wanted
        # A second fetch by digest sends the registry no request.
        digest = sha256(hub.manifests["a", "two"][0])
        for asks in (True, False):
            hub.seen.clear()
            images("fetch", f"oci://{hub.host}/a@{digest}#vmlinuz")
            assert bool(hub.seen) == asks
        assert images.fails("fetch", f"oci://{hub.host}/a:two#nosuch").count('"vmlinuz", "initrd.img"') == 1
        assert "vmlinuz" in images.fails("fetch", f"oci://{hub.host}/a:two")
        assert "https://" in images.fails("fetch", "ftp://x/y")
    finally:
        hub.close()


def test_redirects(images, web):
    """Redirects end, and none leads to a server without TLS that could change the file."""
    web.files.update({"/loop": (302, "/loop"), "/away": (302, "http://192.0.2.1/k?signature=secret"), "/gone": (302, "")})
    assert "redirects" in images.fails("fetch", web.url + "/loop") and len(web.seen) == 6
    said = images.fails("fetch", web.url + "/away")
    assert "TLS" in said and "192.0.2.1/k" in said and "secret" not in said, said
    assert "302" in images.fails("fetch", web.url + "/gone")


def test_a_server_of_https(images, tmp):
    """--insecure and --cert-dir are for the server that the user has named, and not for one to which it redirects."""
    certificate = registry.make_certificate(os.path.join(tmp, "certificate"))
    servers = [Server({"/k": b"kernel"}, certificate) for _ in range(2)]
    servers[0].files["/away"] = (302, servers[1].url + "/k")
    try:
        assert "CA" in images.fails("fetch", servers[0].url + "/k")
        for trust in (["--insecure"], ["--cert-dir", certificate]):
            with open(images("fetch", *trust, servers[0].url + "/k").strip(), "rb") as f:
                assert f.read() == b"kernel"
            said = images.fails("fetch", *trust, servers[0].url + "/away")
            assert "CA" in said and servers[1].url in said and servers[1].seen == [], said
    finally:
        for s in servers:
            s.shutdown()
            s.server_close()
