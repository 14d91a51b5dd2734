/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/streams.h"

#include <linux/kcmp.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/fd.h"
#include "vm/virtio/vsock.h"

#define PORT_FIRST 0x10000u
/* the last of the vsock ports that only a privileged program of the guest can have */
#define RESERVED_LAST 1023

int streams_init(struct streams *s)
{
	*s = (struct streams){.agent = -EBADF};
	pthread_mutex_init(&s->lock, NULL);
	s->changed = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return s->changed < 0 ? err_sys("create an eventfd") : 0;
}

void streams_release(struct streams *s)
{
	for (size_t i = 0; i < STREAMS_MAX; i++)
		if (s->stream[i].state == STREAM_WAITING)
			fd_close(&s->stream[i].fd);
	fd_close(&s->agent);
	fd_close(&s->changed);
	pthread_mutex_destroy(&s->lock);
}

static struct stream *find_port(struct streams *s, enum stream_state state, uint32_t port)
{
	for (size_t i = 0; i < STREAMS_MAX; i++)
		if (s->stream[i].state == state && (!port || s->stream[i].port == port))
			return &s->stream[i];
	return NULL;
}

/*
 * Returns a random port for a stream, so that other programs in the guest cannot guess the port and
 * connect to it. The port is neither the agent's port nor one of the ports to which the host
 * connects.
 */
uint32_t streams_new_port(void)
{
	uint32_t n;

	while (getrandom(&n, sizeof(n), 0) != sizeof(n))
		;
	return PORT_FIRST + n % (VSOCK_DIAL_PORT_FIRST - PORT_FIRST);
}

/*
 * Says whether both descriptors refer to the same open file description. Returns false if the
 * kernel lacks kcmp(2).
 */
static bool same_description(int a, int b)
{
	pid_t self = getpid();

	return syscall(SYS_kcmp, self, self, KCMP_FILE, (unsigned long)a, (unsigned long)b) == 0;
}

/*
 * Uses one stream for standard output and standard error if fd, the standard error, is the same
 * open file as the process's standard output. Returns whether standard output and standard error
 * share a stream.
 */
static bool join_errors(struct streams *s, uint32_t process, int fd)
{
	for (size_t i = 0; i < STREAMS_MAX; i++) {
		struct stream *e = &s->stream[i];
		if (e->state != STREAM_WAITING || e->process != process ||
			e->stream != AGENT_STDOUT || !same_description(e->fd, fd))
			continue;
		e->errors = true;
		close(fd);
		return true;
	}
	return false;
}

int streams_offer(struct streams *s, uint32_t process, unsigned stream, int fd)
{
	pthread_mutex_lock(&s->lock);
	bool joined = stream == AGENT_STDERR && join_errors(s, process, fd);
	struct stream *e = joined ? NULL : find_port(s, STREAM_FREE, 0);
	if (e) {
		*e = (struct stream){
			.state = STREAM_WAITING, .process = process, .stream = stream, .fd = fd};
		uint32_t port;
		do
			port = streams_new_port();
		while (find_port(s, STREAM_WAITING, port) || find_port(s, STREAM_JOINED, port));
		e->port = port;
	}
	pthread_mutex_unlock(&s->lock);
	return e || joined
		       ? 0
		       : err_set(ENOSPC,
				 "too many processes in the microVM: %d standard streams at once",
				 STREAMS_MAX);
}

static void write_stream(struct json_out *o, unsigned stream, uint32_t port)
{
	json_out_object(o, NULL);
	json_out_u64(o, "stream", stream);
	json_out_u64(o, "port", port);
	json_out_end_object(o);
}

void streams_json(struct streams *s, uint32_t process, struct json_out *o)
{
	json_out_array(o, "stdio");
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < STREAMS_MAX; i++) {
		const struct stream *e = &s->stream[i];
		if (e->state != STREAM_WAITING || e->process != process)
			continue;
		write_stream(o, e->stream, e->port);
		if (e->errors)
			write_stream(o, AGENT_STDERR, e->port);
	}
	pthread_mutex_unlock(&s->lock);
	json_out_end_array(o);
}

bool streams_has_output(struct streams *s, uint32_t process)
{
	bool found = false;

	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < STREAMS_MAX; i++)
		found |= s->stream[i].state == STREAM_JOINED && s->stream[i].process == process &&
			 s->stream[i].stream != AGENT_STDIN;
	pthread_mutex_unlock(&s->lock);
	return found;
}

#define OUTPUTS_MAX 4 /* how many output streams a process can have */

/*
 * Lists those output streams of the process to which the guest has connected. *ret gets pointers to
 * the entries in the table `s`.
 */
static size_t list_outputs(struct streams *s, uint32_t process, struct stream *ret[OUTPUTS_MAX],
	uint32_t ports[OUTPUTS_MAX])
{
	size_t n = 0;

	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < STREAMS_MAX && n < OUTPUTS_MAX; i++) {
		struct stream *e = &s->stream[i];
		if (e->state != STREAM_JOINED || e->process != process || e->stream == AGENT_STDIN)
			continue;
		ports[n] = e->port;
		ret[n++] = e;
	}
	pthread_mutex_unlock(&s->lock);
	return n;
}

/*
 * The table's lock is not held while the device is called, because the device holds its own lock
 * when it calls functions of this table. Taking the two locks in both orders could deadlock. The
 * members `marked` and `owed` need no lock, because only the monitor's loop uses them.
 */
void streams_mark(struct streams *s, uint32_t process)
{
	struct stream *e[OUTPUTS_MAX];
	uint32_t ports[OUTPUTS_MAX], written, kept;

	for (size_t i = 0, n = list_outputs(s, process, e, ports); i < n && s->device; i++) {
		e[i]->marked = virtio_vsock_progress(s->device, ports[i], &written, &kept) >= 0;
		if (e[i]->marked)
			e[i]->owed = written + kept;
	}
}

bool streams_owe(struct streams *s, uint32_t process)
{
	struct stream *e[OUTPUTS_MAX];
	uint32_t ports[OUTPUTS_MAX], written, kept;

	for (size_t i = 0, n = list_outputs(s, process, e, ports); i < n && s->device; i++)
		if (e[i]->marked &&
			virtio_vsock_progress(s->device, ports[i], &written, &kept) >= 0 &&
			(int32_t)(written - e[i]->owed) < 0)
			return true;
	return false;
}

void streams_withdraw(struct streams *s, uint32_t process)
{
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < STREAMS_MAX; i++) {
		struct stream *e = &s->stream[i];
		if (e->state != STREAM_WAITING || e->process != process)
			continue;
		fd_close(&e->fd);
		e->state = STREAM_FREE;
	}
	pthread_mutex_unlock(&s->lock);
}

int streams_take_agent(struct streams *s)
{
	pthread_mutex_lock(&s->lock);
	int fd = take_fd(&s->agent);
	pthread_mutex_unlock(&s->lock);
	return fd;
}

static int connect_agent(struct streams *s, uint32_t guest_port)
{
	int ends[2];

	if (s->agent_is_service && guest_port > RESERVED_LAST)
		return -ECONNREFUSED;

	/*
	 * A second connection to the agent's port is refused, because caisson-guest connects first,
	 * so a later connection comes from another program in the guest.
	 */
	if (s->agent_met && !s->agent_is_service)
		return -ECONNREFUSED;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
		return -errno;
	s->agent_met = true;
	fd_close(&s->agent);
	s->agent = ends[0];
	return ends[1];
}

static uint32_t agent_port(const struct streams *s)
{
	if (s->agent_port)
		return s->agent_port;
	return s->agent_is_service ? AGENT_SERVICE_PORT : AGENT_PORT;
}

int streams_on_connect(void *ctx, uint32_t guest_port, uint32_t port, unsigned *ret_use)
{
	struct streams *s = ctx;
	int fd = -ECONNREFUSED;

	pthread_mutex_lock(&s->lock);
	if (port == agent_port(s)) {
		fd = connect_agent(s, guest_port);
	} else {
		struct stream *e = find_port(s, STREAM_WAITING, port);
		if (e) {
			/*
			 * The guest may use a standard stream in one direction only, because the
			 * host's descriptor may be the terminal of caisson's caller, which is open
			 * for both directions. Only the stream of a container's own terminal is
			 * used in both directions.
			 */
			if (e->stream != AGENT_TERMINAL)
				*ret_use = e->stream == AGENT_STDIN ? VSOCK_TO_GUEST
								    : VSOCK_FROM_GUEST;
			fd = take_fd(&e->fd);
			e->state = STREAM_JOINED;
		}
	}
	pthread_mutex_unlock(&s->lock);
	eventfd_write(s->changed, 1);
	return fd;
}

void streams_on_closed(void *ctx, uint32_t guest_port, uint32_t port)
{
	struct streams *s = ctx;

	pthread_mutex_lock(&s->lock);
	struct stream *e = find_port(s, STREAM_JOINED, port);
	if (e)
		e->state = STREAM_FREE;
	pthread_mutex_unlock(&s->lock);
	eventfd_write(s->changed, 1);
}
