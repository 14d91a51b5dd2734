# SPDX-License-Identifier: Apache-2.0
"""Plays the monitor's side of the agent protocol (runtime/agent/protocol.h), for tests of the guest's agent."""
import json
import os
import select
import socket
import struct
import subprocess
import time

AGENT_PORT = 1024
TIMEOUT = 15


def stream_port(process, stream):
    return 0x10000 + process * 4 + stream


def told(process, stdio):
    """Returns the streams as a message has them. A value that is no list of numbers comes from a test and is kept."""
    return [{"stream": n, "port": stream_port(process, n)} if isinstance(n, int) else n for n in stdio]


class Stream:
    """The monitor's end of a process's standard stream."""

    def __init__(self, listener):
        self.listener, self.sock = listener, None

    def accept(self, timeout=TIMEOUT):
        if not self.sock:
            self.listener.settimeout(timeout)
            self.sock, _ = self.listener.accept()
            self.sock.settimeout(timeout)
        return self.sock

    def send(self, data):
        self.accept().sendall(data)

    def end(self):
        self.accept().shutdown(socket.SHUT_WR)

    def close(self):
        if self.sock:
            self.sock.close()
        self.listener.close()

    def read(self, n=65536):
        return self.accept().recv(n)

    def read_all(self):
        out = b""
        while True:
            data = self.read()
            if not data:
                return out
            out += data

    def read_until(self, text, timeout=TIMEOUT):
        out, end = b"", time.monotonic() + timeout
        while text not in out:
            left = end - time.monotonic()
            ready = left > 0 and select.select([self.accept()], [], [], left)[0]
            data = self.read() if ready else b""
            assert data, f"{text!r} did not come, but {out!r}"
            out += data
        return out


class Host:
    """Starts the agent. send() sends it a frame, and expect() returns a frame that it has sent."""

    def __init__(self, work, program, cgroup):
        self.work, self.program, self.cgroup, self.conf = work, program, cgroup, None
        self.listeners, self.frames, self.buffer = {}, [], b""
        self.requests, self.kept = 0, []
        control = self.listen(AGENT_PORT)
        self.process = subprocess.Popen([program, work, cgroup], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        control.settimeout(TIMEOUT)
        self.sock, _ = control.accept()
        self.hello = self.expect("hello")

    def listen(self, port):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.bind(os.path.join(self.work, f"port-{port}"))
        s.listen(1)
        return s

    def streams(self, process, which):
        made = {n: Stream(self.listen(stream_port(process, n))) for n in which if isinstance(n, int)}
        self.kept.append(made)
        return made

    def send(self, type_, blob=b"", **members):
        text = json.dumps({"type": type_, **members}).encode()
        self.sock.sendall(struct.pack("<II", len(text), len(blob)) + text + blob)

    def _take(self):
        if len(self.buffer) < 8:
            return None
        n, blob = struct.unpack("<II", self.buffer[:8])
        if len(self.buffer) < 8 + n + blob:
            return None
        frame = json.loads(self.buffer[8:8 + n])
        self.buffer = self.buffer[8 + n + blob:]
        return frame

    def expect(self, type_, timeout=TIMEOUT, **members):
        """Returns the first frame of this type with these members. Other frames stay for later calls."""
        end = time.monotonic() + timeout
        while True:
            for f in self.frames:
                if f["type"] == type_ and all(f.get(k) == v for k, v in members.items()):
                    self.frames.remove(f)
                    return f
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                raise AssertionError(f"no {type_} {members} within {timeout} s; there are {self.frames}")
            data = self.sock.recv(65536)
            if not data:
                raise AssertionError(f"no {type_}: the agent ended: {self.process.communicate()[1].decode()}; "
                                     f"there are {self.frames}")
            self.buffer += data
            while (f := self._take()) is not None:
                self.frames.append(f)

    def ask(self, type_, blob=b"", **members):
        self.requests += 1
        self.send(type_, blob, id=self.requests, **members)
        return self.expect("reply", id=self.requests)

    def make_blob(self, seccomp=b"", **members):
        """What guest_orders.c makes of them: orders or limits."""
        members["filter"] = list(struct.unpack(f"<{len(seccomp) // 8}Q", seccomp))
        r = subprocess.run([self.program.replace("guest_main", "guest_orders")], input=json.dumps(members).encode(),
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        assert r.returncode == 0, r.stderr.decode()
        return r.stdout

    def create(self, conf, stdio=(0, 1, 2), seccomp=b"", **facts):
        self.conf = conf
        facts = {"id": "c1", "bundle": "/the/bundle", "keyring": "_ses.c1", "no_new_keyring": True, "attached": True, **facts}
        if "hooks" in conf:
            state = {"ociVersion": "1.3.0", "id": facts["id"], "status": "", "pid": 0, "bundle": facts["bundle"],
                     "annotations": conf.get("annotations", {})}
            facts["state"] = json.dumps(state, separators=(",", ":"))
        blob = self.make_blob(seccomp, config=conf, facts=facts)
        streams = self.streams(0, stdio)
        self.send("create", blob, process=0, stdio=told(0, stdio))
        return streams

    def run(self, conf, stdio=(0, 1, 2), **facts):
        streams = self.create(conf, stdio, **facts)
        self.expect("reached", process=0, barrier="created")
        self.send("start", process=0)
        self.expect("running", process=0)
        return streams

    def exec(self, number, process, stdio=(0, 1, 2), seccomp=b"", **facts):
        blob = self.make_blob(seccomp, config=self.conf, process=process,
                              facts={"keyring": "_ses.c1", "no_new_keyring": True, **facts})
        streams = self.streams(number, stdio)
        self.send("exec", blob, process=number, stdio=told(number, stdio))
        return streams

    def reconnect(self, listener):
        """Ends the agent's connection, as a restored machine does, and takes its next one."""
        self.sock.close()
        self.buffer, self.frames = b"", []
        listener.settimeout(TIMEOUT)
        self.sock, _ = listener.accept()
        self.hello = self.expect("hello")

    def update(self, resources):
        return self.ask("update", self.make_blob(resources=resources))

    def stop(self):
        """Ends the agent. Returns its exit code and what it has written to standard error."""
        if self.process.poll() is None:
            try:
                self.send("stop")
            except OSError:
                pass
        try:
            err = self.process.communicate(timeout=TIMEOUT)[1]
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.sock.close()
        return self.process.returncode, err.decode()
