# SPDX-License-Identifier: Apache-2.0
"""Tests the guest's agent (runtime/guest), which guest_main.c runs as the first process of a pid namespace on this
machine's kernel. The test plays the monitor. Tests that boot a guest test the same agent in a real guest."""
import hashlib
import json
import os
import select
import signal
import struct
import time

import pytest
from agent_fixtures import guest, process_of, running, sh, status_exit  # noqa: F401 (fixtures too)
from agent_host import Stream, stream_port
from harness import config


def test_hello(guest):
    h = guest()
    assert h.hello["version"] == 3 and h.hello["kernel"] == os.uname().release
    assert h.stop() == (0, "")


def test_run_output_and_exit_code(guest):
    h = guest()
    s = h.run(sh("echo out; echo err >&2; cat; exit 7"))
    s[0].send(b"typed\n")
    s[0].end()
    assert s[1].read_all() == b"out\ntyped\n"
    assert s[2].read_all() == b"err\n"
    assert h.expect("exited", process=0)["status"] == status_exit(7)


@pytest.mark.parametrize("asked", [True, False])
def test_tells_its_steps(guest, asked):
    h = guest()
    assert h.hello["clock"] > 0
    h.run(sh("true"), tell_steps=asked)
    told = [f for f in h.frames if f["type"] == "steps"]
    h.expect("exited", process=0)
    if not asked:
        assert not told
        return
    assert all(f["process"] == 0 and f["clock"] > h.hello["clock"] for f in told)
    for init in (True, False):
        steps = [s for f in told for s in f["steps"] if s.get("init", False) == init]
        assert len(steps) > (20 if init else 3)
        assert [s["step"] for s in steps] == sorted({s["step"] for s in steps})
        times = [t for s in steps for t in (s["begin"], s["end"])]
        assert times == sorted(times) and times[0] >= told[0]["clock"]


def test_output_and_errors_on_one_port_stay_in_order(guest):
    h = guest()
    s = h.run(sh("i=0; while [ $i -lt 200 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done; exec >&-; echo last >&2"),
              stdio=[0, 1, {"stream": 2, "port": stream_port(0, 1)}])
    assert s[1].read_all().decode().split() == [w + str(i) for i in range(200) for w in "oe"] + ["last"]
    assert h.expect("exited", process=0)["status"] == 0


def test_waits_for_start(guest):
    h = guest()
    s = h.create(sh("echo started"), attached=False)
    h.expect("reached", process=0, barrier="created")
    with pytest.raises(AssertionError):
        h.expect("running", process=0, timeout=0.3)
    h.send("start", process=0)
    h.expect("running", process=0)
    assert s[1].read_all() == b"started\n"
    assert h.expect("exited")["status"] == 0


def test_killed_before_start(guest):
    h = guest()
    h.create(sh("echo no"))
    h.expect("reached", process=0, barrier="created")
    h.send("signal", process=0, signal=int(signal.SIGKILL))
    assert h.expect("exited", process=0)["status"] == signal.SIGKILL
    assert not [f for f in h.frames if f["type"] == "running"]


def test_missing_program(guest):
    h = guest()
    h.create(config.default("/no/such"))
    f = h.expect("failed", process=0)
    assert "no such file or directory" in f["message"] and "/no/such" in f["message"] and f["errno"] == 2


def test_missing_share_entry(guest):
    h = guest()
    c = sh("true")
    c["mounts"].append({"destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind"]})
    h.create(c)
    f = h.expect("failed", process=0)
    assert f["message"].startswith("mounts[7]: "), f
    assert "no such file or directory" not in f["message"].lower()


def test_bad_orders(guest):
    """Orders of another build, cut or changed ones, and none at all: the agent says so, and takes good ones afterwards."""
    h = guest()
    c = sh("echo good")
    good = h.make_blob(config=c, facts={"id": "c1", "bundle": "/b", "keyring": "_ses.c1", "attached": True})
    other = good[:8] + bytes([good[8] ^ 1]) + good[9:]
    for bad, said in ((other, "another build"), (good[:-8], "create"), (b"", "create"), (b"{}" * 100, "create")):
        h.send("create", bad, process=0, stdio=[])
        assert said in h.expect("failed", process=0)["message"]
    assert h.run(c, stdio=(1,))[1].read_all() == b"good\n"
    h.send("exec", other, process=1, stdio=[])
    assert h.expect("failed", process=1)["message"]


def test_unknown_message_is_logged(guest):
    h = guest()
    h.send("nonsense")
    assert "nonsense" in h.expect("log")["message"]


def test_connection_lost_ends_it(guest):
    h = guest()
    h.run(sh("sleep 1000"), stdio=())
    h.sock.close()
    rc = h.process.wait(15)
    assert rc == 1 and b"closed the connection" in h.process.stderr.read()


def test_malformed_frame_ends_it(guest):
    h = guest()
    h.sock.sendall(struct.pack("<II", 0xffffffff, 0))
    assert h.process.wait(15) == 1
    assert b"lengths" in h.process.stderr.read()


def test_binds_and_files(guest):
    h = guest()
    share = os.path.join(h.work, "share-source")
    os.mkdir(os.path.join(share, "1"))
    with open(os.path.join(share, "1", "inside"), "w") as f:
        f.write("bound")
    with open(os.path.join(share, "2"), "w") as f:
        f.write("a file")
    c = sh("cat /data/inside /file; echo new >/data/made")
    c["mounts"] += [{"destination": "/data", "type": "bind", "source": "/host/data", "options": ["rbind"]},
                    {"destination": "/file", "type": "bind", "source": "/host/file", "options": ["bind", "ro"]}]
    s = h.run(c)
    assert s[1].read_all() == b"bounda file"
    assert h.expect("exited")["status"] == 0
    with open(os.path.join(share, "1", "made")) as f:
        assert f.read() == "new\n"


def test_devices(guest):
    h = guest()
    s = h.run(sh("head -c 3 /dev/zero | od -An -tx1; echo x >/dev/full; echo $?; ls -l /dev/null | cut -c1; "
                 "head -c1 /dev/kmsg; echo $?"))
    out = s[1].read_all().decode().split()
    assert out[:3] == ["00", "00", "00"] and out[3] == "1" and out[4] == "c" and out[5] == "1"


def test_absent_streams_are_null(guest):
    h = guest()
    s = h.run(sh("cat; for i in 0 2; do readlink /proc/self/fd/$i; done; echo lost >&2"), stdio=(1,))
    assert s[1].read_all() == b"/dev/null\n/dev/null\n"
    assert h.expect("exited")["status"] == 0


def test_stdout_is_closed_by_the_monitor(guest):
    """If the monitor closes stdout, the process's writes fail. They do not kill it with SIGPIPE, because a namespace's
    first process ignores that signal by default."""
    h = guest()
    s = h.run(sh("yes; exit $?"), stdio=(1,))
    assert s[1].read(2) == b"y\n"
    s[1].close()
    assert h.expect("exited")["status"] == status_exit(128 + signal.SIGPIPE)


def test_idle_stdout_is_closed_by_the_monitor(guest):
    """If the monitor closes stdout, the agent closes the pipe even if the process does not write."""
    h = guest()
    s = h.run(sh("read x; /bin/echo a; exit $?"), stdio=(0, 1))
    s[1].accept()
    s[1].close()
    time.sleep(0.3)
    s[0].send(b"go\n")
    assert h.expect("exited")["status"] == status_exit(128 + signal.SIGPIPE)


def test_process_closes_its_input(guest):
    h = guest()
    s = h.run(sh("exec <&-; echo closed; read x; sleep 1000"), stdio=(0, 1))
    assert s[1].read_until(b"closed\n")
    sock = s[0].accept()
    assert sock.recv(1) == b"", "the monitor learns it by the stream's end"


@pytest.mark.parametrize("size", [1 << 20, 20 << 20])
def test_much_output(guest, size):
    h = guest()
    s = h.run(sh(f"head -c {size} /dev/zero | tr '\\0' a"), stdio=(1,))
    out = s[1].read_all()
    assert len(out) == size and out.count(b"a") == size
    assert h.expect("exited")["status"] == 0


def test_much_input_to_a_slow_reader(guest):
    h = guest()
    s = h.run(sh("sleep 0.5; md5sum"), stdio=(0, 1))
    data = os.urandom(4096) * 2048
    s[0].send(data)
    s[0].end()
    assert s[1].read_all().split()[0].decode() == hashlib.md5(data).hexdigest()


def test_slow_monitor_gets_all_before_the_exit(guest):
    """A slow monitor gets all output: output without room waits, and the message about the exit comes after it."""
    h = guest()
    s = h.run(sh("head -c 400000 /dev/zero"), stdio=(1,))
    with pytest.raises(AssertionError):
        h.expect("exited", timeout=1)
    assert len(s[1].read_all()) == 400000
    assert h.expect("exited")["status"] == 0


def test_reopens_standard_streams(guest):
    h = guest()
    c = sh("echo one >/dev/stdout; echo two >/dev/stderr; cat /dev/stdin >/proc/self/fd/1")
    c["process"]["user"] = {"uid": 1000, "gid": 1000}
    s = h.run(c)
    s[0].send(b"three\n")
    s[0].end()
    assert s[1].read_all() == b"one\nthree\n" and s[2].read_all() == b"two\n"


def test_user_namespace(guest):
    h = guest()
    # As with the host's id-mapped mount, the guest sees the files as owned by the namespace's users.
    src = os.path.join(h.work, "share-source", "0")
    for d, subs, files in os.walk(src):
        for n in [d] + [os.path.join(d, f) for f in files]:
            os.lchown(n, 100000, 100000)
    c = sh("id -u; cat /proc/self/uid_map; echo again >/dev/stdout")
    config.namespaces(c, "user")
    m = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    c["linux"].update(uidMappings=m, gidMappings=m)
    s = h.run(c)
    out = s[1].read_all().split()
    assert out == b"0 0 100000 65536 again".split(), s[2].read_all()


# --- terminal ---

def terminal(script):
    return sh(script, terminal=True, consoleSize={"height": 30, "width": 100})


def test_terminal(guest):
    h = guest()
    s = h.run(terminal("stty size; tty; read x; echo got $x; exit 3"), stdio=(3,))
    out = s[3].read_until(b"/dev/pts/0")
    assert b"30 100" in out
    s[3].send(b"word\n")
    assert b"got word\r\n" in s[3].read_until(b"got word\r\n")
    assert h.expect("exited")["status"] == status_exit(3)
    assert s[3].read_all().strip() == b""


def test_terminal_resize(guest):
    h = guest()
    s = h.run(terminal("trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"), stdio=(3,))
    s[3].read_until(b"ready")
    h.send("resize", process=0, rows=50, columns=160)
    s[3].read_until(b"50 160")
    h.expect("exited")


def test_terminal_hangs_up(guest):
    h = guest()
    s = h.run(terminal("trap 'exit 5' HUP; echo ready; while :; do sleep 0.05; done"), stdio=(3,))
    s[3].read_until(b"ready")
    s[3].close()
    assert h.expect("exited")["status"] == status_exit(5)


def test_terminal_end_of_input(guest):
    h = guest()
    s = h.run(terminal("cat; echo over"), stdio=(3,))
    s[3].send(b"x\n")
    s[3].end()
    s[3].read_until(b"over")
    h.expect("exited")


def test_terminal_is_opened_again(guest):
    """The terminal does not end while an init has closed it and not yet opened it again."""
    h = guest()
    s = h.run(terminal("exec </dev/null >/dev/null 2>&1; sleep 0.3; echo back >/dev/console; sleep 0.1"), stdio=(3,))
    s[3].read_until(b"back")
    assert h.expect("exited")["status"] == 0


def test_terminal_without_its_stream(guest):
    h = guest()
    h.create(terminal("true"), stdio=(0, 1))
    assert "3 alone" in h.expect("failed", process=0)["message"]


def test_update_of_devices(guest):
    """An update replaces the device rules with which the container was made. A limit that the machine cannot set is
    refused."""
    h = guest()
    c = config.all_caps(sh("mknod /dev/x c 10 229; read x"))
    s = h.run(c)
    opens = {}
    for n, rules in enumerate([None, [{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"}],
                               [{"allow": False, "access": "rwm"}]]):
        if rules:
            assert h.update({"devices": rules})["errno"] == 0
        # The open may still fail, because the device may not exist here.
        e = h.exec(n + 1, process_of(c, "/bin/sh", "-c", "until test -e /dev/x; do :; done; : </dev/x"), stdio=(2,))
        opens[n] = b"not permitted" not in e[2].read_all()
    assert opens == {0: False, 1: True, 2: False}
    much = h.update({"unified": {"memory.max": "64P"}})
    assert much["errno"] == 22 and 'linux.resources.unified["memory.max"]' in much["message"], much
    assert "vm.hwConfig.memory" in much["message"]
    much = h.update({"memory": {"limit": 1 << 56}})
    assert much["errno"] == 22 and "linux.resources.memory.limit" in much["message"], much
    s[0].end()


def test_requests_before_a_container(guest):
    h = guest()
    for what in ("ps", "stats", "freeze"):
        r = h.ask(what)
        assert r["errno"] == 3 and r["message"] == "container not running"


def test_hook_in_the_guest(guest):
    h = guest()
    c = sh("cat /state")
    c["annotations"] = {"k": "v"}
    c["hooks"] = {"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "cat >/state"]}]}
    s = h.run(c)
    state = json.loads(s[1].read_all())
    assert state["id"] == "c1" and state["bundle"] == "/the/bundle" and state["annotations"] == {"k": "v"}
    assert state["status"] == "created" and state["pid"] > 1


def test_seccomp(guest):
    """The agent loads a compiled filter, here one that refuses mkdir(2) with EPERM (x86-64)."""
    h = guest()
    c = sh("mkdir /x; echo $?")
    c["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                             "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}
    load, jeq, ret = 0x20, 0x15, 0x06
    program = b"".join(struct.pack("<HBBI", *i) for i in (
        (load, 0, 0, 0), (jeq, 0, 1, 83), (ret, 0, 0, 0x00050001), (ret, 0, 0, 0x7fff0000)))
    s = h.create(c, seccomp=program)
    h.expect("reached", process=0)
    h.send("start", process=0)
    h.expect("running", process=0)
    assert s[1].read_all() == b"1\n"
    assert b"not permitted" in s[2].read_all()


def test_rlimits_and_oom_score(guest):
    h = guest()
    c = sh("ulimit -n; cat /proc/self/oom_score_adj")
    c["process"].update(rlimits=[{"type": "RLIMIT_NOFILE", "soft": 512, "hard": 600}], oomScoreAdj=123)
    s = h.run(c, stdio=(1,))
    assert s[1].read_all() == b"512\n123\n"


def test_second_container_is_refused(running):
    h, c = running
    h.send("create", h.make_blob(config=c, facts={"id": "c2", "bundle": "/b", "keyring": "_ses.c2"}), process=0, stdio=[])
    assert "already" in h.expect("failed")["message"]


ECHO = "while read line; do echo got $line; done; echo end"


def test_suspend_and_resume(guest):
    """Between the reply to "suspend" and "resume" no bytes flow and no message comes. Nothing is lost."""
    h = guest()
    s = h.run(sh(ECHO))
    s[0].send(b"one\n")
    s[1].read_until(b"got one\n")
    assert not h.hello["suspended"]
    assert h.ask("suspend", port=7777)["errno"] == 0
    s[0].send(b"two\n")
    s[0].end()
    with pytest.raises(AssertionError):
        s[1].read_until(b"got", timeout=0.5)
    h.send("resume")
    h.expect("resumed")
    assert s[1].read_all() == b"got two\nend\n"
    assert h.expect("exited", process=0)["status"] == 0


def test_a_restored_agent_connects_again(guest):
    """Input that the program had not read is not lost. All output came before the reply, or comes afterwards."""
    h = guest()
    s = h.run(sh(ECHO))
    big = b"".join(b"%d\n" % i for i in range(20000))  # more than a pipe holds
    s[0].send(big)
    time.sleep(0.2)
    listener = h.listen(7777)
    assert h.ask("suspend", port=7777)["errno"] == 0
    out = b""
    while select.select([s[1].accept()], [], [], 0.3)[0]:
        out += s[1].read()
    for stream in s.values():
        stream.accept()
        stream.close()
    h.reconnect(listener)
    assert h.hello["suspended"]
    new = {n: Stream(h.listen(stream_port(9, n))) for n in (0, 1, 2)}
    h.send("resume", b"seed", time=time.time_ns(), stdio=[{"stream": n, "port": stream_port(9, n)} for n in new])
    h.expect("resumed")
    new[0].send(b"last\n")
    new[0].end()
    assert out + new[1].read_all() == b"".join(b"got %d\n" % i for i in range(20000)) + b"got last\nend\n"
    assert h.expect("exited", process=0)["status"] == 0


def test_suspend_is_refused(guest):
    h = guest()
    s = h.create(sh("sleep 1000"), attached=False)
    h.expect("reached", process=0, barrier="created")
    assert "does not run yet" in h.ask("suspend", port=7777)["message"]
    h.send("start", process=0)
    h.expect("running", process=0)
    h.exec(1, process_of(sh("true"), "sh", "-c", "echo up; sleep 1000"))[1].read_until(b"up\n")
    reply = h.ask("suspend", port=7777)
    assert reply["errno"] and "a process of `exec` runs" in reply["message"]
    h.send("signal", process=1, signal=int(signal.SIGKILL))
    h.expect("exited", process=1)
    assert h.ask("suspend", port=7777)["errno"] == 0 and s
    h.send("resume")
    h.expect("resumed")


def test_an_agent_of_a_template(guest):
    """A template is saved before "create". The agent gets random bytes and the time before it makes the container."""
    h = guest()
    listener = h.listen(7777)
    assert h.ask("suspend", port=7777)["errno"] == 0
    h.reconnect(listener)
    assert h.hello["suspended"]
    h.send("resume", b"seed", time=time.time_ns())
    s = h.run(sh("echo made"))
    assert s[1].read_all() == b"made\n"
    assert h.expect("exited", process=0)["status"] == 0
