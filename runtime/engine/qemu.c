/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. QEMU is a child of the monitor, in a jail of its own (qemu_jail.c), with the
 * command line of qemu_args.c. QEMU gets taps, the disk and the file server's socket as
 * descriptors, and makes the guest's memory itself, as a memfd that vhost-user servers can map.
 * QEMU opens only the kernel, the initramfs and its own firmware by name, and connects only to a
 * socket of the monitor (relay.h). No process can connect to QEMU, because its QMP
 * monitor (qmp.h) is on a socket pair with this process.
 *
 * A thread of the monitor serves the vsock device over vhost-user, so that the guest's streams end
 * in the monitor's process, as with the built-in machine. A foreign guest runs only when `start`
 * asks for it, and until then the monitor must have one thread only. So its one thread serves the
 * vsock device too, up to the moment at which QEMU has made the machine. The kernel kills QEMU when
 * the monitor ends, and the monitor learns of QEMU's end by a pidfd.
 *
 * QEMU's microvm machine describes its devices by ACPI, as the built-in machine does, because
 * distribution kernels accept no virtio-mmio devices on the command line. The machine has no timer
 * by which the guest could measure the TSC's frequency, and without the frequency the guest's clock
 * would stand still. So qemu_args.c measures the frequency and puts it on the kernel's command
 * line.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/process.h"
#include "base/sys.h"
#include "engine/engine.h"
#include "engine/qemu_args.h"
#include "engine/qemu_internal.h"
#include "engine/qemu_jail.h"
#include "engine/streams.h"
#include "jail/jail.h"
#include "machine/qemu.h"
#include "vm/vhost/front.h"

/*
 * How long, in ms, the monitor waits for QEMU's process to end after one of QEMU's connections has
 * ended. The connection may have ended because QEMU failed, and QEMU's exit code and error output
 * then tell the reason.
 */
#define GRACE_MS 500
/*
 * how many threads QEMU may have besides its vCPUs; QEMU's thread pool for I/O alone has 64 threads
 */
#define THREADS_MAX 256

/*
 * Executes QEMU in the child process. QEMU's standard input is /dev/null; its output and errors go
 * to the pipe `errors`.
 */
_Noreturn static void become_qemu(const struct qemu_jail *jail, int errors)
{
	if (fd_set_streams(-EBADF, errors, errors) < 0)
		_exit(126);
	if (qemu_jail_exec(jail) < 0)
		dprintf(2, "%s", err_msg());
	_exit(127);
}

/*
 * Makes e->ended readable at each event that ends the machine: QEMU's process ends; or the vsock
 * device, on which the standard streams depend, is no longer served; or a vhost-user server ends.
 */
static int watch_ends(struct engine *e)
{
	const struct qemu *q = e->state;
	struct epoll_event in = {.events = EPOLLIN};

	e->ended = epoll_create1(EPOLL_CLOEXEC);
	if (e->ended < 0 || epoll_ctl(e->ended, EPOLL_CTL_ADD, q->pidfd, &in) < 0 ||
		epoll_ctl(e->ended, EPOLL_CTL_ADD, q->lost, &in) < 0)
		return err_sys("watch QEMU");
	/*
	 * The end of the vhost-user server of a share or disk ends the machine, because QEMU itself
	 * would go on, and the guest would wait for the server forever.
	 */
	for (size_t i = 0; i < q->nbackends; i++) {
		struct epoll_event gone = {.events = EPOLLRDHUP};
		if (epoll_ctl(e->ended, EPOLL_CTL_ADD, q->backends[i].sock, &gone) < 0)
			return err_sys("watch the back end of %s", q->backends[i].field);
	}
	return 0;
}

static int spawn_qemu(
	struct engine *e, const struct qemu_args *a, const struct engine_description *d)
{
	struct qemu *q = e->state;
	int pipe_fds[2];

	_cleanup_free_ char *program = realpath(d->config->qemu, NULL);
	if (!program)
		return err_sys("%s", d->config->qemu);
	_cleanup_fd_ int self = pidfd_open(getpid(), 0);
	if (self < 0 || pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_sys("make a pipe");
	_cleanup_fd_ int theirs = pipe_fds[1];
	q->errors = pipe_fds[0];
	/*
	 * QEMU's end of this pipe is close-on-exec, so the monitor reads the end of file once the
	 * child process has executed QEMU.
	 */
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	_cleanup_fd_ int ready = pipe_fds[0], not_ready = pipe_fds[1];
	const struct qemu_jail jail = {.program = program,
		.argv = a->v,
		.fds = a->fds,
		.nfds = a->nfds,
		.kernel = d->kernel,
		.initramfs = d->initramfs,
		.listener = q->relay.listener,
		.threads = THREADS_MAX + d->config->max_cpus,
		.user = jail_id(getpid()),
		.monitor_pidfd = self};
	struct clone_args ca = {.flags = QEMU_JAIL_FLAGS | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
		.pidfd = (uintptr_t)&q->pidfd,
		.exit_signal = SIGCHLD};
	pid_t pid = sys_clone3(&ca);
	if (pid < 0)
		return err_sys("fork QEMU");
	if (pid == 0)
		become_qemu(&jail, theirs);
	e->pid = pid;
	fd_close(&not_ready);
	int r = q->net ? relay_meet(&q->relay, ready, q->pidfd, d->config->boot_timeout_ms) : 0;
	return r < 0 ? err_ctx(r, "%s", q->net) : watch_ends(e);
}

static void *serve_vsock(void *arg)
{
	struct engine *e = arg;
	struct qemu *q = e->state;

	int r = jail_enter_thread(e->jail, JAIL_DEVICES);
	/*
	 * A machine with a foreign guest goes on without its vsock device, because it does not
	 * depend on the agent in the guest. Its end is the end of QEMU, which closes the connection
	 * to the device some time before.
	 */
	const bool ends_machine = r < 0 || !q->foreign;
	if (r >= 0)
		r = qemu_serve(e);
	snprintf(q->why, sizeof(q->why), "%s",
		r < 0 ? err_msg() : "QEMU closed its connection to the vsock device");
	/* The guest's connections are closed, so that the monitor does not wait for the agent. */
	vhost_close(q->served);
	q->served = NULL;
	if (ends_machine)
		eventfd_write(q->lost, 1);
	return NULL;
}

static int make_vsock(struct qemu *q, struct streams *streams, int *ret_theirs)
{
	const struct virtio_vsock_options o = {.cid = GUEST_CID,
		.event_queue = true,
		.connect = streams_on_connect,
		.closed = streams_on_closed,
		.ctx = streams};
	int socks[2];

	int r = virtio_vsock_init(&q->vsock, NULL, &o);
	q->has_vsock = r >= 0;
	if (r < 0)
		return r;
	streams->device = &q->vsock;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks) < 0)
		return err_sys("make a socket pair");
	q->vsock_sock = socks[0];
	*ret_theirs = socks[1];
	q->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return q->stop < 0 ? err_sys("create an eventfd")
			   : vhost_open(&q->vsock.dev, q->vsock_sock, &q->served);
}

/*
 * Exchanges the first vhost-user messages with each server before QEMU does, to find a server that
 * does not answer. QEMU would wait for such a server forever, and QEMU's errors do not name the
 * mount or disk in config.json.
 */
static int probe_backends(const struct engine_description *d)
{
	unsigned ms = d->config->boot_timeout_ms;
	int r = 0;

	if (ms > VHOST_USER_TIMEOUT_MS)
		ms = VHOST_USER_TIMEOUT_MS;
	for (size_t i = 0; i < d->nbackends && r >= 0; i++)
		r = vhost_user_probe(d->backends[i].sock, d->backends[i].field, ms);
	return r;
}

static int make_relay(struct qemu *q, const struct engine_description *d)
{
	for (size_t i = 0; i < d->nnics; i++) {
		if (!d->nics[i].backend)
			continue;
		q->net = d->nics[i].backend;
		return relay_init(&q->relay, d->nics[i].fd);
	}
	return 0;
}

/* Makes the sockets of QEMU's devices and the one for commands to QEMU. */
static int make_sockets(
	struct engine *e, const struct engine_description *d, struct qemu_sockets *ret)
{
	struct qemu *q = e->state;
	int socks[2];

	ret->console = fcntl(d->log, F_DUPFD_CLOEXEC, 3);
	if (ret->console < 0)
		return err_sys("duplicate the guest's console");
	q->lost = eventfd(0, EFD_CLOEXEC);
	e->change_done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e->save_done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->lost < 0 || e->change_done < 0 || e->save_done < 0)
		return err_sys("create an eventfd");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, socks) < 0)
		return err_sys("make a socket pair");
	e->events = q->commands.qmp.sock = socks[0];
	ret->qmp = socks[1];
	return make_vsock(q, d->streams, &ret->vsock);
}

/* Makes QEMU run the guest. */
static int command_run(const struct qemu *q)
{
	_cleanup_strbuf_ struct strbuf text = {0};

	/* qemu_start() has already sent the first command to a foreign guest's QEMU. */
	int r = strbuf_addf(&text, "%s", q->foreign || q->restored ? "" : QEMU_CAPABILITIES);
	if (r >= 0 && !q->restored)
		r = qemu_empty_spares(&text, q->commands.hotplug.spares);
	if (r >= 0)
		r = strbuf_addf(&text, "{\"execute\":\"cont\"}\n");
	if (r >= 0)
		r = qmp_send(&q->commands.qmp, text.s);
	if (r != -EPIPE)
		return r;
	/* The event loop learns of QEMU's end, and qemu_result() then says why. */
	err_clear();
	return 0;
}

static int qemu_run(struct engine *e)
{
	struct qemu *q = e->state;

	int r = command_run(q);
	if (r < 0)
		return r;
	r = pthread_create(&q->thread, NULL, serve_vsock, e);
	q->has_thread = r == 0;
	if (r)
		return err_set(r, "start the vsock thread: %s", strerror(r));
	return q->relay.qemu < 0 ? 0 : relay_start(&q->relay, e->jail, q->lost);
}

static const char *find_lost_backend(const struct qemu *q)
{
	for (size_t i = 0; i < q->nbackends; i++) {
		struct pollfd p = {.fd = q->backends[i].sock, .events = POLLRDHUP};
		if (poll(&p, 1, 0) > 0)
			return q->backends[i].field;
	}
	return NULL;
}

static int qemu_result(struct engine *e)
{
	struct qemu *q = e->state;
	struct pollfd p = {.fd = q->pidfd, .events = POLLIN};
	char text[2048];
	int status;

	/*
	 * The monitor waits a moment for QEMU's end. What has ended the machine may be a connection
	 * that broke because QEMU has failed, and then QEMU's exit code and its error output tell
	 * the reason.
	 */
	bool lives = poll(&p, 1, GRACE_MS) == 0;
	if (lives)
		status = process_kill(e->pid);
	else if (waitpid(e->pid, &status, 0) != e->pid)
		return err_sys("wait for QEMU");
	e->pid = 0;
	const char *why = relay_stop(&q->relay);
	if (why)
		return err_set(EPIPE, "%s: %s", q->net, why);
	qemu_read_words(q->errors, text, sizeof(text));
	const char *lost = lives ? find_lost_backend(q) : NULL;
	if (lost)
		return err_set(EPIPE, "%s: the vhost-user back end has hung up", lost);
	if (lives)
		return err_set(EIO, "%s%s%s", q->why, *text ? "; QEMU said: " : "", text);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFSIGNALED(status))
		return err_set(EIO, "QEMU was killed by signal %d%s%s", WTERMSIG(status),
			*text ? ": " : "", text);
	int i = qemu_blamed_backend(text);
	if (i >= 0 && (size_t)i < q->nbackends)
		return err_set(EPROTO, "%s: the vhost-user back end: QEMU ended: %s",
			q->backends[i].field, text);
	return qemu_exit_error(WEXITSTATUS(status), text, q->parameters);
}

/*
 * Waits until QEMU answers the first command, and serves the vsock device meanwhile. QEMU answers
 * once it has made the machine and opened all files that its arguments name. Its greeting may come
 * before that.
 */
static int await_commands(struct engine *e, unsigned ms)
{
	struct qemu *q = e->state;
	const struct itimerspec limit = {.it_value = {.tv_sec = (time_t)(ms / 1000),
						 .tv_nsec = (long)(ms % 1000) * 1000000 + 1}};
	_cleanup_fd_ int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	_cleanup_fd_ int any = epoll_create1(EPOLL_CLOEXEC);
	struct pollfd p[] = {{.fd = q->commands.qmp.sock, .events = POLLIN},
		{.fd = q->pidfd, .events = POLLIN}, {.fd = timer, .events = POLLIN}};
	struct epoll_event in = {.events = EPOLLIN};

	if (any < 0 || timer < 0 || timerfd_settime(timer, 0, &limit, NULL) < 0)
		return err_sys("make a timer");
	for (size_t i = 0; i < ARRAY_SIZE(p); i++)
		if (epoll_ctl(any, EPOLL_CTL_ADD, p[i].fd, &in) < 0)
			return err_sys("watch QEMU");
	int r = qmp_send(&q->commands.qmp, QEMU_CAPABILITIES);
	if (r < 0 && r != -EPIPE)
		return r;
	for (r = 0; r >= 0;) {
		_cleanup_arena_ struct arena arena = {0};
		struct json *message;
		r = vhost_continue(q->served, any);
		if (r < 0)
			return r;
		/*
		 * If none of the descriptors is readable, QEMU has closed its connection to the
		 * vsock device, because QEMU has ended or is about to end.
		 */
		int n = poll(p, ARRAY_SIZE(p), GRACE_MS);
		if (n < 0 && errno != EINTR)
			return err_sys("wait for QEMU");
		r = n == 0 ? -EPIPE : n < 0 ? 0 : qmp_next(&q->commands.qmp, &arena, &message);
		while (r > 0 && !json_get(message, "return"))
			r = qmp_next(&q->commands.qmp, &arena, &message);
		if (r > 0)
			return 0;
		if (r == 0 && n > 0 && p[1].revents)
			r = -EPIPE;
		if (r == 0 && n > 0 && p[2].revents)
			return err_set(
				ETIMEDOUT, "QEMU has not made the machine after %u s", ms / 1000);
	}
	r = qemu_result(e);
	return r < 0 ? r : err_set(EIO, "QEMU has ended before it made the machine");
}

static int qemu_start(struct engine *e, const struct engine_description *d)
{
	struct qemu_sockets s = {-EBADF, -EBADF, -EBADF};
	struct qemu *q = calloc(1, sizeof(*q));
	struct qemu_args *a = calloc(1, sizeof(*a));

	e->state = q;
	int r = q && a ? 0 : -ENOMEM;
	if (r >= 0) {
		q->vsock_sock = q->stop = q->errors = q->pidfd = q->lost = q->registers =
			q->commands.qmp.sock = -EBADF;
		memcpy(q->backends, d->backends, sizeof(q->backends));
		q->nbackends = d->nbackends;
		q->parameters = d->config->qemu_parameters.n > 0;
		q->commands.memory = d->config->memory;
		q->commands.image_size = d->image >= 0 ? (uint64_t)lseek(d->image, 0, SEEK_END) : 0;
		q->relay = (struct relay)RELAY_INIT;
		q->foreign = d->config->foreign;
		q->commands.hotplug.spares = qemu_count_spares(d);
		r = probe_backends(d);
	}
	if (r >= 0) {
		qemu_carry_init(e, d);
		qemu_save_init(e, d);
	}
	if (r >= 0 && d->snapshot)
		r = qemu_restore_prepare(e, d);
	if (r >= 0)
		r = make_sockets(e, d, &s);
	if (r >= 0)
		r = make_relay(q, d);
	if (r >= 0)
		r = qemu_args_build(a, d, &s);
	if (r >= 0)
		r = spawn_qemu(e, a, d);
	if (r >= 0 && d->config->foreign)
		r = await_commands(e, d->config->boot_timeout_ms);
	if (r >= 0 && d->snapshot) {
		r = qemu_restore(e, d);
		/* QEMU ends if it cannot load the snapshot, and its last words tell why. */
		if (r == -EPIPE) {
			snprintf(q->why, sizeof(q->why), "%s", err_msg());
			r = qemu_result(e);
			r = r < 0 ? r : err_set(EIO, "QEMU has ended before the machine ran");
		}
	}
	if (q)
		q->restored = r >= 0 && d->snapshot;
	fd_close(&s.vsock);
	fd_close(&s.console);
	fd_close(&s.qmp);
	if (a)
		arena_release(&a->arena);
	free(a);
	return r;
}

static void qemu_stop(struct engine *e)
{
	struct qemu *q = e->state;

	if (!q)
		return;
	if (e->pid > 0) {
		(void)process_kill(e->pid);
		e->pid = 0;
	}
	if (q->has_thread) {
		atomic_store(&q->ends, true);
		eventfd_write(q->stop, 1);
		pthread_join(q->thread, NULL);
	}
	(void)relay_stop(&q->relay);
	relay_release(&q->relay);
	if (q->served)
		vhost_close(q->served);
	if (q->has_vsock)
		virtio_vsock_release(&q->vsock);
	qemu_carry_release(e);
	fd_close(&q->vsock_sock);
	fd_close(&q->stop);
	fd_close(&q->errors);
	fd_close(&q->pidfd);
	fd_close(&q->lost);
	fd_close(&q->commands.qmp.sock);
	fd_close(&e->ended);
	fd_close(&e->change_done);
	fd_close(&e->save_done);
	free(q);
	e->state = NULL;
}

const struct engine_ops engine_qemu = {.start = qemu_start,
	.run = qemu_run,
	.stop = qemu_stop,
	.result = qemu_result,
	.press_power = qemu_press_power,
	.guest_agent_is_open = qemu_guest_agent_is_open,
	.add_viewer = qemu_add_viewer,
	.can_save = qemu_can_save,
	.save = qemu_save,
	.saved = qemu_saved,
	.go_on = qemu_go_on,
	.change = qemu_change,
	.changed = qemu_changed,
	.next_event = qemu_next_event,
	.pause = qemu_pause,
	.retry = qemu_retry,
	.resize_disk = qemu_resize_disk,
	.set_balloon = qemu_set_balloon,
	.get_balloon = qemu_get_balloon};
