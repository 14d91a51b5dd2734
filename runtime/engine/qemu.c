/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. QEMU is our child, in a jail of its own (jail_qemu.c), and gets what it
 * needs as descriptors: taps, the disk, the file server's socket; memory is of its own making (a
 * memfd, so that back ends can map it). It opens nothing by name but the kernel, the initramfs and
 * its own firmware, connects to nothing but a socket of ours (relay.h), and has no monitor or other
 * way in. The vsock device is ours: a thread here serves it over vhost-user, so that the guest's
 * streams end in this process as they do with the built-in loop. QEMU dies with us, and its end is
 * told by its pidfd.
 *
 * The microvm machine describes its devices by ACPI, as ours does, since distribution kernels take
 * no virtio-mmio devices from the command line. It has no timer that a kernel could measure the
 * TSC's frequency with, and without one the guest's clock would stand still: so we measure it.
 */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <x86intrin.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "engine/engine.h"
#include "engine/qemu_jail.h"
#include "engine/relay.h"
#include "engine/share.h"
#include "engine/streams.h"
#include "machine/qemu.h"
#include "vm/vhost/back.h"
#include "vm/vhost/front.h"

#define GRACE_MS 500
#define ARGS_MAX 128
#define ARGS_FDS_MAX 32
#define THREADS_MAX 256 /* beside the vCPUs': its pool for I/O has 64 */
#define TSC_MEASURE_NS 10000000
/* QEMU's translation cache is as large as a quarter of its guest otherwise, up to 1 GiB. */
#define TCG "tcg,thread=multi,tb-size=64"

struct qemu {
	struct virtio_vsock vsock;
	bool has_vsock, has_thread;
	pthread_t thread;
	int vsock_sock, stop;
	int pidfd;
	int lost;          /* eventfd: nobody serves the vsock device any more */
	char why[ERR_MAX]; /* and that is why; the thread's until `lost` */
	int errors;        /* a pipe: what QEMU says on standard error */
	bool parameters;   /* vm.hypervisor.parameters are on its command line */
	struct engine_backend backends[PLAN_BACKENDS_MAX];
	size_t nbackends;
	const char *net;    /* the vhost-user back end of a network device: its field; NULL: none */
	struct relay relay; /* to that */
};

struct args {
	struct arena arena;
	char *v[ARGS_MAX];
	size_t n;
	int fds[ARGS_FDS_MAX]; /* that QEMU inherits */
	size_t nfds;
	bool failed;
};

static void add(struct args *a, const char *fmt, ...) printf_like(2, 3);

static void add(struct args *a, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	int len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	char *s = len < 0 || (size_t)len >= sizeof(text) ? NULL : arena_strdup(&a->arena, text);
	if (!s || a->n + 1 >= ARGS_MAX)
		a->failed = true;
	else
		a->v[a->n++] = s;
}

static int inherit(struct args *a, int fd)
{
	if (a->nfds == ARGS_FDS_MAX)
		a->failed = true;
	else
		a->fds[a->nfds++] = fd;
	return fd;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* To a few millionths: what interrupts us is seen as a late clock at one end, not as a wrong one.
 */
static uint64_t tsc_khz(void)
{
	uint64_t t0 = now_ns(), c0 = __rdtsc(), t1;

	do
		t1 = now_ns();
	while (t1 - t0 < TSC_MEASURE_NS);
	return (__rdtsc() - c0) * 1000000 / (t1 - t0);
}

static void add_machine(struct args *a, const struct engine_description *d)
{
	const struct machine_config *c = d->config;

	add(a, "%s", c->qemu);
	add(a, "-nodefaults");
	add(a, "-no-user-config");
	add(a, "-display");
	add(a, "none");
	add(a, "-no-reboot");
	add(a, "-machine");
	/* Without a CMOS clock Linux waits a second for one, where it has no clock of KVM's. */
	add(a, "microvm,acpi=on,pic=off,pit=off,rtc=on,isa-serial=off,memory-backend=ram");
	add(a, "-global");
	add(a, "virtio-mmio.force-legacy=false");
	add(a, "-accel");
	add(a, TCG);
	add(a, "-cpu");
	/*
	 * In software a string instruction goes byte by byte: without ERMS and FSRM Linux and
	 * libraries copy in words. Without LA57 a page is found in four steps and not in five.
	 */
	add(a, "max,-erms,-fsrm,-la57");
	add(a, "-smp");
	add(a, "%u", c->cpus);
	add(a, "-m");
	add(a, "%" PRIu64 "M", c->memory >> 20);
	add(a, "-object");
	add(a, "memory-backend-memfd,id=ram,size=%" PRIu64 "M,share=on%s", c->memory >> 20,
		c->pages == VM_PAGES_HUGETLB ? ",hugetlb=on,hugetlbsize=2M,prealloc=on" : "");
	add(a, "-kernel");
	add(a, JAIL_KERNEL);
	add(a, "-initrd");
	add(a, JAIL_INITRAMFS);
	add(a, "-append");
	add(a, "%s tsc_early_khz=%" PRIu64, d->cmdline, tsc_khz());
}

static void add_nic(struct args *a, const struct engine_nic *n, size_t i)
{
	const uint8_t *m = n->mac;
	char mtu[32] = "";

	if (n->backend) {
		add(a, "-chardev");
		add(a, "socket,id=net%zu,path=" JAIL_SOCKET, i);
		if (n->mtu)
			snprintf(mtu, sizeof(mtu), ",host_mtu=%u", n->mtu);
	}
	add(a, "-netdev");
	if (n->backend)
		add(a, "vhost-user,id=net%zu,chardev=net%zu", i, i);
	else
		add(a, "tap,id=net%zu,fd=%d,vhost=off", i, inherit(a, n->fd));
	add(a, "-device");
	add(a, "virtio-net-device,netdev=net%zu,mac=%02x:%02x:%02x:%02x:%02x:%02x%s", i, m[0], m[1],
		m[2], m[3], m[4], m[5], mtu);
}

static void add_devices(struct args *a, const struct engine_description *d, int vsock, int console)
{
	add(a, "-chardev");
	add(a, "socket,id=console,fd=%d", inherit(a, console));
	add(a, "-device");
	add(a, "virtio-serial-device");
	add(a, "-device");
	add(a, "virtconsole,chardev=console");
	add(a, "-object");
	add(a, "rng-builtin,id=rng");
	add(a, "-device");
	add(a, "virtio-rng-device,rng=rng");
	add(a, "-device");
	add(a, "virtio-balloon-device,free-page-reporting=on");
	if (d->share >= 0) {
		add(a, "-chardev");
		add(a, "socket,id=fs,fd=%d", inherit(a, d->share));
		add(a, "-device");
		add(a, "vhost-user-fs-device,chardev=fs,tag=" SHARE_TAG ",queue-size=1024");
	}
	add(a, "-chardev");
	add(a, "socket,id=vsock,fd=%d", inherit(a, vsock));
	add(a, "-device");
	add(a, "vhost-user-vsock-device,chardev=vsock");
	for (size_t i = 0; i < d->nnics; i++)
		add_nic(a, &d->nics[i], i);
}

static void add_image(struct args *a, const struct engine_description *d)
{
	add(a, "-add-fd");
	add(a, "fd=%d,set=1", inherit(a, d->image));
	add(a, "-drive");
	/* At once as it will be needed: there is only the one descriptor. */
	add(a, "if=none,id=image,format=raw,file=/dev/fdset/1,file.locking=off,cache=%s,%s",
		d->config->image_direct ? "none" : "writeback",
		d->config->image_read_only ? "read-only=on" : "auto-read-only=off");
	add(a, "-device");
	add(a, "virtio-blk-device,drive=image");
}

/* The guest names disks in the order in which they stand here. */
static void add_disks(struct args *a, const struct engine_description *d)
{
	if (d->image >= 0)
		add_image(a, d);
	for (size_t i = 0; i < d->nbackends; i++) {
		const struct engine_backend *b = &d->backends[i];

		add(a, "-chardev");
		add(a, "socket,id=" QEMU_BACKEND "%zu,fd=%d", i, inherit(a, b->sock));
		add(a, "-device");
		if (b->tag)
			add(a, "vhost-user-fs-device,chardev=" QEMU_BACKEND "%zu,tag=%s", i,
				b->tag);
		else
			add(a, "vhost-user-blk,chardev=" QEMU_BACKEND "%zu", i);
	}
}

/* In the child. */
_Noreturn static void become_qemu(const struct jail_qemu *jail, int errors)
{
	int null = open("/dev/null", O_RDWR);

	if (null < 0 || dup2(null, 0) < 0 || dup2(errors, 1) < 0 || dup2(errors, 2) < 0)
		_exit(126);
	if (jail_qemu_exec(jail) < 0)
		dprintf(2, "%s", err_msg());
	_exit(127);
}

/* Its process ends, or our side of its vsock device: without that no stream goes on. */
static int watch(struct engine *e)
{
	const struct qemu *q = e->state;
	struct epoll_event in = {.events = EPOLLIN};

	e->ended = epoll_create1(EPOLL_CLOEXEC);
	if (e->ended < 0 || epoll_ctl(e->ended, EPOLL_CTL_ADD, q->pidfd, &in) < 0 ||
		epoll_ctl(e->ended, EPOLL_CTL_ADD, q->lost, &in) < 0)
		return err_sys("watch QEMU");
	/* QEMU goes on without a back end, and what waits for it would hang. */
	for (size_t i = 0; i < q->nbackends; i++) {
		struct epoll_event gone = {.events = EPOLLRDHUP};
		if (epoll_ctl(e->ended, EPOLL_CTL_ADD, q->backends[i].sock, &gone) < 0)
			return err_sys("watch the back end of %s", q->backends[i].field);
	}
	return 0;
}

static int spawn(struct engine *e, const struct args *a, const struct engine_description *d)
{
	struct qemu *q = e->state;
	int pipe_fds[2];

	if (a->failed)
		return err_set(E2BIG, "QEMU's command line is too long");
	_cleanup_free_ char *program = realpath(d->config->qemu, NULL);
	if (!program)
		return err_sys("%s", d->config->qemu);
	_cleanup_fd_ int self = pidfd_open(getpid(), 0);
	if (self < 0 || pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_sys("make a pipe");
	_cleanup_fd_ int theirs = pipe_fds[1];
	q->errors = pipe_fds[0];
	/* Closed by its execve at the latest. */
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	_cleanup_fd_ int ready = pipe_fds[0], not_ready = pipe_fds[1];
	const struct jail_qemu jail = {.program = program,
		.argv = a->v,
		.fds = a->fds,
		.nfds = a->nfds,
		.kernel = d->kernel,
		.initramfs = d->initramfs,
		.listener = q->relay.listener,
		.threads = THREADS_MAX + d->config->cpus,
		.monitor = getpid(),
		.monitor_pidfd = self};
	struct clone_args ca = {.flags = JAIL_QEMU_FLAGS | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
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
	return r < 0 ? err_ctx(r, "%s", q->net) : watch(e);
}

/* Of its own lists, what a machine has no need of once it runs. */
static int add_sandbox(struct args *a, const struct machine_config *c)
{
	int r = jail_qemu_has_sandbox(c->qemu);

	if (r < 0)
		return r;
	if (r == 0) {
		log_warn("%s was built without -sandbox: any system call is open to it", c->qemu);
		return 0;
	}
	add(a, "-sandbox");
	add(a, "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	return 0;
}

static void *serve_vsock(void *arg)
{
	struct engine *e = arg;
	struct qemu *q = e->state;

	int r = jail_enter_thread(e->jail, JAIL_DEVICES);
	if (r >= 0)
		r = vhost_serve(&q->vsock.dev, q->vsock_sock, q->stop);
	snprintf(q->why, sizeof(q->why), "%s",
		r < 0 ? err_msg() : "QEMU closed its connection to the vsock device");
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
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks) < 0)
		return err_sys("make a socket pair");
	q->vsock_sock = socks[0];
	*ret_theirs = socks[1];
	q->stop = eventfd(0, EFD_CLOEXEC);
	q->lost = eventfd(0, EFD_CLOEXEC);
	return q->stop < 0 || q->lost < 0 ? err_sys("create an eventfd") : 0;
}

/* QEMU would wait for an answer for ever, and of what is none say things that name no mount. */
static int ask_backends(const struct engine_description *d)
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

static int start(struct engine *e, const struct engine_description *d)
{
	_cleanup_fd_ int vsock = -EBADF;
	struct qemu *q = calloc(1, sizeof(*q));
	struct args *a = calloc(1, sizeof(*a));
	int console = fcntl(d->log, F_DUPFD_CLOEXEC, 3);

	e->state = q;
	int r = q && a ? 0 : -ENOMEM;
	if (r >= 0) {
		q->vsock_sock = q->stop = q->errors = q->pidfd = q->lost = -EBADF;
		memcpy(q->backends, d->backends, sizeof(q->backends));
		q->nbackends = d->nbackends;
		q->parameters = d->config->qemu_parameters.n > 0;
		q->relay = (struct relay)RELAY_INIT;
		r = ask_backends(d);
	}
	if (r >= 0)
		r = console < 0 ? err_sys("dup") : make_vsock(q, d->streams, &vsock);
	if (r >= 0)
		r = make_relay(q, d);
	if (r >= 0) {
		add_machine(a, d);
		r = add_sandbox(a, d->config);
	}
	if (r >= 0) {
		add_devices(a, d, vsock, console);
		add_disks(a, d);
		for (size_t i = 0; i < d->config->qemu_parameters.n; i++)
			add(a, "%s", d->config->qemu_parameters.v[i]);
		r = spawn(e, a, d);
	}
	fd_close(&console);
	if (a)
		arena_release(&a->arena);
	free(a);
	return r;
}

static int run(struct engine *e)
{
	struct qemu *q = e->state;

	int r = pthread_create(&q->thread, NULL, serve_vsock, e);
	q->has_thread = r == 0;
	if (r)
		return err_set(r, "start the vsock thread: %s", strerror(r));
	return q->relay.qemu < 0 ? 0 : relay_start(&q->relay, e->jail, q->lost);
}

static const char *lost_backend(const struct qemu *q)
{
	for (size_t i = 0; i < q->nbackends; i++) {
		struct pollfd p = {.fd = q->backends[i].sock, .events = POLLRDHUP};
		if (poll(&p, 1, 0) > 0)
			return q->backends[i].field;
	}
	return NULL;
}

static int end(struct engine *e)
{
	struct qemu *q = e->state;
	struct pollfd p = {.fd = q->pidfd, .events = POLLIN};
	char text[2048];
	int status;

	/* Its end, which tells more, makes that of the connection. */
	bool lives = poll(&p, 1, GRACE_MS) == 0;
	if (lives)
		kill(e->pid, SIGKILL);
	if (waitpid(e->pid, &status, 0) != e->pid)
		return err_sys("wait for QEMU");
	e->pid = 0;
	const char *why = relay_end(&q->relay);
	if (why)
		return err_set(EPIPE, "%s: %s", q->net, why);
	qemu_read_words(q->errors, text, sizeof(text));
	const char *lost = lives ? lost_backend(q) : NULL;
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
	return qemu_ended(WEXITSTATUS(status), text, q->parameters);
}

static void stop(struct engine *e)
{
	struct qemu *q = e->state;

	if (!q)
		return;
	if (e->pid > 0) {
		kill(e->pid, SIGKILL);
		while (waitpid(e->pid, NULL, 0) < 0 && errno == EINTR)
			;
		e->pid = 0;
	}
	if (q->has_thread) {
		eventfd_write(q->stop, 1);
		pthread_join(q->thread, NULL);
	}
	(void)relay_end(&q->relay);
	relay_release(&q->relay);
	if (q->has_vsock)
		virtio_vsock_release(&q->vsock);
	fd_close(&q->vsock_sock);
	fd_close(&q->stop);
	fd_close(&q->errors);
	fd_close(&q->pidfd);
	fd_close(&q->lost);
	fd_close(&e->ended);
	free(q);
	e->state = NULL;
}

const struct engine_ops engine_qemu = {start, run, stop, end};
