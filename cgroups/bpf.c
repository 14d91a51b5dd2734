/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads, attaches and replaces the device program with bpf(2).
 *
 * The program is attached with BPF_F_ALLOW_MULTI, so that the programs of the cgroups above, and
 * systemd's own program on this cgroup, stay in force: a device is allowed only if all of these
 * programs allow it. caisson finds its own program by name. An update replaces the program in one
 * step (BPF_F_REPLACE, Linux 5.6), so that at no moment the rules are missing or the old and the
 * new program are both attached.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "base/log.h"
#include "cgroups/cg_internal.h"

/* name of caisson's device programs; at most BPF_OBJ_NAME_LEN - 1 = 15 bytes */
#define PROGRAM_NAME "caisson_dev"
/* how many programs a cgroup can have: the kernel's BPF_CGROUP_MAX_PROGS */
#define ATTACHED_MAX 64
#define VERIFIER_LOG_SIZE 65536
#define LOAD_TRIES 30

int cg_bpf(enum bpf_cmd cmd, union bpf_attr *attr)
{
	long r = syscall(SYS_bpf, cmd, attr, sizeof(*attr));

	return r < 0 ? -errno : (int)r;
}

static uint64_t ptr(const void *p)
{
	return (uint64_t)(uintptr_t)p;
}

static int load_program(const struct bpf_insn *insns, size_t n)
{
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
		.insn_cnt = (uint32_t)n,
		.insns = ptr(insns),
		.license = ptr("Apache-2.0"),
		.prog_name = PROGRAM_NAME,
	};
	int r = -EAGAIN;

	/*
	 * Repeats the load of the program after EAGAIN, because the verifier returns EAGAIN if a
	 * signal has interrupted it.
	 */
	for (int i = 0; i < LOAD_TRIES && r == -EAGAIN; i++)
		r = cg_bpf(BPF_PROG_LOAD, &attr);
	if (r >= 0)
		return r;
	_cleanup_free_ char *text =
		r == -EINVAL || r == -EACCES ? calloc(1, VERIFIER_LOG_SIZE) : NULL;
	if (text) {
		attr.log_level = 1;
		attr.log_size = VERIFIER_LOG_SIZE;
		attr.log_buf = ptr(text);
		int again = cg_bpf(BPF_PROG_LOAD, &attr);
		if (again >= 0)
			return again;
	}
	return err_set(-r, "load a device program of %zu instructions: bpf: %s%s%.1000s", n,
		strerror(-r), text && *text ? ": " : "", text ? text : "");
}

bool cg_bpf_is_ours(int fd, uint32_t *ret_id)
{
	struct bpf_prog_info info = {0};
	union bpf_attr attr = {
		.info = {.bpf_fd = (uint32_t)fd, .info_len = sizeof(info), .info = ptr(&info)}};

	if (cg_bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) < 0)
		return false;
	if (ret_id)
		*ret_id = info.id;
	return info.type == BPF_PROG_TYPE_CGROUP_DEVICE && info.created_by_uid == 0 &&
	       strncmp(info.name, PROGRAM_NAME, sizeof(info.name)) == 0;
}

static int detach_program(int dir, int fd)
{
	union bpf_attr attr = {.target_fd = (uint32_t)dir,
		.attach_bpf_fd = (uint32_t)fd,
		.attach_type = BPF_CGROUP_DEVICE};
	int r = cg_bpf(BPF_PROG_DETACH, &attr);

	return r < 0 ? err_set(-r, "detach a device program: bpf: %s", strerror(-r)) : 0;
}

/*
 * Opens caisson's programs that are attached to the cgroup. Normally there is none or one. The
 * caller closes the descriptors.
 */
static int find_our_programs(int dir, int fds[static ATTACHED_MAX], size_t *ret_n)
{
	uint32_t ids[ATTACHED_MAX];
	union bpf_attr attr = {.query = {.target_fd = (uint32_t)dir,
				       .attach_type = BPF_CGROUP_DEVICE,
				       .prog_ids = ptr(ids),
				       .prog_cnt = ATTACHED_MAX}};
	int r = cg_bpf(BPF_PROG_QUERY, &attr);

	*ret_n = 0;
	if (r < 0)
		return err_set(-r, "list the device programs: bpf: %s", strerror(-r));
	for (uint32_t i = 0, n = attr.query.prog_cnt; i < n && i < ATTACHED_MAX; i++) {
		union bpf_attr get = {.prog_id = ids[i]};
		_cleanup_fd_ int fd = cg_bpf(BPF_PROG_GET_FD_BY_ID, &get);
		/*
		 * Skips a program that cannot be opened, because that program is not caisson's: it
		 * was detached in the meantime, or a security module hides it.
		 */
		if (fd < 0)
			continue;
		if (cg_bpf_is_ours(fd, NULL))
			fds[(*ret_n)++] = take_fd(&fd);
	}
	return 0;
}

static int attach_program(int dir, int fd, int replace)
{
	union bpf_attr attr = {.target_fd = (uint32_t)dir,
		.attach_bpf_fd = (uint32_t)fd,
		.attach_type = BPF_CGROUP_DEVICE,
		.attach_flags = BPF_F_ALLOW_MULTI};

	if (replace >= 0) {
		attr.attach_flags |= BPF_F_REPLACE;
		attr.replace_bpf_fd = (uint32_t)replace;
	}
	int r = cg_bpf(BPF_PROG_ATTACH, &attr);
	return r < 0 ? err_set(-r, "attach a device program: bpf: %s", strerror(-r)) : 0;
}

/*
 * Returns a descriptor of the device program: opens the pinned copy from an earlier container, or
 * loads the program.
 */
static int open_program(const struct bpf_insn *insns, size_t n)
{
	_cleanup_fd_ int fd = cg_pin_find(insns, n);

	if (fd >= 0)
		return take_fd(&fd);
	fd = load_program(insns, n);
	if (fd >= 0)
		cg_pin_keep(insns, n, fd);
	return fd < 0 ? fd : take_fd(&fd);
}

static bool is_same_program(int a, int b)
{
	uint32_t ids[2];

	return cg_bpf_is_ours(a, &ids[0]) && cg_bpf_is_ours(b, &ids[1]) && ids[0] == ids[1];
}

int cg_bpf_install(int dir, const struct bpf_insn *insns, size_t n, const char *path)
{
	int old[ATTACHED_MAX];
	size_t nold = 0, first = 0;
	int r = find_our_programs(dir, old, &nold);

	if (r == 0 && n > 0) {
		_cleanup_fd_ int fd = open_program(insns, n);
		r = fd < 0 ? fd : 0;
		if (r == 0 && !(nold && is_same_program(fd, old[0])))
			r = attach_program(dir, fd, nold ? old[0] : -EBADF);
		/*
		 * old[0] is not detached below: the new program has replaced it, or is the same one
		 */
		first = 1;
	}
	for (size_t i = 0; i < nold; i++) {
		if (r == 0 && i >= first)
			r = detach_program(dir, old[i]);
		fd_close(&old[i]);
	}
	return r < 0 ? err_ctx(r, "cgroup %s", path) : 0;
}
