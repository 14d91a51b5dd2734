#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever runs QEMU's microvm machine and was told that it has no hotplug, because it has no PCI bus.
#
# QEMU (7.2 of Debian 12, 10.0 of Debian 13) refuses device_add on a virtio-mmio bus: "does not support hotplugging". The one
# thing that it misses there is a hotplug handler, and each bus has its handler as the QOM property "hotplug-handler", which
# qom-set may set while the machine runs, to any object that is a handler. The bus of a virtio-scsi-device is one that fits:
# it does nothing when a device is plugged, and unplugs a device at once. The path and the value may be bare names.
# Then device_add and device_del work on virtio-mmio, for virtio-blk, virtio-net and others. A transport without a device
# reads DeviceID 0. Linux looks at it again if its name is written to /sys/bus/platform/drivers/virtio-mmio/bind. The ACPI
# tables describe only the transports that had a device when QEMU started, so a placeholder has to be there then.
# An image's node can be deleted only after the event DEVICE_DELETED, and its descriptor is closed only while the machine runs.
#
# Observed output of this script:
#   device_add: Bus 'virtio-mmio-bus.0' does not support hotplugging
#   device_add with a handler: done
#   device_del: done
#   after DEVICE_DELETED the bus has 0 devices
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -q qemu-system-{x86,common}="1:7.2+dfsg-7+deb12u18+b3" seabios >/dev/null 2>&1
for deb in *.deb; do dpkg -x "$deb" root; done
# The libraries of QEMU are those of any Debian 12 that has qemu-system-x86's dependencies.
export QEMU_MODULE_DIR=$dir/root/usr/lib/x86_64-linux-gnu/qemu
found=$(python3 - <<'PY'
import json
import socket
import subprocess

ours, theirs = socket.socketpair()
qemu = subprocess.Popen(["root/usr/bin/qemu-system-x86_64", "-L", "root/usr/share/seabios", "-nodefaults", "-display", "none", "-machine", "microvm,acpi=on", "-accel", "tcg",
                         "-device", "virtio-scsi-device,id=hba,bus=virtio-mmio-bus.23", "-chardev", f"socket,id=qmp,fd={theirs.fileno()}",
                         "-mon", "chardev=qmp,mode=control"], pass_fds=[theirs.fileno()])
theirs.close()
messages = (json.loads(line) for line in ours.makefile("r"))


def command(name, **arguments):
    ours.sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
    answer = next(m for m in messages if "return" in m or "error" in m)
    return answer["error"]["desc"] if "error" in answer else answer["return"] or "done"


try:
    command("qmp_capabilities")
    device = {"driver": "virtio-balloon-device", "id": "new", "bus": "virtio-mmio-bus.0"}
    print("device_add:", command("device_add", **device))
    command("qom-set", path="virtio-mmio-bus.0", property="hotplug-handler", value="hba.0")
    print("device_add with a handler:", command("device_add", **device))
    print("device_del:", command("device_del", id="new"))
    next(m for m in messages if m.get("event") == "DEVICE_DELETED")
    left = [p for p in command("qom-list", path="virtio-mmio-bus.0") if p["name"].startswith("child[")]
    print(f"after DEVICE_DELETED the bus has {len(left)} devices")
finally:
    qemu.kill()
    qemu.wait()
PY
)
echo "$found"
[ "$found" = "device_add: Bus 'virtio-mmio-bus.0' does not support hotplugging
device_add with a handler: done
device_del: done
after DEVICE_DELETED the bus has 0 devices" ]
