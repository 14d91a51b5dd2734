/* SPDX-License-Identifier: Apache-2.0 */
/* Checks whether the host has what microVMs need, on KVM and on QEMU. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "doctor/doctor.h"
#include "images/guest/guest_kernel.h"
#include "machine/qemu.h"
#include "vm/kvm.h"

#define QEMU_INSTALL "apt-get install --no-install-recommends " QEMU_PACKAGE
#define VERSION_MS 5000
#define SCAN_CHUNK (1 << 20)
#define SCAN_MAX (512 << 20)

static int check_guest_kernel(struct doctor_ctx *c)
{
	_cleanup_guest_kernel_ struct guest_kernel k = GUEST_KERNEL_INIT;
	int r = guest_kernel_find(c->arena, &(struct guest_kernel_request){0}, &k);

	if (r == -ENOMEM)
		return r;
	if (r < 0)
		return doctor_report(c, DOCTOR_NO, "guest-kernel", "%s", err_msg());
	return doctor_report(c, DOCTOR_OK, "guest-kernel", "%s (%s%s)", k.path, k.release,
		k.tuned ? ", caisson's own" : "");
}

/*
 * Checks /dev/net/tun, because the interfaces of the container's network namespace reach the guest
 * through taps.
 */
static int check_tun(struct doctor_ctx *c)
{
	_cleanup_fd_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0)
		return doctor_report(c, DOCTOR_OK, "tun", "/dev/net/tun");
	return doctor_report(c, DOCTOR_WARNING, "tun",
		"/dev/net/tun: %s: no network interfaces in microVMs; %s", err_text(errno),
		errno == EACCES ? "let this user open it" : "modprobe tun");
}

/* Checks /dev/vhost-net, without which the frames of microVMs pass through their monitors. */
static int check_vhost_net(struct doctor_ctx *c)
{
	_cleanup_fd_ int fd = open("/dev/vhost-net", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0)
		return doctor_report(c, DOCTOR_OK, "vhost-net",
			"/dev/vhost-net: this kernel moves the frames of microVMs' interfaces");
	return doctor_report(c, DOCTOR_WARNING, "vhost-net",
		"/dev/vhost-net: %s: slower networks in microVMs, whose frames pass through the "
		"hypervisor's process; %s",
		err_text(errno),
		errno == EACCES ? "let this user open it (it often belongs to the group kvm)"
				: "modprobe vhost_net");
}

/*
 * Tells root which ordinary users may open /dev/kvm. An ordinary user gets no such result, because
 * the check "kvm" says whether that user may open /dev/kvm.
 */
static int check_kvm_users(struct doctor_ctx *c)
{
	char group[USER_NAME_MAX];

	if (geteuid() != 0 || access("/dev/kvm", F_OK) < 0)
		return 0;
	if (vm_kvm_group("/dev/kvm", group))
		return doctor_report(c, DOCTOR_OK, "kvm-users",
			"ordinary users in the group %s may open /dev/kvm", group);
	return doctor_report(c, DOCTOR_WARNING, "kvm-users",
		"ordinary users may not open /dev/kvm, so their microVMs run on QEMU: groupadd "
		"--force --system kvm; chgrp kvm /dev/kvm; chmod 0660 /dev/kvm");
}

int doctor_kvm(struct doctor_ctx *c)
{
	char reason[ERR_MAX];
	int runs = vm_kvm_runs_linux("/dev/kvm", reason, sizeof(reason));
	int r = doctor_report(c, runs ? DOCTOR_OK : DOCTOR_NO, "kvm", "%s", reason);

	if (r == 0)
		r = doctor_nested(c);
	if (r == 0)
		r = check_guest_kernel(c);
	if (r == 0)
		r = check_tun(c);
	if (r == 0)
		r = check_vhost_net(c);
	if (r == 0)
		r = check_kvm_users(c);
	return r < 0 ? r : doctor_rootless(c);
}

/* Executes `PATH -version` in the child process, with standard output on the pipe `out`. */
static void exec_version(const char *path, int out)
{
	char *const argv[] = {(char *)path, (char *)"-version", NULL};

	if (fd_set_streams(-EBADF, out, -EBADF) < 0)
		_exit(126);
	close_range(3, ~0U, 0);
	execv(path, argv);
	_exit(127);
}

/* Reads what QEMU prints on the pipe fd: at most size - 1 bytes, and for at most VERSION_MS. */
static void read_version(int fd, char *text, size_t size)
{
	long end = clock_ms() + VERSION_MS;
	size_t len = 0;

	while (len + 1 < size) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		long left = end - clock_ms();
		ssize_t n = left > 0 && poll(&p, 1, (int)left) > 0
				    ? read(fd, text + len, size - len - 1)
				    : -1;

		if (n <= 0)
			break;
		len += (size_t)n;
	}
	text[len] = '\0';
}

/*
 * Runs `PATH -version` and reads QEMU's version from the output. *ret_major is 0 if the output
 * names no version.
 */
static int qemu_version(const char *path, int *ret_major, int *ret_minor)
{
	char text[512];
	int ends[2];

	*ret_major = *ret_minor = 0;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	_cleanup_fd_ int in = ends[0], out = ends[1];
	pid_t pid = fork();
	if (pid < 0)
		return err_sys("fork");
	if (pid == 0)
		exec_version(path, out);
	fd_close(&out);
	read_version(in, text, sizeof(text));
	/*
	 * The child process has printed QEMU's version by now, or else hangs. So it is killed and
	 * need not be waited for longer.
	 */
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (sscanf(text, "QEMU emulator version %d.%d", ret_major, ret_minor) != 2)
		*ret_major = 0;
	return 0;
}

/*
 * Finds out which of the machine and device types in `types` QEMU has. The function searches for
 * their names in QEMU's file, where they are string constants, because asking QEMU (-machine help)
 * would start QEMU once for each question.
 */
static int has_types(const char *path, const char *const *types, size_t n, bool *found)
{
	/*
	 * The file is read in pieces. Each piece begins with the last bytes of the piece before, so
	 * many that a type's name cannot be cut in two.
	 */
	const size_t keep = 64;
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *chunk = malloc(SCAN_CHUNK);
	size_t have = 0;

	if (!chunk)
		return err_set(ENOMEM, "out of memory");
	if (fd < 0)
		return err_sys("open %s", path);
	for (size_t total = 0; total < SCAN_MAX;) {
		ssize_t got = read(fd, chunk + have, SCAN_CHUNK - have);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_sys("read %s", path);
		if (got == 0)
			break;
		have += (size_t)got;
		total += (size_t)got;
		for (size_t i = 0; i < n; i++)
			found[i] |= memmem(chunk, have, types[i], strlen(types[i]) + 1) != NULL;
		if (have > keep) {
			memmove(chunk, chunk + have - keep, keep);
			have = keep;
		}
	}
	return 0;
}

static int check_devices(struct doctor_ctx *c, const char *path)
{
	static const char *const types[] = {"microvm-machine", "vhost-user-fs-device",
		"vhost-user-vsock-device", "virtio-scsi-device"};
	bool found[ARRAY_SIZE(types)] = {false};
	int r = has_types(path, types, ARRAY_SIZE(types), found);

	if (r == -ENOMEM)
		return r;
	/*
	 * Without permission to read QEMU's file the types in it stay unknown, though this user may
	 * be allowed to execute it.
	 */
	if (r < 0)
		return doctor_report(c, DOCTOR_WARNING, "machine", "%s", err_msg());
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (!found[i])
			return doctor_report(c, DOCTOR_NO, "machine",
				"%s has no %s: it was built without; install a complete QEMU", path,
				types[i]);
	return doctor_report(c, DOCTOR_OK, "machine", "microvm, with virtio-fs and vsock");
}

static int check_qemu(struct doctor_ctx *c)
{
	const char *path;
	int major, minor, r = doctor_find_program(c->arena, QEMU_PROGRAM, &path);

	if (r < 0)
		return r;
	if (!path)
		return doctor_report(c, DOCTOR_NO, "qemu",
			"there is no " QEMU_PROGRAM " in $PATH: " QEMU_INSTALL);
	r = qemu_version(path, &major, &minor);
	if (r < 0)
		return r;
	if (major == 0)
		return doctor_report(c, DOCTOR_NO, "qemu",
			"%s -version does not say \"QEMU emulator version ...\": is it "
			"QEMU? " QEMU_INSTALL,
			path);
	if (major < QEMU_MAJOR || (major == QEMU_MAJOR && minor < QEMU_MINOR))
		return doctor_report(c, DOCTOR_NO, "qemu",
			"%s is version %d.%d: install %d.%d or later", path, major, minor,
			QEMU_MAJOR, QEMU_MINOR);
	r = doctor_report(c, DOCTOR_OK, "qemu", "%s, version %d.%d", path, major, minor);
	return r < 0 ? r : check_devices(c, path);
}

int doctor_qemu(struct doctor_ctx *c)
{
	int r = check_qemu(c);

	if (r == 0)
		r = check_guest_kernel(c);
	if (r == 0)
		r = check_tun(c);
	if (r == 0)
		r = check_vhost_net(c);
	return r < 0 ? r : doctor_rootless(c);
}
