#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""net.py [--build DIR] [--rounds N] [--beside N] [--traffic SECONDS]: attaching a container with one published port, and detaching it again.

Measures caisson-net, podman's netavark, and CNI's bridge and portmap plug-ins in interleaved rounds, in network and mount
namespaces of its own, and prints medians and ratios. --beside attaches that many other containers to caisson's network first.
--traffic measures instead what passes: between two containers, and from another machine to a published port, in bytes (iperf3)
and in connections. The other machine is a namespace with a link of its own to the host.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NETAVARK = ["/usr/lib/podman/netavark", "/usr/libexec/podman/netavark"]
CNI = ["/usr/lib/cni", "/opt/cni/bin"]


def call(*argv, stdin="", **env):
    start = time.perf_counter()
    p = subprocess.run(argv, input=stdin, capture_output=True, text=True, env={**os.environ, **env})
    if p.returncode:
        sys.exit(f"{' '.join(argv)}: exit code {p.returncode}\n{p.stdout}{p.stderr}")
    return time.perf_counter() - start, p.stdout


# The server answers each connection with one byte. The client counts how many it makes; it ends them by a reset, so that they leave nothing.
CONNECTIONS = """
import socket, struct, sys, time
if sys.argv[1] == "serve":
    s = socket.create_server(("0.0.0.0", 5202), backlog=1000)
    print("ready", flush=True)
    while True:
        c, _ = s.accept()
        c.send(b"x")
        c.close()
end, n = time.monotonic() + float(sys.argv[4]), 0
while time.monotonic() < end:
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.connect((sys.argv[2], int(sys.argv[3])))
    s.recv(1)
    s.close()
    n += 1
print(n / float(sys.argv[4]))
"""


class Caisson:
    name = "caisson"

    def __init__(self, build):
        self.argv = [os.path.join(build, "runtime/caisson-net"), "--config", "/run/bench/net", "--state", "/run/bench/state"]
        call(*self.argv, "create", "--no-dns", "--subnet", "10.91.0.0/16", "web")

    def attach(self, ns):
        return call(*self.argv, "attach", "web", "/run/netns/" + ns, "-p", "8080:80")[0]

    def pair(self, server, client):
        """Attaches both. The server's ports 5201 and 5202 are published as 8201 and 8202. Returns the server's address and the published ports."""
        out = call(*self.argv, "attach", "--json", "web", "/run/netns/" + server, "-p", "8201-8202:5201-5202")[1]
        call(*self.argv, "attach", "web", "/run/netns/" + client)
        return next(a["address"].split("/")[0] for a in json.loads(out)["addresses"] if ":" not in a["address"]), 8201

    def detach(self, ns):
        return call(*self.argv, "detach", "web", "/run/netns/" + ns)[0]


class Netavark:
    name = "netavark"
    config = json.dumps({
        "container_id": "b" * 64, "container_name": "bench", "port_mappings": [
            {"container_port": 80, "host_port": 8081, "host_ip": "", "protocol": "tcp", "range": 1}],
        "networks": {"bench": {"interface_name": "eth0", "static_ips": ["10.92.0.2"]}},
        "network_info": {"bench": {
            "name": "bench", "id": "c" * 64, "driver": "bridge", "network_interface": "bench9", "dns_enabled": False, "internal": False,
            "ipv6_enabled": False, "subnets": [{"subnet": "10.92.0.0/16", "gateway": "10.92.0.1"}], "ipam_options": {"driver": "host-local"}}}})

    def __init__(self, path):
        self.path = path

    def pair(self, server, client):
        for i, (ns, ports) in enumerate(((server, 2), (client, 0)), 10):
            c = json.loads(self.config)
            c["container_id"], c["container_name"] = str(i) * 32, f"pair{i}"
            c["port_mappings"] = [{"container_port": 5201 + k, "host_port": 8301 + k, "host_ip": "", "protocol": "tcp", "range": 1} for k in range(ports)]
            c["networks"]["bench"]["static_ips"] = [f"10.92.0.{i}"]
            call(self.path, "--config", "/run/bench/netavark", "setup", "/run/netns/" + ns, stdin=json.dumps(c))
        return "10.92.0.10", 8301

    def attach(self, ns):
        return call(self.path, "--config", "/run/bench/netavark", "setup", "/run/netns/" + ns, stdin=self.config)[0]

    def detach(self, ns):
        return call(self.path, "--config", "/run/bench/netavark", "teardown", "/run/netns/" + ns, stdin=self.config)[0]


class Cni:
    name = "CNI"

    def __init__(self, path):
        self.path = path

    def run(self, command, ns, plugin, **conf):
        conf = {"cniVersion": "1.0.0", "name": "bench", "type": plugin, **conf}
        seconds, out = call(os.path.join(self.path, plugin), stdin=json.dumps(conf), CNI_COMMAND=command, CNI_CONTAINERID="bench", CNI_IFNAME="eth0",
                            CNI_NETNS="/run/netns/" + ns, CNI_PATH=self.path)
        return seconds, json.loads(out) if out else None

    def both(self, command, ns):
        bridge = {"bridge": "bench8", "isGateway": True, "ipMasq": True,
                  "ipam": {"type": "host-local", "dataDir": "/run/bench/cni", "ranges": [[{"subnet": "10.93.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}}
        ports = {"runtimeConfig": {"portMappings": [{"hostPort": 8082, "containerPort": 80, "protocol": "tcp"}]}}
        if command == "DEL":
            return self.run("DEL", ns, "portmap", **ports)[0] + self.run("DEL", ns, "bridge", **bridge)[0]
        seconds, result = self.run("ADD", ns, "bridge", **bridge)
        return seconds + self.run("ADD", ns, "portmap", prevResult=result, **ports)[0]

    def attach(self, ns):
        return self.both("ADD", ns)

    def detach(self, ns):
        return self.both("DEL", ns)


def namespace(name):
    call("ip", "netns", "add", name)
    call("ip", "-n", name, "link", "set", "lo", "up")


def inside(ns, *argv):
    return ["ip", "netns", "exec", ns, *argv]


def start(ns, *argv, ready):
    p = subprocess.Popen(inside(ns, *argv), stdout=subprocess.PIPE, text=True)
    while ready not in p.stdout.readline():
        pass
    return p


def rates(client, address, port, seconds):
    """Bits and connections in a second."""
    out = call(*inside(client, "iperf3", "-J", "-c", address, "-p", str(port), "-t", str(seconds)))[1]
    made = call(*inside(client, sys.executable, "-c", CONNECTIONS, "ask", address, str(port + 1), str(seconds)))[1]
    return json.loads(out)["end"]["sum_received"]["bits_per_second"], float(made)


def traffic(programs, rounds, seconds):
    namespace("outside")
    call("ip", "link", "add", "up0", "type", "veth", "peer", "name", "out0", "netns", "outside")
    for words in ("addr add 192.0.2.1/24 dev up0", "link set up0 up", "-n outside addr add 192.0.2.2/24 dev out0", "-n outside link set out0 up"):
        call("ip", *words.split())
    places, servers = {}, []
    for x in programs:
        pair = [f"{x.name}-server", f"{x.name}-client"]
        for ns in pair:
            namespace(ns)
        address, port = x.pair(*pair)
        servers += [start(pair[0], "iperf3", "-s", "--forceflush", ready="listening"),
                    start(pair[0], sys.executable, "-u", "-c", CONNECTIONS, "serve", ready="ready")]
        places[x.name] = {"between containers": (pair[1], address, 5201), "published port": ("outside", "192.0.2.1", port)}
    found = {}
    for i in range(rounds):
        for way in ("between containers", "published port"):
            for name in sorted(places, reverse=bool(i % 2)):
                for what, rate in zip(("Gbit/s", "connections/s"), rates(*places[name][way], seconds)):
                    found.setdefault((way, what, name), []).append(rate / (1e9 if what == "Gbit/s" else 1))
    for s in servers:
        s.kill()
    for (way, what, name), all_ in sorted(found.items()):
        # Those of one round were measured next to each other, so that their ratio says more than that of the medians on a busy machine.
        ratios = [own / other for own, other in zip(found[way, what, "caisson"], all_)]
        print(f"{way:19} {what:14} {name:9} {statistics.median(all_):9.1f}" +
              ("" if name == "caisson" else f"   caisson / {name}, median of {rounds} rounds: {statistics.median(ratios):.2f}"))


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--build", default=os.path.join(TOP, "build"), help="meson's build directory")
    p.add_argument("--rounds", type=int, default=20)
    p.add_argument("--beside", type=int, default=0, help="other containers that are attached meanwhile")
    p.add_argument("--traffic", type=int, default=0, metavar="SECONDS", help="measure traffic, each time for so long")
    p.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    o = p.parse_args()
    if not o.inside:
        os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--inside"])
    call("mount", "-t", "tmpfs", "bench", "/run")
    call("ip", "link", "set", "lo", "up")
    programs = [Caisson(os.path.abspath(o.build))]
    programs += [Netavark(f) for f in NETAVARK if os.path.exists(f)][:1] + [Cni(d) for d in CNI if os.path.exists(d + "/portmap")][:1]
    if o.traffic:
        return traffic([x for x in programs if hasattr(x, "pair")], o.rounds, o.traffic)
    for i in range(o.beside):
        namespace(f"o{i}")
        call(*programs[0].argv, "attach", "web", f"/run/netns/o{i}", "-p", f"{10000 + i}:80")
    seconds = {(x.name, what): [] for x in programs for what in ("attach", "detach")}
    for _ in range(o.rounds):
        for x in programs:
            namespace("bench")
            seconds[x.name, "attach"].append(x.attach("bench"))
            seconds[x.name, "detach"].append(x.detach("bench"))
            call("ip", "netns", "del", "bench")
    for (name, what), all_ in seconds.items():
        median, own = statistics.median(all_), statistics.median(seconds["caisson", what])
        print(f"{name:9} {what}  {median * 1000:7.1f} ms" + ("" if name == "caisson" else f"   caisson / {name}: {own / median:.2f}"))


if __name__ == "__main__":
    main()
