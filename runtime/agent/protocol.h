/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent protocol: the messages between the monitor (host) and caisson-guest (guest) over one
 * vsock stream. Both link agent.c, and neither trusts the lengths that the other one sends.
 *
 * The guest's init connects to AGENT_PORT of the host and sends "hello". From then on both send
 * frames: a header, a JSON object with a member "type", and for some types a blob of bytes. The
 * monitor first sends "create" with the orders (agent/orders.h): the GUEST and INIT steps of the
 * plan that the runtime made on the host, as checked bytes.
 *
 * The monitor numbers the processes: 0 is the container's, and each exec has a number of its own,
 * which is never used twice. Barriers, errors and exit statuses are the same as on the channel in
 * namespace mode (ns/channel.h), so the monitor only forwards them.
 *
 * To add a message, list it here, then:
 *	host to guest   send it in monitor/guest.c (monitor_send_...), or forward a request of a
 *			command in monitor/control.c; handle it in guest/serve.c (the table
 *			"handlers")
 *	guest to host   send it with guest_send() in guest/; handle it in monitor/guest.c
 *			(monitor_on_frame())
 *
 * In a machine with an operating system of its own the agent is a service (guest/service.c), which
 * `caisson machine install-agent` has put into the disk. It connects to AGENT_SERVICE_PORT, from a
 * vsock port below 1024, may connect again after its connection has ended, and has no process 0. It
 * handles exec, signal, resize, ps, clock and stop, and sends hello, running, failed, exited, reply
 * and log. Because it may come from another build of caisson, the blob of its "exec" is that of
 * agent/program.h, and a change of these messages needs another AGENT_VERSION.
 *
 * Host to guest. The "id" of a request comes back in its "reply".
 *	create   {process: 0, net, stdio, time, devices}; blob: agent_orders_pack(). time:
 *		 nanoseconds since 1970. net: see net_config.h; if it is absent, there is only lo.
 *		 devices: [{slot}, ...], the machine's slots in which the driver has to look for
 *		 devices, because the machine has got them after the kernel booted
 *	start    {process: 0}
 *	exec     {process: N, stdio}; blob: agent_orders_pack()
 *	signal   {process, signal, all: bool}; has no reply; no error if the process has ended
 *	resize   {process, rows, columns}
 *	freeze   {id, frozen: bool}
 *	ps       {id}; the reply has processes: [{pid, ppid, uid, stime, time, tty, command}].
 *		 stime: its start, seconds since 1970; time: CPU seconds; tty: "pts/0" or "?";
 *		 command: the arguments, or [name]
 *	stats    {id}; the reply has stats: {...}, as cg_stats() writes it
 *	update   {id, undo: bool}: takes back the last update
 *	update   {id, grown: bool}; blob: agent_limits_pack(). grown: the machine has got enough
 *		 memory for the limits while it ran
 *	cpus     {id, count}; the reply comes when the kernel has the first `count` CPUs on line and
 *		 the others off line
 *	attach   {id, slot, kind: "net", name, net}; a device was attached to the running
 *		 machine: the reply comes when the container can use it. slot: the device's number
 *		 in the machine; net: see net_config.h, with this one interface
 *		 kind: "disk", with readOnly: the disk gets the device node `name` in the container
 *		 kind: "volume", with readOnly: the disk's file system is mounted at `name`
 *		 kind: "mount", with share and attr: the mount `share` in the share was added. It
 *		 gets the flags attr (MOUNT_ATTR_*), and the target `name` in the container
 *	detach   {id, slot, kind, name, share}; the reply comes when the guest has released the
 *		 device
 *	clock    {time}; sent when the host's clock was set, after a suspend of the host, and after
 *		 SIGCONT, because a guest that was stopped may have a clock that is late
 *	suspend  {id, port}; asks the agent to get ready for a snapshot of the machine: no bytes
 *		 flow any more, and after the reply the agent sends nothing until "resume". In a
 *		 machine that starts from the snapshot the agent connects to `port`
 *	resume   {time} in the machine that was saved, {stdio, time} in one that was restored, with
 *		 a blob of random bytes. For a template, which is saved before "create", it is
 *		 {time} with random bytes in both machines
 *	stop     {}; the guest writes its disks (sync) and powers off; a service asks the operating
 *		 system to power off
 *
 * Guest to host:
 *	hello    {version: AGENT_VERSION, kernel: "6.1.0", clock}. clock: CLOCK_MONOTONIC of the
 *		 guest at the time of sending, in ns
 *		 A restored agent adds suspended: true
 *	reached  {process, barrier}
 *	failed   {process, errno, message}   the process could not be made; its last message
 *	steps    {process, clock, steps: [{step, init, begin, end}, ...]}   the steps of the orders'
 *		 plan that were done since the last such message, if the orders have tell_steps.
 *		 clock: the guest's CLOCK_MONOTONIC when "create" came, in ns, as are begin and end;
 *		 step: its index in that plan; init: INIT did it or waited at it, else the agent
 *	running  {process, pid}   the process has become the program; not sent if it died before
 *		 "start"
 *	exited   {process, status}   status as of waitpid(2). Sent after the end of the process's
 *		 output. If others still hold its pipes (a daemon that an exec left behind), it is
 *		 sent half a second after the exit and after all output so far; later output flows
 *		 until one side closes the stream
 *	reply    {id, errno, message, ...}   errno 0: success
 *	resumed  {}   the answer to "resume"
 *	oom      {}   the kernel has killed a process of the container because memory ran out; sent
 *		 before the "exited" of that process
 *	log      {message}   for the log of the runtime
 *
 * Commands (exec, kill, pause) send the same frames to the monitor, over a Unix socket in the
 * container's state directory (monitor/control.h). There descriptors come along with an exec: its
 * standard streams, in the order of "stdio".
 *
 * "stdio" is [{stream, port}, ...]. For each entry the guest makes a vsock connection to that port,
 * and the monitor relays it to the very descriptor that the runtime's caller gave. A port is random
 * and for one stream only, because a program in the container that can use vsock must not guess the
 * port of another process. Streams are 0, 1 and 2, or 3 alone (a terminal); a standard stream that
 * is not listed is /dev/null. All are connected before the first "reached". The end of stream 0
 * from the host is the end of input; the end of 1 or 2, in either direction, makes the process's
 * writes fail (EPIPE). The guest closes 0 when no one reads it any more, and 1 and 2 at their end.
 * If 1 and 2 have the same port, both descriptors of the process are the end of one pipe, so that
 * what it writes to them stays in order. On 3 the end of input is typed as Ctrl-D, and closing it
 * hangs the terminal up.
 */
#pragma once
#include <stdint.h>

#define AGENT_VERSION 3
#define AGENT_PORT 1024
/*
 * The agent of an operating system runs all that the other end of its connection asks for, as root.
 * If another hypervisor boots the disk, the other end is the kernel of that host, where only a
 * privileged program can listen at a port below 1024.
 */
#define AGENT_SERVICE_PORT 1023

#define AGENT_STDIN 0
#define AGENT_STDOUT 1
#define AGENT_STDERR 2
#define AGENT_TERMINAL 3

/* how many descriptors may come with a frame, which only a Unix socket can carry */
#define AGENT_FDS_MAX 8
#define AGENT_JSON_MAX (1u << 20) /* longest JSON text of a frame, in bytes */
/* longest blob of a frame, in bytes; config.json may have 8 MiB */
#define AGENT_BLOB_MAX (16u << 20)

/*
 * The header at the beginning of each frame of the agent protocol. Its numbers are little-endian.
 */
struct agent_header {
	uint32_t json_len, blob_len;
};
