/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent protocol: what the monitor (host) and caisson-init (guest) say to each other over one
 * vsock stream. Both link this file; neither trusts the other's lengths.
 *
 * Theory of operation. The guest's init connects to AGENT_PORT of the host and says "hello". From
 * then on both send frames: a header, a JSON object with a member "type", and for some a blob. The
 * first thing the monitor sends is "create", with config.json and the facts that the plan depends
 * on; the guest builds the same plan from them that the host has (plan/vm.c) and walks the GUEST's
 * and INIT's steps of it. Standard input and output don't go this way: for each the guest makes a
 * stream of its own, to a port that the monitor names, which the monitor joins to the very
 * descriptor that the runtime's caller gave.
 *
 * Processes have numbers that the monitor gives: 0 is the container's, each exec has its own, never
 * used twice. A barrier's name, an error's text and an exit status are the same as on the channel
 * in namespace mode (ns/channel.h), so that the monitor only hands them on.
 *
 * Host to guest ("id" in a request comes back in its "reply"):
 *	create   {process: 0, text: LEN, facts: {...}, net: {...}, stdio: [..], time: NS}; the
 *		 blob is config.json (LEN bytes), then the compiled system call filter, if there is
 *		 one. time: since 1970. net: net_config.h's; absent: only lo
 *	start    {process: 0}
 *	exec     {process: N, text: LEN, facts: {...}, stdio: [..]}; the blob is the process object
 *		 in JSON (LEN bytes), then the filter
 *	signal   {process, signal, all: bool}; no reply: like kill(2), but to who may be gone
 *	resize   {process, rows, columns}
 *	freeze   {id, frozen: bool}
 *	ps       {id}       -> reply {processes: [{pid, ppid, uid, stime, time, tty, command}]}
 *			    stime: its start, seconds since 1970; time: CPU seconds; tty: "pts/0" or
 *			    "?"; command: its arguments, or [name]
 *	stats    {id}       -> reply {stats: {...}} as cg_stats() writes it
 *	update   {id, resources: {...}} in config.json's form
 *	stop     {}         sync, then power off: the guest's last act
 * Guest to host:
 *	hello    {version: AGENT_VERSION, kernel: "6.1.0"}
 *	reached  {process, barrier}
 *	failed   {process, errno, message}   the process could not be made; nothing follows of it
 *	running  {process, pid}              it became the program; not where it died before "start"
 *	exited   {process, status}           as waitpid(2) gives it; after its output's end. Where
 *		 others still have its pipes (a daemon that an exec left), half a second after it
 *		 ended and after all that it had written: what comes then still flows, until one
 *		 side closes the stream
 *	reply    {id, errno, message, ...}   errno 0 where all is well
 *	oom      {}     the kernel has killed a process of the container's for want of memory;
 *before the "exited" of that process log      {message} The commands (exec, kill, pause, ...) talk
 *to the monitor in the same frames, over a Unix socket in the container's state directory
 *(monitor/control.h), where descriptors come along: an exec's standard streams, in the order of
 *"stdio".
 *
 * "stdio" to the guest is [{stream, port}, ..]. A port is a random number, for this stream alone: a
 * program in the container that may open vsock connections must not get at what is another's.
 * "stdio" names the streams that the process gets: 0, 1, 2, or 3 alone (a terminal); instead of the
 * others it has /dev/null. All are connected before anything is reached. The end of the monitor's
 * side of 0 is the end of input; of 1 or 2, in either direction, it makes the process's writes fail
 * (EPIPE). The guest closes 0 when nobody reads it any more, and 1 and 2 at their end. On 3 the end
 * of input is typed as Ctrl-D, and closing it hangs the terminal up.
 */
#pragma once
#include <stdint.h>
#include <sys/uio.h>

#include "base/json.h"

#define AGENT_VERSION 1
#define AGENT_PORT 1024

#define AGENT_STDIN 0
#define AGENT_STDOUT 1
#define AGENT_STDERR 2
#define AGENT_TERMINAL 3

#define AGENT_FDS_MAX 8            /* descriptors that come with a frame, over a Unix socket */
#define AGENT_JSON_MAX (1u << 20)  /* bytes */
#define AGENT_BLOB_MAX (16u << 20) /* config.json has 8 MiB at most */

/* On the wire, little-endian. */
struct agent_header {
	uint32_t json_len, blob_len;
};

/* A frame as received. */
struct agent_frame {
	struct arena arena;
	struct json *json;
	const char *type;
	const uint8_t *blob;
	size_t blob_len;
	int fds[AGENT_FDS_MAX]; /* owned; taken with take_fd() */
	unsigned nfds;
};

/*
 * What has come of a stream so far. Zeroed is empty. agent_reader_receive() reads what is
 * there (blocking or not, as the socket is), agent_reader_next() takes whole frames out.
 */
struct agent_reader {
	uint8_t *bytes;
	size_t len, size;
	int fds[AGENT_FDS_MAX]; /* that came so far, for the next frame */
	unsigned nfds;
};

/* With the descriptors that come along. 1: something came; 0: the end; -EAGAIN: nothing now; else
 * -errno with a message. */
int agent_reader_receive(struct agent_reader *r, int sock) must_check;
/*
 * 1: *ret is a frame, to be released; 0: more has to come. -EPROTO: lengths past the limits, not
 * JSON, no "type" of small letters.
 */
int agent_reader_next(struct agent_reader *r, struct agent_frame *ret) must_check;
void agent_reader_release(struct agent_reader *r);
void agent_frame_release(struct agent_frame *f);
#define _cleanup_agent_frame_ __attribute__((cleanup(agent_frame_release), unused))

/*
 * A frame under construction: agent_begin() opens the object and writes "type"; the caller adds
 * members to w->json; agent_send() closes it and writes all of it (blocking, or polling for room
 * where fd does not block). Always agent_release().
 */
struct agent_writer {
	struct json_out json;
};

int agent_begin(struct agent_writer *w, const char *type) must_check;
int agent_send(struct agent_writer *w, int fd, const void *blob, size_t blob_len) must_check;
/* The same with a blob of two parts and, over a Unix socket, n descriptors; they stay the caller's.
 */
int agent_send_fds(struct agent_writer *w, int sock, const struct iovec *blob, const int *fds,
	unsigned n) must_check;
void agent_release(struct agent_writer *w);
#define _cleanup_agent_writer_ __attribute__((cleanup(agent_release), unused))

/*
 * "facts": struct plan_env and struct plan_exec_env as far as the guest needs them: bundle,
 * no_pivot, no_new_keyring, keyring, console_height, console_width, attached (bool), in that
 * spelling; id, the container's; for an exec cgroup, where --cgroup was given; mount_flags: an
 * array, MOUNT_ATTR_* of the host's mount in each slot, which the guest's gets too.
 */

/*
 * A "failed" or a "reply" as an error of ours: -errno with its message, which is one line of text
 * whatever the other side is; 0 where a reply's errno is. -EPROTO with a message.
 */
int agent_failure(const struct agent_frame *f) must_check;

/* The member "process", checked: 0 .. 2^28; -EPROTO with a message. */
int agent_process(const struct agent_frame *f, uint32_t *ret) must_check;
