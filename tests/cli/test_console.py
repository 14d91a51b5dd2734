# SPDX-License-Identifier: Apache-2.0
"""Tests terminals: the master that is sent over --console-socket, and run/exec -t on the caller's own terminal."""
import fcntl
import os
import pty
import select
import signal
import subprocess
import termios
import time

import pytest
from harness.pty_ import OnTerminal, Receiver, read_all, read_until, set_size
from harness.runtime import wait_for


def test_create_sends_the_master(ctr, tmp):
    c = ctr.sh("tty; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo three; read line; echo got $line", terminal=True)
    with Receiver(os.path.join(tmp, "console")) as rcv:
        c.create("--console-socket", rcv.path)
        fd = rcv.wait()
        assert os.isatty(fd)
        c.start()
        read_until(fd, b"three")
        os.write(fd, b"word\n")
        read_until(fd, b"got word")
        c.wait()


def test_is_the_controlling_terminal_and_dev_console(ctr, tmp):
    c = ctr.sh("echo via-tty > /dev/tty; echo via-console > /dev/console; stat -c %F,%U /dev/console; ls -l /dev/console",
               terminal=True)
    with Receiver(os.path.join(tmp, "console")) as rcv:
        c.create("--console-socket", rcv.path)
        fd = rcv.wait()
        c.start()
        out = read_all(fd)
        assert b"via-tty" in out and b"via-console" in out and b"character special" in out, out
        c.wait()


def test_interrupt_from_the_keyboard(ctr, tmp):
    c = ctr.sh("trap 'echo interrupted; exit 0' INT; echo up; while :; do sleep 0.05; done", terminal=True)
    with Receiver(os.path.join(tmp, "console")) as rcv:
        c.create("--console-socket", rcv.path)
        fd = rcv.wait()
        c.start()
        read_until(fd, b"up")
        os.write(fd, b"\x03")
        read_until(fd, b"interrupted")
        c.wait()


def test_console_size(ctr, tmp):
    c = ctr("stty", "size", terminal=True, consoleSize={"height": 37, "width": 111})
    with Receiver(os.path.join(tmp, "console")) as rcv:
        c.create("--console-socket", rcv.path)
        fd = rcv.wait()
        c.start()
        assert b"37 111" in read_all(fd)
        c.wait()


def test_terminal_owned_by_the_user(ctr, tmp):
    c = ctr.sh("stat -c %u $(tty); echo x > $(tty)", terminal=True, user={"uid": 1000, "gid": 1000})
    with Receiver(os.path.join(tmp, "console")) as rcv:
        c.create("--console-socket", rcv.path)
        fd = rcv.wait()
        c.start()
        out = read_all(fd)
        assert b"1000" in out and b"denied" not in out, out
        c.wait()


def test_terminal_without_a_socket(ctr):
    r = ctr("true", terminal=True).create(check=False)
    r.failed("console")


def test_socket_without_a_terminal(ctr, tmp):
    with Receiver(os.path.join(tmp, "console")) as rcv:
        ctr("true").create("--console-socket", rcv.path, check=False).failed("terminal")


def test_socket_that_nobody_listens_to(ctr, tmp):
    c = ctr("true", terminal=True)
    c.create("--console-socket", os.path.join(tmp, "nobody"), check=False).failed("nobody")
    assert not c.exists()


def test_socket_path_longer_than_sun_path(ctr, tmp):
    """Engines' bundle directories are deep; a path over 108 bytes must work or be refused clearly."""
    d = os.path.join(tmp, "d" * 120)
    os.mkdir(d)
    old = os.getcwd()
    os.chdir(d)
    try:
        with Receiver("console") as rcv:
            c = ctr("true", terminal=True)
            r = c.create("--console-socket", os.path.join(d, "console"), check=False)
            if r.rc == 0:
                rcv.wait()
                c.start()
                c.wait()
            else:
                r.failed("console")
    finally:
        os.chdir(old)


def test_pidfd_socket(ctr, tmp):
    c = ctr.idle()
    with Receiver(os.path.join(tmp, "pidfd")) as rcv:
        c.create("--pidfd-socket", rcv.path)
        fd = rcv.wait()
        with open(f"/proc/self/fdinfo/{fd}") as f:
            info = dict(l.split(":", 1) for l in f if ":" in l)
        assert int(info["Pid"]) == c.pid()
        c.start()
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        assert select.select([fd], [], [], 10)[0], "the pidfd tells of the end"
        c.wait()


def test_exec_console_socket(ctr, tmp):
    c = ctr.idle().up()
    with Receiver(os.path.join(tmp, "console")) as rcv:
        p = c.rt.popen("exec", "--tty", "--console-socket", rcv.path, "--detach", c.id, "sh", "-c", "tty; echo on $(tty)")
        fd = rcv.wait()
        out = read_until(fd, b"on /dev/pts/")
        assert p.wait(10) == 0, out


def test_size_set_at_once(ctr, tmp):
    """The terminal keeps the size that the engine sets as soon as it gets the master, long before the program runs."""
    c = ctr.sh("stty size; exec sleep 1000", terminal=True)
    with Receiver(os.path.join(tmp, "console")) as rcv:
        c.create("--console-socket", rcv.path)
        set_size(rcv.wait(), 31, 91)
        c.start()
        read_until(rcv.fd, b"31 91")
    with Receiver(os.path.join(tmp, "console")) as rcv:
        p = c.rt.popen("exec", "--tty", "--console-socket", rcv.path, "--detach", c.id, "sh", "-c", "sleep 0.5; stty size; read x")
        set_size(rcv.wait(), 32, 92)
        read_until(rcv.fd, b"32 92")
        assert p.wait(10) == 0


@pytest.mark.parametrize("how", ["run", "exec"])
def test_run_on_the_callers_terminal(ctr, how):
    script = "stty size; echo ready; read l; echo got:$l; exit 7"
    if how == "run":
        c = ctr.sh(script, terminal=True).write()
        args = ["run", "--bundle", c.bundle, c.id]
    else:
        c = ctr.idle().up()
        args = ["exec", "-t", c.id, "sh", "-c", script]
    with OnTerminal(c.rt, *args, rows=31, cols=97) as t:
        out = read_until(t.fd, b"ready")
        assert b"31 97" in out
        os.write(t.fd, b"line\n")
        read_until(t.fd, b"got:line")
        assert t.p.wait(10) == 7
        assert termios.tcgetattr(t.slave) == t.before, "the caller's terminal is as it was"


@pytest.mark.parametrize("how", ["run", "exec"])
def test_terminal_follows_a_resize(ctr, how):
    if how == "run":
        c = ctr("probe", "winsize", terminal=True).write()
        args = ["run", "--bundle", c.bundle, c.id]
    else:
        c = ctr.idle().up()
        args = ["exec", "-t", c.id, "probe", "winsize"]
    with OnTerminal(c.rt, *args, rows=24, cols=80) as t:
        read_until(t.fd, b"size 24 80")
        set_size(t.fd, 50, 132)
        read_until(t.fd, b"size 50 132")
        os.write(t.fd, b"\x03")  # in raw mode the container's terminal makes the SIGINT
        rc = t.p.wait(10) if how == "exec" else None
        if how == "exec":
            assert rc == 128 + signal.SIGINT
        else:
            c.kill("KILL")
            assert t.p.wait(10) == 128 + signal.SIGKILL


def test_large_output_is_whole(ctr):
    """The relay passes on all output, even the last bytes before the end."""
    c = ctr.sh("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; echo the end", terminal=True).write()
    with OnTerminal(c.rt, "run", "--bundle", c.bundle, c.id) as t:
        out = read_until(t.fd, b"the end", timeout=120)
        assert out.count(b"line ") == 20000
        assert t.p.wait(10) == 0


def test_terminal_restored_when_the_container_is_killed(ctr):
    c = ctr.sh("echo up; sleep 100", terminal=True).write()
    with OnTerminal(c.rt, "run", "--bundle", c.bundle, c.id) as t:
        read_until(t.fd, b"up")
        c.kill("KILL")
        assert t.p.wait(10) == 137
        assert termios.tcgetattr(t.slave) == t.before


def test_run_detached_with_terminal_needs_a_socket(ctr):
    ctr("true", terminal=True).run("--detach").failed("console")


@pytest.mark.parametrize("how", ["run", "exec"])
def test_terminal_closed_and_opened_again(ctr, how):
    """The relay goes on after an init has closed its terminal and opens it again later."""
    script = "echo first; exec 0<&- 1>&- 2>&-; sleep 0.3; echo second >/dev/console"
    if how == "run":
        c = ctr.sh(script, terminal=True).write()
        args = ["run", "--bundle", c.bundle, c.id]
    else:
        c = ctr.idle().up()
        args = ["exec", "-t", c.id, "sh", "-c", "t=$(tty); " + script.replace("/dev/console", "$t")]
    with OnTerminal(c.rt, *args) as t:
        read_until(t.fd, b"second")
        assert t.p.wait(10) == 0


def test_reader_of_standard_output_goes_away(ctr):
    """When the master is gone, writing to the terminal must fail and not wait."""
    c = ctr.sh("trap '' HUP; while echo a line of some length; do :; done; exit 9", terminal=True).write()
    p = c.rt.popen("run", "--bundle", c.bundle, c.id, stdout=subprocess.PIPE)
    p.stdout.read(100)
    p.stdout.close()
    try:
        assert p.wait(10) == 9
    finally:
        p.kill()
        p.wait()


def test_input_that_nobody_reads(ctr):
    """If nobody reads the terminal that the program fills, neither signals nor the output wait for it."""
    c = ctr.sh("stty raw; trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done", terminal=True).write()
    r, w = os.pipe()
    os.set_blocking(w, False)
    p = c.rt.popen("run", "--bundle", c.bundle, c.id, stdin=r, stdout=subprocess.PIPE)
    try:
        out = read_until(p.stdout.fileno(), b"ready")
        end = time.monotonic() + 1
        while time.monotonic() < end:
            try:
                os.write(w, b"x" * 65536)
            except BlockingIOError:
                time.sleep(0.05)
        p.send_signal(signal.SIGTERM)
        assert p.wait(10) == 5
        assert b"caught" in out + p.stdout.read()
    finally:
        p.kill()
        p.wait()
        p.stdout.close()
        os.close(r)
        os.close(w)


def test_background_job_does_not_touch_the_terminal(ctr):
    """A command in the background stops, like any background program of a shell, until the shell brings it to the
    foreground."""
    c = ctr.sh("echo up; exit 3", terminal=True).write()
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    shell = os.fork()
    if shell == 0:  # a shell with job control, reduced to what matters here
        try:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            p = subprocess.Popen(c.rt.argv("run", "--bundle", c.bundle, c.id), stdin=slave, stdout=slave, stderr=slave,
                                 preexec_fn=lambda: (os.setpgid(0, 0), signal.signal(signal.SIGTTOU, signal.SIG_DFL)))
            _, status = os.waitpid(p.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status) or termios.tcgetattr(slave) != before:
                os._exit(100)
            os.tcsetpgrp(slave, p.pid)
            os.killpg(p.pid, signal.SIGCONT)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(p.pid, 0)[1]))
        finally:
            os._exit(101)
    try:
        read_until(master, b"up")
        assert os.waitstatus_to_exitcode(os.waitpid(shell, 0)[1]) == 3
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)
