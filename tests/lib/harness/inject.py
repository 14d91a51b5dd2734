# SPDX-License-Identifier: Apache-2.0
"""Makes system calls of a process that runs fail, by strace."""
import contextlib
import os
import subprocess

from .runtime import wait_for


def _traced(pid):
    with open(f"/proc/{pid}/status") as f:
        return "TracerPid:\t0\n" not in f.read()


@contextlib.contextmanager
def errors(pid, call, error):
    """Each of these system calls of the process fails with this error. strace makes it a getpid(2), which a filter of system calls allows,
    where it would else become one without a number."""
    threads = os.listdir(f"/proc/{pid}/task")
    p = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error={error}:syscall=getpid", "-p", str(pid)])
    try:
        wait_for(lambda: all(_traced(t) for t in threads), "strace to attach to the process")
        yield
    finally:
        p.terminate()
        p.wait(timeout=30)
