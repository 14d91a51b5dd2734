/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests a whole machine with every device that it can have. A bare-metal guest (drive/) drives each
 * of them, correctly and incorrectly. This file is the host's side: a thread that reads the
 * console, echoes network and sockets and serves the file system, and a timer that ends a machine
 * that hangs. The tests need /dev/kvm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/str.h"
#include "vm/fs/vmfs.h"
#include "vm/machine.h"

#define MIB (UINT64_C(1) << 20)
/*
 * guest memory that ends above the hole at VM_HOLE_START, so that there is memory on both sides of
 * it
 */
#define MEMORY (VM_HOLE_START + 16 * MIB)
#define PROGRESS_AT 0x4000 /* guest address of the progress text, the same as in drive.h */
#define BALLOON_PAGES 16
#define ECHO_PORT 7
#define ECHOES_MAX 1024
#define LIMIT_MS 60000

struct host {
	struct machine m;
	pthread_t thread;
	int console[2], keys[2], net[2],
		stop; /* the host's thread uses console[0], keys[1], net[0] and stop */
	int disk, kernel;
	pid_t server;
	pthread_mutex_t lock;
	int echo[ECHOES_MAX]; /* the host's ends of the guest's sockets; guarded by the lock */
	size_t echo_count;
	char said[4096]; /* last part of the console's output */
	size_t said_len;
	char progress[128]; /* text that says what the guest was doing last */
};

static const char *guest_path;

static void hear(struct host *h)
{
	char text[512];
	ssize_t n = read(h->console[0], text, sizeof(text));

	for (ssize_t i = 0; i < n; i++) {
		if (text[i] == '?')
			(void)!write(h->keys[1], "!", 1);
		if (h->said_len == sizeof(h->said) - 1)
			memmove(h->said, h->said + 1, --h->said_len);
		/*
		 * The output may have any bytes, because the guest breaks descriptor chains on
		 * purpose.
		 */
		h->said[h->said_len++] =
			text[i] == '\n' || (text[i] >= ' ' && text[i] < 127) ? text[i] : '~';
	}
}

static void echo(int fd)
{
	char data[4096];
	ssize_t n;

	while ((n = recv(fd, data, sizeof(data), MSG_DONTWAIT)) > 0)
		(void)!send(fd, data, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void echo_all(struct host *h, const struct pollfd *p, size_t n)
{
	pthread_mutex_lock(&h->lock);
	for (size_t i = n; i-- > 0;) {
		if (p[i].revents & POLLIN)
			echo(h->echo[i]);
		if (!(p[i].revents & (POLLHUP | POLLERR)))
			continue;
		fd_close(&h->echo[i]);
		h->echo[i] = h->echo[--h->echo_count];
	}
	pthread_mutex_unlock(&h->lock);
}

static void *live(void *arg)
{
	static struct pollfd p[3 + ECHOES_MAX];
	struct host *h = arg;
	const int64_t end = clock_ms() + LIMIT_MS;
	bool late = false;

	for (;;) {
		pthread_mutex_lock(&h->lock);
		size_t n = h->echo_count;
		for (size_t i = 0; i < n; i++)
			p[3 + i] = (struct pollfd){h->echo[i], POLLIN, 0};
		pthread_mutex_unlock(&h->lock);
		p[0] = (struct pollfd){h->stop, POLLIN, 0};
		p[1] = (struct pollfd){h->console[0], POLLIN, 0};
		p[2] = (struct pollfd){h->net[0], POLLIN, 0};
		/*
		 * The wait is short, because the thread that runs the machine may add sockets
		 * meanwhile.
		 */
		(void)poll(p, 3 + n, 5);
		if (p[1].revents)
			hear(h);
		else if (p[0].revents)
			return NULL;
		if (p[2].revents)
			echo(h->net[0]);
		echo_all(h, p + 3, n);
		if (!late && clock_ms() > end) {
			late = true;
			vcpus_end(&h->m.cpus, VM_END_FAULT, "it hangs");
		}
	}
}

static int on_connect(void *ctx, uint32_t guest_port, uint32_t port, unsigned *ret_use)
{
	struct host *h = ctx;
	int s[2] = {-EBADF, -EBADF};

	if (port != ECHO_PORT)
		return -ECONNREFUSED;
	pthread_mutex_lock(&h->lock);
	if (h->echo_count < ECHOES_MAX &&
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) == 0)
		h->echo[h->echo_count++] = s[1];
	pthread_mutex_unlock(&h->lock);
	return s[0];
}

static void serve_files(struct host *h, int *ret_sock)
{
	char dir[] = "/tmp/drive-XXXXXX";
	int s[2];

	assert_non_null(mkdtemp(dir));
	int root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(root, "here", 0755), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	fflush(NULL);
	h->server = fork();
	assert_true(h->server >= 0);
	if (h->server == 0) {
		struct vmfs_config c = {.sock = s[1],
			.root = root,
			.proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC),
			.max_nodes = 100,
			.max_descriptors = 100,
			.max_handles = 16};

		close(s[0]);
		alarm(2 * LIMIT_MS / 1000);
		(void)!vmfs_serve(&c);
		unlinkat(root, "here", AT_REMOVEDIR);
		_exit(rmdir(dir) < 0);
	}
	close(s[1]);
	close(root);
	*ret_sock = s[0];
}

static void open_ends(struct host *h)
{
	*h = (struct host){.kernel = open(guest_path, O_RDONLY | O_CLOEXEC),
		.disk = memfd_create("disk", MFD_CLOEXEC),
		.stop = eventfd(0, EFD_CLOEXEC)};
	if (h->kernel < 0)
		fail_msg("%s: %m", guest_path);
	assert_int_equal(ftruncate(h->disk, 64 * 512), 0);
	assert_int_equal(pipe2(h->console, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(pipe2(h->keys, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, h->net), 0);
	pthread_mutex_init(&h->lock, NULL);
}

static void close_ends(struct host *h)
{
	int *const fds[] = {&h->kernel, &h->disk, &h->stop, &h->console[0], &h->console[1],
		&h->keys[0], &h->keys[1], &h->net[0], &h->net[1]};

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fd_close(fds[i]);
	while (h->echo_count > 0)
		fd_close(&h->echo[--h->echo_count]);
	pthread_mutex_destroy(&h->lock);
}

/*
 * Runs a machine whose guest does what the letters of `what` stand for (drive/main.c). Returns the
 * guest's last words and stores the machine's end in *ret_end.
 */
static void drive(struct host *h, const char *what, bool optional_share, int *ret_end)
{
	int status, sock;

	open_ends(h);
	serve_files(h, &sock);
	struct machine_disk disk = {.fd = h->disk, .serial = "drive"};
	struct machine_share share = {.tag = "share", .sock = sock, .optional = optional_share};
	struct virtio_net_options nic = {.tap = h->net[1], .mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500};
	struct virtio_vsock_options vsock = {
		.cid = 3, .event_queue = true, .connect = on_connect, .ctx = h};
	struct machine_options o = {.kvm = "/dev/kvm",
		.memory.size = MEMORY,
		.cpus = 2,
		.kernel = h->kernel,
		.initramfs = -EBADF,
		.cmdline = what,
		.console_in = h->keys[0],
		.console_out = h->console[1],
		.balloon = true,
		.disks = &disk,
		.disk_count = 1,
		.shares = &share,
		.share_count = 1,
		.nics = &nic,
		.nic_count = 1,
		.vsock = &vsock};

	if (machine_build(&h->m, &o) < 0)
		fail_msg("%s", err_msg());
	virtio_balloon_set_target(&h->m.balloon, BALLOON_PAGES);
	assert_int_equal(pthread_create(&h->thread, NULL, live, h), 0);
	*ret_end = machine_run(&h->m);
	eventfd_write(h->stop, 1);
	pthread_join(h->thread, NULL);
	const char *at = vm_memory_at(&h->m.memory, PROGRESS_AT, sizeof(h->progress));
	snprintf(h->progress, sizeof(h->progress), "%s", at);
	machine_release(&h->m);
	fd_close(&sock);
	assert_int_equal(waitpid(h->server, &status, 0), h->server);
	close_ends(h);
	assert_int_equal(status, 0);
}

static struct host h;

static void expect_ok(const char *what, unsigned least)
{
	int end;

	drive(&h, what, true, &end);
	const char *ok = strstr(h.said, "\nok ");
	if (end != VM_END_POWEROFF)
		fail_msg("%s: ended by %d: %s", h.progress, end, h.m.cpus.why);
	size_t skip = h.said_len > 300 ? h.said_len - 300 : 0;
	if (!ok)
		fail_msg("%s: the guest says: %s", h.progress, h.said + skip);
	/* The guest must have run to its end, and must have made at least `least` checks. */
	assert_true(strtoul(ok + 4, NULL, 10) >= least);
}

static void as_it_should_be(void **state)
{
	expect_ok("UU", 21);
}

static void registers_in_every_state(void **state)
{
	expect_ok("R", 100);
}

static void configuration(void **state)
{
	expect_ok("C", 40);
}

static void rings(void **state)
{
	expect_ok("Q", 600);
}

static void chains(void **state)
{
	expect_ok("D", 300);
}

static void resets_under_way(void **state)
{
	expect_ok("S", 600);
}

static void two_cpus(void **state)
{
	expect_ok("2", 10);
}

/*
 * Checks that the machine ends if a back end gives up on the guest, but that only the device ends
 * if the device is optional.
 */
static void broken_share(void **state)
{
	int end;

	expect_ok("F", 10);
	drive(&h, "F", false, &end);
	assert_int_equal(end, VM_END_LOST);
	if (!strstr(h.m.cpus.why, "the server of share 'share'"))
		fail_msg("ended by: %s", h.m.cpus.why);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_it_should_be),
		cmocka_unit_test(registers_in_every_state),
		cmocka_unit_test(configuration),
		cmocka_unit_test(rings),
		cmocka_unit_test(chains),
		cmocka_unit_test(resets_under_way),
		cmocka_unit_test(two_cpus),
		cmocka_unit_test(broken_share),
	};

	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		fprintf(stderr, "skipped: a guest that drives the devices needs /dev/kvm\n");
		return 77;
	}
	if (argc < 2 || argc > 3) {
		fprintf(stderr, "expected the guest's file, and perhaps the one test to run\n");
		return 2;
	}
	guest_path = argv[1];
	if (argc == 3)
		cmocka_set_test_filter(argv[2]);
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
