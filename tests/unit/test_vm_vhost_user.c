/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front end of vhost-user: a driver that plays by the registers against the real virtio-fs
 * server in a process of its own, and against back ends that misbehave at each request in each way.
 * Where there is /dev/kvm: what becomes of a whole machine whose server is lost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <elf.h>
#include <limits.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "unit/rig/descriptors.h"
#include "unit/rig/vhost_back.h"
#include "unit/rig/vhost_device.h"
#include "vm/fs/vmfs.h"
#include "vm/machine.h"
#include "vm/virtio/fs.h"

#define TIMEOUT_MS 300 /* for a back end that will not answer */
#define REQUESTS 1     /* queue */
#define DATA_OUT (DATA + 0x10000)

/* One FUSE request; the error in its answer. INT_MIN: none came. */
static int fuse(struct wired *w, uint32_t opcode, const void *args, uint32_t len)
{
	struct fuse_in_header in = {
		.len = (uint32_t)sizeof(in) + len, .opcode = opcode, .unique = 7, .nodeid = 1};
	struct pollfd p = {w->call, POLLIN, 0};
	eventfd_t n;
	struct rig *g = &w->g;
	uint16_t before = used(g, REQUESTS)->idx;

	memcpy(at(g, DATA, sizeof(in)), &in, sizeof(in));
	memcpy(at(g, DATA + sizeof(in), len), args, len);
	put_desc(desc(g, REQUESTS, 0), DATA, in.len, NEXT, 1);
	put_desc(desc(g, REQUESTS, 1), DATA_OUT, 0x10000, WRITE, 0);
	avail(g, REQUESTS)->ring[g->size] = before; /* tell me of the next one (EVENT_IDX) */
	offer(g, REQUESTS, 0);
	eventfd_write(w->kicks[REQUESTS], 1);
	while (__atomic_load_n(&used(g, REQUESTS)->idx, __ATOMIC_SEQ_CST) == before)
		if (poll(&p, 1, 10000) <= 0 || eventfd_read(w->call, &n) < 0)
			return INT_MIN;
	const struct fuse_out_header *out = at(g, DATA_OUT, sizeof(*out));
	assert_int_equal(out->unique, 7);
	return out->error;
}

static int fuse_init(struct wired *w)
{
	struct fuse_init_in in = {.major = 7, .minor = 31};

	return fuse(w, FUSE_INIT, &in, sizeof(in));
}

/* --- the real server --- */

static pid_t serve_tree(const char *dir, int *ret_sock)
{
	int s[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct vmfs_config c = {
			.sock = s[1], .max_nodes = 100, .max_descriptors = 100, .max_handles = 16};

		close(s[0]);
		alarm(60);
		c.root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		c.proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (vmfs_serve(&c) < 0)
			fprintf(stderr, "# server: %s\n", err_msg());
		_exit(0);
	}
	close(s[1]);
	*ret_sock = s[0];
	return pid;
}

/* QEMU's own, which was there before caisson: another's idea of the protocol. */
#define VIRTIOFSD "/usr/lib/qemu/virtiofsd"

static pid_t serve_by_virtiofsd(const char *dir, int *ret_sock)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char socket_option[128], source[128];

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s.sock", dir);
	snprintf(socket_option, sizeof(socket_option), "--socket-path=%s", addr.sun_path);
	snprintf(source, sizeof(source), "source=%s", dir);
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(60);
		execl(VIRTIOFSD, VIRTIOFSD, "-f", socket_option, "-o", source, "-o",
			"sandbox=chroot", "-o", "log_level=err", NULL);
		_exit(127);
	}
	*ret_sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	for (int i = 0; connect(*ret_sock, (struct sockaddr *)&addr, sizeof(addr)) < 0; i++) {
		if (i == 1000)
			fail_msg("no virtiofsd at %s", addr.sun_path);
		usleep(10000);
	}
	unlink(addr.sun_path);
	return pid;
}

static void use_share(struct wired *w)
{
	bring_up(&w->g, EVENT | INDIRECT);
	assert_int_equal(get(&w->g, VIRTIO_MMIO_STATUS), 15);
	assert_int_equal(fuse_init(w), 0);
	assert_int_equal(fuse(w, FUSE_LOOKUP, "here", 5), 0);
	assert_int_equal(fuse(w, FUSE_LOOKUP, "gone", 5), -ENOENT);
	/* The back end rang, not the transport; the driver must still see what for. */
	assert_int_equal(w->g.interrupts, 0);
	assert_int_equal(get(&w->g, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	set(&w->g, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
	assert_int_equal(get(&w->g, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	assert_false(wired_serve_event(w, 0));
}

static void share_of(pid_t (*serve)(const char *dir, int *ret_sock))
{
	char dir[] = "/tmp/vhost-user-test.XXXXXX", path[64];
	struct wired w;
	struct virtio_fs fs;
	int sock, status;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/here", dir);
	assert_int_equal(mkdir(path, 0755), 0);
	unsigned before = descriptors_below(1024);
	pid_t server = serve(dir, &sock);
	rig_memory(&w.g);
	w.lost = 0;
	if (virtio_fs_init(&fs, &w.g.memory, "root", sock) < 0)
		fail_msg("%s", err_msg());
	wired_attach(&w, &fs.vhost);
	assert_int_equal(get(&w.g, VIRTIO_MMIO_DEVICE_ID), 26);
	assert_memory_equal(&fs.config, "root\0\0\0\0", 8);
	assert_int_equal(get(&w.g, VIRTIO_MMIO_CONFIG + VIRTIO_FS_TAG_MAX), 1);
	use_share(&w);
	/* Reset: nothing is pending, the queue is ours; then a second driver, as after a reboot. */
	set(&w.g, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(get(&w.g, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	offer(&w.g, REQUESTS, 0);
	eventfd_write(w.kicks[REQUESTS], 1);
	uint16_t idle = used(&w.g, REQUESTS)->idx;
	usleep(50000);
	assert_int_equal(used(&w.g, REQUESTS)->idx, idle);
	use_share(&w);
	/* The server dies: the driver is told, and the monitor, once; nothing starts any more. */
	kill(server, SIGKILL);
	assert_true(wired_serve_event(&w, PATIENCE_MS));
	assert_true(is_broken(&w.g));
	assert_int_equal(get(&w.g, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(w.g.interrupts, 1);
	assert_string_equal(w.why, "the server of share 'root': it has hung up");
	assert_string_equal(fs.vhost.dev.broken, "fs: the server of share 'root': it has hung up");
	assert_false(wired_serve_event(&w, 0));
	bring_up(&w.g, 0);
	assert_true(is_broken(&w.g));
	assert_int_equal(w.lost, 1);
	wired_release(&w);
	assert_int_equal(waitpid(server, &status, 0), server);
	close(sock);
	assert_int_equal(descriptors_below(1024), before);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void share(void **state)
{
	share_of(serve_tree);
}

static void share_by_virtiofsd(void **state)
{
	if (access(VIRTIOFSD, X_OK) < 0 || geteuid() != 0) {
		print_message(
			"# skipped: " VIRTIOFSD " (qemu-system-common) and root are needed\n");
		skip();
	}
	share_of(serve_by_virtiofsd);
}

/* --- back ends that misbehave --- */

#define ALL_FEATURES (BACK_V1 | BACK_RINGS | BACK_PROTOCOL_BIT)
#define ALL_PROTOCOL (BACK_MQ | BACK_ACK | BACK_CONFIG)

static int init_within(struct vhost_user *v, const struct vm_memory *m, int sock,
	uint32_t config_len, unsigned timeout_ms)
{
	return vhost_user_init(v, m,
		&(struct vhost_user_options){.sock = sock,
			.peer = "the back end",
			.name = "dev",
			.id = 2,
			.queue_count = 2,
			.features = 0x40,
			.config_len = config_len,
			.timeout_ms = timeout_ms});
}

static int init(struct vhost_user *v, const struct vm_memory *m, int sock, uint32_t config_len)
{
	return init_within(v, m, sock, config_len, PATIENCE_MS);
}

static int64_t ms_since(const struct timespec *from)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)(now.tv_sec - from->tv_sec) * 1000 +
	       (now.tv_nsec - from->tv_nsec) / 1000000;
}

/* Where in its life the back end misbehaves, and what the error must name. */
static const struct {
	uint32_t request;
	enum { AT_INIT, AT_START, AT_STOP } when;
	const char *name;
} places[] = {
	{VHOST_USER_GET_FEATURES, AT_INIT, "GET_FEATURES"},
	{VHOST_USER_GET_PROTOCOL_FEATURES, AT_INIT, "GET_PROTOCOL_FEATURES"},
	{VHOST_USER_GET_QUEUE_NUM, AT_INIT, "GET_QUEUE_NUM"},
	{VHOST_USER_GET_CONFIG, AT_INIT, "GET_CONFIG"},
	{VHOST_USER_SET_FEATURES, AT_START, "SET_FEATURES"},
	{VHOST_USER_SET_MEM_TABLE, AT_START, "SET_MEM_TABLE"},
	{VHOST_USER_SET_VRING_NUM, AT_START, "SET_VRING_NUM"},
	{VHOST_USER_SET_VRING_BASE, AT_START, "SET_VRING_BASE"},
	{VHOST_USER_SET_VRING_ADDR, AT_START, "SET_VRING_ADDR"},
	{VHOST_USER_SET_VRING_CALL, AT_START, "SET_VRING_CALL"},
	{VHOST_USER_SET_VRING_KICK, AT_START, "SET_VRING_KICK"},
	{VHOST_USER_SET_VRING_ENABLE, AT_START, "SET_VRING_ENABLE"},
	{VHOST_USER_GET_VRING_BASE, AT_STOP, "GET_VRING_BASE"},
};

static const struct {
	enum misdeed how;
	const char *text;
} misdeeds[] = {
	{WRONG_REQUEST, "is to request"},
	{WRONG_FLAGS, "with flags 0x1:"},
	{WRONG_VERSION, "with flags 0x6:"},
	{SHORT_PAYLOAD, "bytes: expected"},
	{LARGE_PAYLOAD, "bytes: expected"},
	{HUGE_PAYLOAD, "4294967295 bytes: expected"},
	{SILENT, "no answer to"},
	{HANGS_UP, "hung up"},
	{HALF_AN_ANSWER, "hung up"},
	{WITH_FDS, "descriptors in the answer"},
	{TRICKLES, "no answer to"},
};

static void expect_message(const char *message, const char *text, const char *name)
{
	if (!strstr(message, text) || !strstr(message, name) || !strstr(message, "the back end: "))
		fail_msg("expected '%s' about %s, got: %s", text, name, message);
}

static void misbehave(size_t place, enum misdeed how, const char *text)
{
	struct back b = {.features = ALL_FEATURES,
		.protocol = ALL_PROTOCOL,
		.queues = 2,
		.at = places[place].request,
		.how = how};
	struct timespec began;
	struct wired w = {.lost = 0};
	struct vhost_user v;
	int sock = back_start(&b);

	clock_gettime(CLOCK_MONOTONIC, &began);
	rig_memory(&w.g);
	int r = init_within(&v, &w.g.memory, sock, 8,
		how == SILENT || how == TRICKLES ? TIMEOUT_MS : PATIENCE_MS);
	if (places[place].when == AT_INIT) {
		assert_true(r < 0);
		expect_message(err_msg(), text, places[place].name);
		vm_memory_release(&w.g.memory);
	} else {
		if (r < 0)
			fail_msg("%s", err_msg());
		wired_attach(&w, &v);
		bring_up(&w.g, 0);
		if (places[place].when == AT_START) {
			assert_true(is_broken(&w.g));
		} else {
			assert_false(is_broken(&w.g));
			set(&w.g, VIRTIO_MMIO_STATUS, 0); /* whatever comes, reset is done */
			assert_int_equal(get(&w.g, VIRTIO_MMIO_STATUS), 0);
		}
		assert_int_equal(w.lost, 0);
		assert_true(wired_serve_event(&w, PATIENCE_MS));
		assert_int_equal(w.lost, 1);
		assert_true(is_broken(&w.g));
		expect_message(w.why, text, places[place].name);
		expect_message(v.dev.broken, text, places[place].name);
		wired_release(&w);
	}
	assert_in_range(ms_since(&began), 0, PATIENCE_MS / 2);
	back_end(&b, &sock);
}

static void hostile(void **state)
{
	for (size_t p = 0; p < ARRAY_SIZE(places); p++) {
		unsigned before = descriptors_below(1024);

		for (size_t i = 0; i < ARRAY_SIZE(misdeeds); i++)
			misbehave(p, misdeeds[i].how, misdeeds[i].text);
		if (places[p].when == AT_START)
			misbehave(p, REFUSES, "refuses");
		assert_int_equal(descriptors_below(1024), before);
	}
	/* The other queue's index, another part of the configuration. */
	misbehave(12, WRONG_CONTENT, "answers for queue 1");
	misbehave(3, WRONG_CONTENT, "8 bytes at 1: expected 8 at 0");
}

/* What follows a correct answer unasked is noticed, at once or by the next exchange. */
static void talks_on(void **state)
{
	struct back b = {.features = ALL_FEATURES,
		.protocol = ALL_PROTOCOL,
		.queues = 2,
		.at = VHOST_USER_GET_VRING_BASE,
		.how = TALKS_ON};
	struct wired w = {.lost = 0};
	struct vhost_user v;
	int sock = back_start(&b);

	rig_memory(&w.g);
	assert_int_equal(init(&v, &w.g.memory, sock, 0), 0);
	wired_attach(&w, &v);
	set(&w.g, VIRTIO_MMIO_STATUS, 0);
	assert_true(negotiate(&w.g, V1));
	set_queue(&w.g, 0, DESC(0), AVAIL(0), USED(0)); /* one queue only */
	set(&w.g, VIRTIO_MMIO_STATUS, 15);
	assert_int_equal(b.seen[VHOST_USER_SET_VRING_KICK], 1);
	set(&w.g, VIRTIO_MMIO_STATUS, 0);
	assert_true(wired_serve_event(&w, PATIENCE_MS));
	assert_string_equal(w.why, "the back end: it speaks without being asked");
	wired_release(&w);
	back_end(&b, &sock);
}

/* --- what a back end may lack --- */

struct attempt {
	struct back b;
	struct wired w;
	struct vhost_user v;
	int sock, result;
};

static void attempt(struct attempt *a, uint64_t features, uint64_t protocol, uint64_t queues)
{
	*a = (struct attempt){.b = {.features = features, .protocol = protocol, .queues = queues}};
	memcpy(a->b.config, "configuration", 13);
	a->sock = back_start(&a->b);
	rig_memory(&a->w.g);
	a->result = init(&a->v, &a->w.g.memory, a->sock, protocol & BACK_CONFIG ? 16 : 0);
	if (a->result < 0)
		return;
	wired_attach(&a->w, &a->v);
	bring_up(&a->w.g, 0);
	assert_int_equal(get(&a->w.g, VIRTIO_MMIO_STATUS), 15);
}

static void attempt_over(struct attempt *a)
{
	if (a->result < 0)
		vm_memory_release(&a->w.g.memory);
	else
		wired_release(&a->w);
	back_end(&a->b, &a->sock);
}

static void attempt_fails(uint64_t features, uint64_t protocol, uint64_t queues, const char *text)
{
	struct attempt a;

	attempt(&a, features, protocol, queues);
	assert_true(a.result < 0);
	if (!strstr(err_msg(), text) || !str_starts(err_msg(), "dev: the back end: "))
		fail_msg("expected '%s', got: %s", text, err_msg());
	attempt_over(&a);
}

static void lacking(void **state)
{
	struct attempt a;
	struct vhost_user v;
	struct vm_memory private;

	attempt_fails(BACK_RINGS | BACK_PROTOCOL_BIT, ALL_PROTOCOL, 2, "VIRTIO_F_VERSION_1");
	attempt_fails(ALL_FEATURES, ALL_PROTOCOL, 1, "it has 1 queues: the device needs 2");
	/* Neither protocol features nor acknowledgements: it works all the same. */
	attempt(&a, BACK_V1, 0, 2);
	assert_int_equal(a.result, 0);
	set(&a.w.g, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	assert_int_equal(get(&a.w.g, VIRTIO_MMIO_DEVICE_FEATURES), 1); /* VERSION_1 */
	set(&a.w.g, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	assert_int_equal(get(&a.w.g, VIRTIO_MMIO_DEVICE_FEATURES), 0);
	assert_false(
		negotiate(&a.w.g, V1 | EVENT)); /* resets, too: all has arrived by its answer */
	assert_int_equal(a.b.seen[VHOST_USER_GET_VRING_BASE], 2);
	assert_int_equal(a.b.seen[VHOST_USER_SET_VRING_ENABLE], 0);
	assert_int_equal(a.b.set_features, BACK_V1);
	attempt_over(&a);
	/* Features of the type that it and the device know, and none besides. */
	attempt(&a, ~UINT64_C(0), ALL_PROTOCOL, 99);
	set(&a.w.g, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	assert_int_equal(get(&a.w.g, VIRTIO_MMIO_DEVICE_FEATURES), 0x30000040);
	set(&a.w.g, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	assert_int_equal(get(&a.w.g, VIRTIO_MMIO_DEVICE_FEATURES), 1);
	assert_int_equal(a.b.set_features, BACK_V1 | BACK_PROTOCOL_BIT);
	assert_int_equal(a.b.fds[VHOST_USER_SET_MEM_TABLE], 1);
	assert_int_equal(a.b.fds[VHOST_USER_SET_VRING_KICK], 2);
	assert_int_equal(a.b.fds[VHOST_USER_SET_VRING_CALL], 2);
	attempt_over(&a);
	/* Memory that has no descriptor. */
	assert_int_equal(vm_memory_init(&private,
				 &(struct vm_memory_options){.size = RIG_RAM, .mergeable = true}),
		0);
	assert_int_equal(init(&v, &private, -1, 0), -EINVAL);
	assert_non_null(strstr(err_msg(), "can't be shared with the back end"));
	vm_memory_release(&private);
}

static void configuration(void **state)
{
	struct attempt a;
	uint8_t four[4];

	attempt(&a, ALL_FEATURES, ALL_PROTOCOL, 2);
	vm_bus_read(&a.w.g.bus, VIRTIO_MMIO_CONFIG + 4, four, 4);
	assert_memory_equal(four, "igur", 4);
	vm_bus_write(&a.w.g.bus, VIRTIO_MMIO_CONFIG + 14, "xy", 2);
	assert_memory_equal(a.b.config, "configuration\0xy", 16);
	vm_bus_read(&a.w.g.bus, VIRTIO_MMIO_CONFIG + 12, four, 4);
	assert_memory_equal(four, "n\0xy", 4);
	/* Past the end: nothing is sent. */
	vm_bus_write(&a.w.g.bus, VIRTIO_MMIO_CONFIG + 14, "1234", 4);
	assert_int_equal(a.b.seen[VHOST_USER_SET_CONFIG], 1);
	attempt_over(&a);
}

static void bad_tags(void **state)
{
	struct virtio_fs fs;
	struct vm_memory m = {.fd = 0};

	assert_int_equal(virtio_fs_init(&fs, &m, "", -1), -EINVAL);
	assert_int_equal(
		virtio_fs_init(&fs, &m, "0123456789012345678901234567890123456", -1), -EINVAL);
	assert_non_null(strstr(err_msg(), "37 bytes, expected 1 to 36"));
}

/* --- a whole machine --- */

struct kernel {
	Elf64_Ehdr h;
	Elf64_Phdr load, note;
	struct {
		Elf64_Nhdr head;
		char name[4];
		uint64_t entry;
	} xen;
	uint8_t code[4];
};

/* A kernel that halts, for good. */
static int halting_kernel(void)
{
	struct kernel k = {
		.h = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB},
			.e_type = ET_EXEC,
			.e_machine = EM_X86_64,
			.e_phoff = offsetof(struct kernel, load),
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = 2},
		.load = {.p_type = PT_LOAD,
			.p_offset = offsetof(struct kernel, code),
			.p_paddr = 0x100000,
			.p_filesz = 4,
			.p_memsz = 4096},
		.note = {.p_type = PT_NOTE,
			.p_offset = offsetof(struct kernel, xen),
			.p_filesz = sizeof(k.xen)},
		.xen = {{4, 8, 18}, "Xen", 0x100000},
		.code = {0xf4, 0xeb, 0xfd}, /* hlt; jmp back */
	};
	int fd = memfd_create("kernel", MFD_CLOEXEC);

	assert_int_equal(write(fd, &k, sizeof(k)), sizeof(k));
	return fd;
}

static void machine_loses_its_share(void **state)
{
	unsigned before = descriptors_below(1024);
	struct back b[2] = {{.features = ALL_FEATURES, .protocol = BACK_ACK, .queues = 2},
		{.features = ALL_FEATURES, .protocol = BACK_ACK, .queues = 2}};
	_cleanup_fd_ int kernel = halting_kernel();
	struct machine_share shares[2] = {
		{"spare", back_start(&b[0]), true}, {"root", back_start(&b[1]), false}};
	struct machine_options o = {.kvm = "/dev/kvm",
		.memory.size = 16 << 20,
		.cpus = 1,
		.kernel = kernel,
		.initramfs = -EBADF,
		.cmdline = "",
		.console_in = -EBADF,
		.console_out = -EBADF,
		.shares = shares,
		.share_count = 2};
	struct machine *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	if (machine_build(m, &o) < 0)
		fail_msg("%s", err_msg());
	/* The one that may go first: it is the other that ends the machine. */
	shutdown(b[0].sock, SHUT_RDWR);
	shutdown(b[1].sock, SHUT_RDWR);
	assert_int_equal(machine_run(m), VM_END_LOST);
	assert_string_equal(m->cpus.why, "the server of share 'root': it has hung up");
	assert_non_null(strstr(m->shares[0].vhost.dev.broken, "the server of share 'spare'"));
	machine_release(m);
	/* A server that is none, when the machine is built. */
	assert_true(machine_build(m, &o) < 0);
	assert_non_null(strstr(err_msg(), "share 0: fs: the server of share 'spare': "));
	o.share_count = MACHINE_SHARES_MAX + 1;
	assert_int_equal(machine_build(m, &o), -EINVAL);
	for (int i = 0; i < 2; i++)
		back_end(&b[i], &shares[i].sock);
	fd_close(&kernel);
	assert_int_equal(descriptors_below(1024), before);
	free(m);
}

int main(void)
{
	const struct CMUnitTest plain[] = {
		cmocka_unit_test(share),
		cmocka_unit_test(share_by_virtiofsd),
		cmocka_unit_test(hostile),
		cmocka_unit_test(talks_on),
		cmocka_unit_test(lacking),
		cmocka_unit_test(configuration),
		cmocka_unit_test(bad_tags),
	};
	const struct CMUnitTest with_kvm[] = {
		cmocka_unit_test(machine_loses_its_share),
	};
	int failed = cmocka_run_group_tests(plain, NULL, NULL);

	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		fprintf(stderr, "skipped: the test of a whole machine needs /dev/kvm\n");
		return failed ? failed : 77;
	}
	return failed + cmocka_run_group_tests(with_kvm, NULL, NULL);
}
