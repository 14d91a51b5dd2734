/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests shares that a virtio-fs server provides over vhost-user: caisson's server in a process of
 * its own, and virtiofsd if it is installed. With /dev/kvm it also tests a whole machine that loses
 * its share's server.
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

#include "unit/rig/descriptors.h"
#include "unit/rig/vhost_back.h"
#include "unit/rig/vhost_device.h"
#include "vm/fs/vmfs.h"
#include "vm/machine.h"

#define REQUESTS 1 /* number of the queue for FUSE requests */
#define FEATURES (BACK_V1 | BACK_RINGS | BACK_PROTOCOL_BIT)
#define DATA_OUT (DATA + 0x10000)

/* Sends one FUSE request. Returns the error in its answer, or INT_MIN if there is no answer. */
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
	/* By used_event the driver asks for an interrupt after this request. */
	avail(g, REQUESTS)->ring[g->size] = before;
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

/*
 * Path of virtiofsd, a server of QEMU's developers. The tests use it to find out whether caisson
 * understands the protocol as another project does.
 */
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
	/*
	 * The back end raises the interrupt itself, without the transport. The driver must still
	 * see the interrupt's reason in the register INTERRUPT_STATUS.
	 */
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
	if (virtio_fs_init(&fs, &w.g.memory, "root", sock, false) < 0)
		fail_msg("%s", err_msg());
	wired_attach(&w, &fs.vhost);
	assert_int_equal(get(&w.g, VIRTIO_MMIO_DEVICE_ID), 26);
	assert_memory_equal(&fs.config, "root\0\0\0\0", 8);
	assert_int_equal(get(&w.g, VIRTIO_MMIO_CONFIG + VIRTIO_FS_TAG_MAX), 1);
	use_share(&w);
	/*
	 * After a reset the server has no request under way, so the test may write to the queue.
	 * Then a second driver starts the device, as after a reboot.
	 */
	set(&w.g, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(get(&w.g, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	offer(&w.g, REQUESTS, 0);
	eventfd_write(w.kicks[REQUESTS], 1);
	uint16_t idle = used(&w.g, REQUESTS)->idx;
	usleep(50000);
	assert_int_equal(used(&w.g, REQUESTS)->idx, idle);
	use_share(&w);
	/*
	 * The server is killed. The device must report this once to the driver and once to the
	 * monitor, and must not start again.
	 */
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

/* Sends one FUSE request through the shadow, with the test as the event loop. */
static int fuse_by_shadow(struct wired *w, uint32_t opcode, const void *args, uint32_t len)
{
	struct fuse_in_header in = {
		.len = (uint32_t)sizeof(in) + len, .opcode = opcode, .unique = 7, .nodeid = 1};
	struct rig *g = &w->g;
	uint16_t before = used(g, REQUESTS)->idx;

	memcpy(at(g, DATA, sizeof(in)), &in, sizeof(in));
	memcpy(at(g, DATA + sizeof(in), len), args, len);
	put_desc(desc(g, REQUESTS, 0), DATA, in.len, NEXT, 1);
	put_desc(desc(g, REQUESTS, 1), DATA_OUT, 0x10000, WRITE, 0);
	avail(g, REQUESTS)->ring[g->size] = before;
	offer(g, REQUESTS, 0);
	(void)virtio_kick(g->dev, REQUESTS);
	while (used(g, REQUESTS)->idx == before)
		if (!wired_serve_event(w, PATIENCE_MS))
			return INT_MIN;
	const struct fuse_out_header *out = at(g, DATA_OUT, sizeof(*out));
	assert_int_equal(out->unique, 7);
	return out->error;
}

static void use_share_by_shadow(struct wired *w)
{
	struct fuse_init_in init = {.major = 7, .minor = 31};

	bring_up(&w->g, EVENT | INDIRECT);
	assert_int_equal(get(&w->g, VIRTIO_MMIO_STATUS), 15);
	unsigned before = w->g.interrupts;
	assert_int_equal(fuse_by_shadow(w, FUSE_INIT, &init, sizeof(init)), 0);
	assert_int_equal(fuse_by_shadow(w, FUSE_LOOKUP, "here", 5), 0);
	assert_int_equal(fuse_by_shadow(w, FUSE_LOOKUP, "gone", 5), -ENOENT);
	assert_int_equal(w->g.interrupts, before + 3);
}

/* Guest memory that the server cannot map: it gets copies of the requests (vm/vhost/shadow.h). */
static void share_of_private_memory(void **state)
{
	char dir[] = "/tmp/vhost-user-test.XXXXXX", path[64];
	struct wired w = {.g.size = RIG_SIZE};
	struct virtio_fs fs;
	int sock, status;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/here", dir);
	assert_int_equal(mkdir(path, 0755), 0);
	unsigned before = descriptors_below(1024);
	pid_t server = serve_tree(dir, &sock);
	assert_int_equal(vm_memory_init(&w.g.memory,
				 &(struct vm_memory_options){.size = RIG_RAM, .mergeable = true}),
		0);
	if (virtio_fs_init(&fs, &w.g.memory, "root", sock, false) < 0)
		fail_msg("%s", err_msg());
	wired_attach(&w, &fs.vhost);
	use_share_by_shadow(&w);
	set(&w.g, VIRTIO_MMIO_STATUS, 0);
	use_share_by_shadow(&w);
	kill(server, SIGKILL);
	for (int i = 0; i < 3 && !is_broken(&w.g); i++)
		(void)wired_serve_event(&w, PATIENCE_MS);
	assert_true(is_broken(&w.g));
	assert_string_equal(w.why, "the server of share 'root': it has hung up");
	assert_int_equal(w.lost, 1);
	vhost_user_release(&fs.vhost);
	wired_release(&w);
	assert_int_equal(waitpid(server, &status, 0), server);
	close(sock);
	assert_int_equal(descriptors_below(1024), before);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

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

/*
 * Makes a kernel file whose code only halts the processor for ever. Returns the file's descriptor.
 */
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
		.code = {0xf4, 0xeb, 0xfd}, /* the instructions hlt, and jmp back to it */
	};
	int fd = memfd_create("kernel", MFD_CLOEXEC);

	assert_int_equal(write(fd, &k, sizeof(k)), sizeof(k));
	return fd;
}

static void machine_loses_its_share(void **state)
{
	unsigned before = descriptors_below(1024);
	struct back b[2] = {{.features = FEATURES, .protocol = BACK_ACK, .queues = 2},
		{.features = FEATURES, .protocol = BACK_ACK, .queues = 2}};
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
	/*
	 * The machine must go on without the server of the first share, which is optional, and must
	 * end when it loses the server of the second share.
	 */
	shutdown(b[0].sock, SHUT_RDWR);
	shutdown(b[1].sock, SHUT_RDWR);
	assert_int_equal(machine_run(m), VM_END_LOST);
	assert_string_equal(m->cpus.why, "the server of share 'root': it has hung up");
	assert_non_null(strstr(m->shares[0].vhost.dev.broken, "the server of share 'spare'"));
	machine_release(m);
	/* Building the machine must fail if the server of a share has hung up before. */
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
		cmocka_unit_test(share_of_private_memory),
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
