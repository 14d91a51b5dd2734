# SPDX-License-Identifier: Apache-2.0
"""Runs the program under test: commands with time limits, and containers that clean up after themselves."""
import json
import os
import re
import signal
import subprocess
import tempfile
import time

from . import config, machine, mode, rootfs

TIMEOUT = float(os.environ.get("CAISSON_TEST_TIMEOUT", "30")) * mode.SCALE
# Every command that boots a microVM in software prints this notice. The tests count the lines of an error without it.
IN_SOFTWARE = re.compile(r"^[^\n]*the microVM runs in software, on QEMU:[^\n]*\n", re.M)


class Process(subprocess.Popen):
    """Returns a longer time for modes in which everything is slower."""

    def wait(self, timeout=None):
        return super().wait(timeout and timeout * mode.SCALE)

    def communicate(self, input=None, timeout=None):
        return super().communicate(input, timeout and timeout * mode.SCALE)


class Result:
    def __init__(self, argv, rc, out, err):
        self.argv, self.rc, self.raw, self.err = argv, rc, out, err

    @property
    def out(self):
        return self.raw.decode(errors="replace")

    def __repr__(self):
        return f"\n$ {' '.join(map(str, self.argv))}\nexit {self.rc}\nstdout: {self.out[-3000:]}\nstderr: {self.err[-3000:]}"

    def ok(self):
        assert self.rc == 0, self
        return self

    def failed(self, *texts, lines=1):
        """Checks that the exit code is not 0, and that there is exactly one message, which contains the texts."""
        assert self.rc != 0, self
        said = [l for l in self.err.splitlines() if l.strip()]
        if lines is not None:
            assert len(said) == lines, self
        for t in texts:
            assert t.lower() in self.err.lower(), (t, self)
        return self

    def json(self):
        return json.loads(self.ok().out)


class Runtime:
    def __init__(self, binary, root, options=()):
        self.binary, self.root, self.options = binary, root, list(options)
        self.prefix = []  # words in front of argv: strace, setpriv, ...

    def argv(self, *args):
        log = mode.log_options(args[0], self.options) if args else []
        return [*self.prefix, self.binary, "--root", self.root, *self.options, *log, *map(str, args)]

    def popen(self, *args, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        return Process(self.argv(*args), **kw)

    def __call__(self, *args, input=None, timeout=None, stdout=None, **kw):
        """
        Runs a command to its end. Output goes to files, not pipes: a container that outlives the command (create,
        run -d) inherits them, and a pipe would be waited for until it ends.
        """
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as inp:
            if input is not None:
                inp.write(input if isinstance(input, bytes) else input.encode())
                inp.seek(0)
            if "stdin" not in kw:
                kw["stdin"] = inp if input is not None else subprocess.DEVNULL
            logged = mode.log_size()
            p = subprocess.Popen(self.argv(*args), stdout=stdout or out, stderr=err, **kw)
            try:
                rc = p.wait(timeout and timeout * mode.SCALE or TIMEOUT)
            except subprocess.TimeoutExpired:
                stuck = _where_stuck(p.pid)
                p.kill()
                p.wait()
                err.seek(0)
                raise AssertionError(f"{' '.join(p.args)}: not done after {timeout or TIMEOUT} s\n"
                                     f"stderr: {err.read().decode(errors='replace')}\n{stuck}") from None
            out.seek(0)
            err.seek(0)
            said = mode.warnings_since(logged) + err.read().decode(errors="replace")
            return Result(p.args, rc, out.read(), IN_SOFTWARE.sub("", said) if mode.VM else said)


def _where_stuck(pid):
    lines = []
    for p, st in [(pid, machine.proc_stat(pid))] + machine.descendants(pid):
        try:
            with open(f"/proc/{p}/wchan") as f:
                wchan = f.read()
        except OSError:
            wchan = "?"
        lines.append(f"  {p} {st} wchan {wchan}: {machine.cmdline(p)}")
    return "\n".join(lines)


class Container:
    """A bundle and an ID. Nothing happens before create() or run()."""

    def __init__(self, rt, id, bundle, conf):
        self.rt, self.id, self.bundle, self.conf = rt, id, bundle, conf
        self.rootfs = os.path.join(bundle, "rootfs")
        self.log = os.path.join(bundle, "output")

    def write(self):
        with open(os.path.join(self.bundle, "config.json"), "w") as f:
            json.dump(self.conf, f)
        return self

    def create(self, *opts, check=True, **kw):
        """The container's own output goes to self.log."""
        self.write()
        if "stdout" in kw:
            r = self.rt("create", "--bundle", self.bundle, *opts, self.id, **kw)
        else:
            with open(self.log, "ab") as log:
                r = self.rt("create", "--bundle", self.bundle, *opts, self.id, stdout=log, **kw)
        return r.ok() if check else r

    def start(self, check=True, **kw):
        r = self.rt("start", self.id, **kw)
        return r.ok() if check else r

    def up(self, *opts, **kw):
        """create and start."""
        self.create(*opts, **kw)
        self.start()
        return self

    def run(self, *opts, **kw):
        self.write()
        return self.rt("run", "--bundle", self.bundle, *opts, self.id, **kw)

    def exec(self, *args, opts=(), **kw):
        return self.rt("exec", *opts, self.id, *args, **kw)

    def state(self):
        return self.rt("state", self.id).json()

    def status(self):
        return self.state()["status"]

    def pid(self):
        return self.state()["pid"]

    def kill(self, sig="KILL", *opts, check=True):
        r = self.rt("kill", *opts, self.id, sig)
        return r.ok() if check else r

    def delete(self, *opts, check=True):
        r = self.rt("delete", *opts, self.id)
        return r.ok() if check else r

    def wait(self, status="stopped", timeout=15):
        wait_for(lambda: self.status() == status, f"{self.id} {status}", timeout)

    def output(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def wait_output(self, text, timeout=15):
        wait_for(lambda: text in self.output(), f"{text!r} in output {self.output()[-500:]!r}", timeout)

    def stop(self):
        self.kill("KILL")
        self.wait()
        self.delete()

    def exists(self):
        return self.rt("state", self.id).rc == 0

    def path(self, *parts):
        return os.path.join(self.rootfs, *[p.lstrip("/") for p in parts])


class Factory:
    """Makes containers for one test and removes what is left of them when it ends."""
    _n = 0
    kind = Container

    def __init__(self, rt, template, directory):
        self.rt, self.template, self.directory, self.made = rt, template, directory, []

    def bundle(self, copy=True):
        Factory._n += 1
        b = os.path.join(self.directory, f"b{Factory._n}")
        os.mkdir(b)
        if copy:
            rootfs.copy(self.template, os.path.join(b, "rootfs"))
        return b

    def __call__(self, *args, conf=None, bundle=None, id=None, rt=None, **process):
        c = conf if conf is not None else config.default(*args, **process)
        kernel = mode.VM and not mode.tuned_kernel() and mode.guest_kernel(rootfs.CACHE)
        if kernel:
            c.setdefault("vm", {}).setdefault("kernel", {"path": kernel})
        b = bundle or self.bundle()
        ctr = self.kind(rt or self.rt, id or f"t{os.getpid()}-{Factory._n}", b, c)
        self.made.append(ctr)
        return ctr

    def sh(self, script, **kw):
        return self(*["sh", "-c", script], **kw)

    def idle(self, **kw):
        """Makes a container that does nothing until it is killed, and dies of SIGTERM."""
        return self.sh("trap 'exit 0' TERM; while :; do sleep 0.05; done", **kw)

    def clean(self):
        for c in self.made:
            if c.exists():
                c.rt("delete", "--force", c.id)


def wait_for(cond, what, timeout=15):
    timeout *= mode.SCALE
    end = time.monotonic() + timeout
    while True:
        began = time.monotonic()
        if cond():
            return
        now = time.monotonic()
        assert now < end, f"no {what} within {timeout} s"
        # Sleeps as long as the check took, because the observed process may have no other processor.
        time.sleep(max(0.01, now - began))


def status_of(text):
    """Parses the text of /proc/PID/status, or of `probe info`, which has the same form. Returns a dict."""
    out = {}
    for line in text.splitlines():
        k, sep, v = line.partition(":")
        if sep:
            out[k.strip()] = v.strip()
    return out


def sig(rc):
    """Returns the signal N of an exit code 128+N."""
    return signal.Signals(rc - 128).name if rc > 128 else None
