# SPDX-License-Identifier: Apache-2.0
"""
One bundle, two depths of isolation: a PostgreSQL cluster that a container in namespaces makes is served by a microVM on
the same root, and what was written there is there for the next container. On QEMU in software, so the load is small.
"""
import os
import re

import pytest

from harness import config, machine, mode, rootfs

BOOT = 240
DATA = "/var/lib/postgresql/t"
OPTIONS = "-c listen_addresses= -c unix_socket_directories=/tmp"


@pytest.fixture
def postgres(ctr):
    tree = rootfs.debian("postgresql", "postgresql-contrib")
    b = ctr.bundle(copy=False)
    for d in ("rootfs", "up", "wk"):
        os.mkdir(os.path.join(b, d))
    machine.mount("overlay", b + "/rootfs", "overlay", data=f"lowerdir={tree},upperdir={b}/up,workdir={b}/wk")

    def make(script):
        c = ctr("setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups", "sh", "-ec", script, bundle=b)
        c.conf["process"]["env"] = ["PATH=/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
        c.conf["process"]["noNewPrivileges"] = False
        for s in ("bounding", "effective", "permitted"):
            c.conf["process"]["capabilities"][s] = config.CAPS + ["CAP_SETUID", "CAP_SETGID", "CAP_CHOWN", "CAP_DAC_OVERRIDE"]
        return c

    yield make
    ctr.clean()
    machine.umount(b + "/rootfs", 0)


def history(postgres):
    c = postgres(f"pg_ctl -D {DATA} -w -o '{OPTIONS}' start >/tmp/start; psql -h /tmp -At -c 'select count(*) from "
                 f"pgbench_history' postgres; pg_ctl -D {DATA} -w stop >/tmp/stop")
    return int(c.run(timeout=60).ok().out.split()[0])


def test_postgres(postgres):
    postgres(f"initdb -D {DATA} -A trust -N >/dev/null; pg_ctl -D {DATA} -w -o '{OPTIONS}' start >/tmp/start; "
             f"pgbench -h /tmp -i -s 1 postgres 2>&1; pg_ctl -D {DATA} -w stop >/tmp/stop").run(timeout=120).ok()
    assert history(postgres) == 0
    c = postgres(f"exec postgres -D {DATA} {OPTIONS} 2>&1")
    c.conf["vm"] = {"kernel": {"path": mode.guest_kernel(rootfs.CACHE)}, "hwConfig": {"memory": 1 << 29}}
    c.create("--isolation", "vm", "--hypervisor", "qemu", timeout=BOOT)
    c.start(timeout=BOOT)
    c.wait_output("ready to accept connections", timeout=BOOT)
    r = c.exec("pgbench", "-h", "/tmp", "-U", "postgres", "-n", "-c", "2", "-t", "25", "postgres", timeout=BOOT).ok()
    assert re.search(r"transactions actually processed: 50/50", r.out), r
    c.kill("INT")
    c.wait(timeout=60)
    assert "database system is shut down" in c.output()
    c.delete()
    assert history(postgres) == 50, "what the microVM wrote is on the host"
