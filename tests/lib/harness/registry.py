# SPDX-License-Identifier: Apache-2.0
"""Registries for the image tests: Debian's docker-registry, and one in Python that lies as it is told, with a token server."""
import base64
import hashlib
import http.server
import json
import os
import re
import socket
import socketserver
import ssl
import subprocess
import threading
import time
import urllib.parse
import urllib.request

TYPES = {"manifest": "application/vnd.oci.image.manifest.v1+json", "index": "application/vnd.oci.image.index.v1+json",
         "config": "application/vnd.oci.image.config.v1+json", "layer": "application/vnd.oci.image.layer.v1.tar"}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def make_certificate(directory, host="localhost"):
    """A CA and a certificate that it signed, as ca.crt, server.crt and server-key.pem. A *.key would be a client's in certs.d."""
    os.makedirs(directory, exist_ok=True)

    def openssl(*args):
        subprocess.run(["openssl", *args], check=True, capture_output=True, cwd=directory)
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test CA",
            "-keyout", "ca-key.pem", "-out", "ca.crt")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=" + host, "-keyout", "server-key.pem",
            "-out", "server.csr")
    with open(os.path.join(directory, "ext"), "w") as f:
        f.write(f"subjectAltName=DNS:{host},IP:127.0.0.1\n")
    openssl("x509", "-req", "-days", "2", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca-key.pem", "-CAcreateserial", "-extfile", "ext",
            "-out", "server.crt")
    return directory


def make_client(directory, name="client"):
    """A client's certificate, name.cert and name.key, that the CA of make_certificate() signed in the same directory."""
    def openssl(*args):
        subprocess.run(["openssl", *args], check=True, capture_output=True, cwd=directory)
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=" + name, "-keyout", name + ".key", "-out", name + ".csr")
    openssl("x509", "-req", "-days", "2", "-in", name + ".csr", "-CA", "ca.crt", "-CAkey", "ca-key.pem", "-CAcreateserial", "-out", name + ".cert")


class Proxy:
    """An HTTP proxy on loopback. `names` says where its host names really are: {"registry.test:5000": port}. user: (user, password)
    that it wants. refuse: it connects to no server by CONNECT. `seen` has (method, target, headers) of each request."""

    def __init__(self, names, user=None, refuse=False):
        self.names, self.user, self.refuse, self.seen = names, user, refuse, []
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                words = self.rfile.readline().decode("latin-1").split()
                lines = []
                while (line := self.rfile.readline().decode("latin-1").strip()):
                    lines.append(line)
                if len(words) == 3:
                    outer.serve(self, words, lines)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True
        self.server = Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def serve(self, h, words, lines):
        method, target, _ = words
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        self.seen.append((method, target, headers))
        if self.user and headers.get("proxy-authorization") != "Basic " + base64.b64encode(":".join(self.user).encode()).decode():
            return h.wfile.write(b"HTTP/1.1 407 no\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        if method == "CONNECT" and self.refuse:
            return h.wfile.write(b"HTTP/1.1 403 no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        url = urllib.parse.urlsplit(target if method != "CONNECT" else "//" + target)
        host, port = url.hostname, url.port or 80
        with socket.create_connection(("127.0.0.1", self.names[url.netloc]) if url.netloc in self.names else (host, port), 5) as server:
            if method == "CONNECT":
                h.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                kept = [line for line in lines if not line.lower().startswith(("proxy-", "connection:"))]
                path = (url.path or "/") + ("?" + url.query if url.query else "")
                server.sendall("\r\n".join([f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""]).encode("latin-1"))
            back = threading.Thread(target=self.pump, args=(server, h.connection), daemon=True)
            back.start()
            self.pump(h.connection, server, h.rfile)
            back.join()

    @staticmethod
    def pump(source, target, buffered=None):
        try:
            while (data := buffered.read1(65536) if buffered else source.recv(65536)):
                target.sendall(data)
        except OSError:
            pass
        try:
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class DockerRegistry:
    """Debian's docker-registry on loopback, or another version of it; tls: the directory of make_certificate(); user: with basic
    authentication."""

    def __init__(self, directory, tls=None, user=None, want_client=False, program="docker-registry"):
        os.makedirs(directory, exist_ok=True)
        self.port = free_port()
        self.host = f"localhost:{self.port}"
        http_part = {"addr": f"127.0.0.1:{self.port}"}
        if tls:
            http_part["tls"] = {"certificate": tls + "/server.crt", "key": tls + "/server-key.pem"}
            if want_client:
                http_part["tls"]["clientcas"] = [tls + "/ca.crt"]
        config = {"version": "0.1", "log": {"level": "error"}, "http": http_part,
                  "storage": {"filesystem": {"rootdirectory": directory + "/data"}, "delete": {"enabled": True}}}
        if user:
            with open(directory + "/htpasswd", "w") as f:
                f.write(subprocess.run(["htpasswd", "-Bbn", *user], capture_output=True, text=True, check=True).stdout)
            config["auth"] = {"htpasswd": {"realm": "test", "path": directory + "/htpasswd"}}
        with open(directory + "/config.yml", "w") as f:
            json.dump(config, f)  # JSON is YAML
        self.log = open(directory + "/log", "w")
        self.process = subprocess.Popen([program, "serve", directory + "/config.yml"], stdout=self.log, stderr=self.log)
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError(open(directory + "/log").read())

    def close(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


class Hostile:
    """A registry in memory. `rules` is a list of functions of the request's handler, each of which may answer in its own way and
    then returns True. `seen` has (method, path, headers) of each request."""

    def __init__(self, tls=None, token_user=None, address="127.0.0.1", want_client=False):
        self.blobs, self.manifests, self.rules, self.seen, self.uploads = {}, {}, [], [], {}
        self.realm = None  # with one, requests need a token of it
        self.token_user = token_user  # (user, password) that tokens need
        self.lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            server_version = "hostile"

            def log_message(self, *args):
                pass

            def reply(self, status, body=b"", headers=(), length=None, cut=None):
                self.send_response(status)
                for k, v in dict(headers).items():
                    self.send_header(k, v)
                if length != "none":
                    self.send_header("Content-Length", str(len(body) if length is None else length))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body if cut is None else body[:cut])
                    self.wfile.flush()
                if cut is not None or length is not None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)

            def any(self):
                self.registry = outer
                n = int(self.headers.get("Content-Length") or 0)
                self.body = self.rfile.read(n) if n else b""
                with outer.lock:
                    outer.seen.append((self.command, self.path, dict(self.headers)))
                for rule in list(outer.rules):
                    if rule(self):
                        return
                outer.answer(self)
            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = any

        self.server = http.server.ThreadingHTTPServer((address, 0), Handler)
        self.server.daemon_threads = True
        self.tls = bool(tls)
        if tls:
            c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            c.load_cert_chain(tls + "/server.crt", tls + "/server-key.pem")
            if want_client:
                c.load_verify_locations(tls + "/ca.crt")
                c.verify_mode = ssl.CERT_REQUIRED
            self.server.socket = c.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.host = f"{'localhost' if address == '127.0.0.1' else address}:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def add(self, data):
        d = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[d] = data
        return d

    def add_manifest(self, doc, tag, repository="a", kind="manifest"):
        data = doc if isinstance(doc, bytes) else json.dumps(doc).encode()
        d = "sha256:" + hashlib.sha256(data).hexdigest()
        for name in (tag, d):
            self.manifests[repository, name] = (data, TYPES.get(kind, kind))
        return {"mediaType": TYPES.get(kind, kind), "digest": d, "size": len(data)}

    def image(self, tag="t", layers=(b"\0" * 1024,), repository="a", platform=("amd64", "linux")):
        """An image of plain layers. Returns (descriptor, manifest)."""
        config = json.dumps({"architecture": platform[0], "os": platform[1], "rootfs": {"type": "layers", "diff_ids": [
            "sha256:" + hashlib.sha256(x).hexdigest() for x in layers]}, "config": {}}).encode()
        manifest = {"schemaVersion": 2, "mediaType": TYPES["manifest"],
                    "config": {"mediaType": TYPES["config"], "digest": self.add(config), "size": len(config)},
                    "layers": [{"mediaType": TYPES["layer"], "digest": self.add(x), "size": len(x)} for x in layers]}
        return self.add_manifest(manifest, tag, repository), manifest

    def authorized(self, h):
        if not self.realm or h.headers.get("Authorization", "").startswith("Bearer good-"):
            return True
        h.reply(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}', {
            "WWW-Authenticate": f'Bearer realm="{self.realm}",service="test service",scope="repository:a:pull"'})
        return False

    def token(self, h):
        want = self.token_user
        if want:
            basic = "Basic " + base64.b64encode(":".join(want).encode()).decode()
            form = urllib.parse.parse_qs(h.body.decode())
            if h.headers.get("Authorization") != basic and form.get("refresh_token") != [want[1]]:
                return h.reply(401, b"{}")
        return h.reply(200, json.dumps({"token": f"good-{len(self.seen)}", "expires_in": 300}).encode(),
                       {"Content-Type": "application/json"})

    def answer(self, h):
        path = urllib.parse.urlparse(h.path).path
        query = urllib.parse.parse_qs(urllib.parse.urlparse(h.path).query)
        if path == "/token":
            return self.token(h)
        if not self.authorized(h):
            return None
        if path == "/v2/":
            return h.reply(200, b"{}")
        m = re.fullmatch(r"/v2/(.+)/(manifests|blobs|blobs/uploads|referrers)/(.*)", path)
        if not m:
            return h.reply(404, b"404 page not found\n", {"Content-Type": "text/plain"})
        repository, kind, name = m.groups()
        if kind == "blobs" and name.startswith("uploads/"):
            kind, name = "blobs/uploads", name[8:]
        if kind == "blobs/uploads":
            return self.upload(h, repository, name, query)
        if kind == "manifests" and h.command == "PUT":
            d = self.add_manifest(h.body, name, repository, h.headers["Content-Type"])
            return h.reply(201, b"", {"Docker-Content-Digest": d["digest"], "Location": path})
        if kind == "manifests" and (repository, name) in self.manifests:
            data, media_type = self.manifests[repository, name]
            return h.reply(200, data, {"Content-Type": media_type, "Docker-Content-Digest": "sha256:" + hashlib.sha256(data).hexdigest()})
        if kind == "blobs" and name in self.blobs:
            return self.blob(h, self.blobs[name])
        return h.reply(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}')

    def blob(self, h, data, **kw):
        m = re.fullmatch(r"bytes=(\d+)-", h.headers.get("Range", ""))
        if m:
            at = int(m.group(1))
            if at >= len(data):
                return h.reply(416, b"bad range", {"Content-Range": f"bytes */{len(data)}"}, length=len(data))
            return h.reply(206, data[at:], {"Content-Range": f"bytes {at}-{len(data) - 1}/{len(data)}"}, **kw)
        return h.reply(200, data, **kw)

    def upload(self, h, repository, name, query):
        if h.command == "POST":
            if query.get("mount") and query["mount"][0] in self.blobs and query.get("from"):
                return h.reply(201, b"", {"Location": "/v2/x"})
            name = f"u{len(self.uploads)}"
            self.uploads[name] = b""
            return h.reply(202, b"", {"Location": f"/v2/{repository}/blobs/uploads/{name}?state=0", "Range": "0-0"})
        state = query.get("state", [""])[0]
        if name not in self.uploads or (h.command != "GET" and state not in ("again", str(len(self.uploads[name])))):
            return h.reply(404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"an old Location"}]}')
        if h.command == "GET":
            return h.reply(204, b"", {"Range": f"0-{max(0, len(self.uploads[name]) - 1)}",
                                      "Location": f"/v2/{repository}/blobs/uploads/{name}?state=again"})
        if h.command == "PATCH":
            start = int(h.headers["Content-Range"].split("-")[0])
            if start != len(self.uploads[name]):
                return h.reply(416, b"", {"Range": f"0-{max(0, len(self.uploads[name]) - 1)}"})
            self.uploads[name] += h.body
            return h.reply(202, b"", {"Location": f"/v2/{repository}/blobs/uploads/{name}?state={len(self.uploads[name])}",
                                      "Range": f"0-{len(self.uploads[name]) - 1}"})
        d = "sha256:" + hashlib.sha256(self.uploads[name]).hexdigest()
        if query["digest"] != [d]:
            return h.reply(400, b'{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}')
        self.blobs[d] = self.uploads.pop(name)
        return h.reply(201, b"", {"Location": f"/v2/{repository}/blobs/{d}"})
