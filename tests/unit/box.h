/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A box to try INIT's mount steps in: a "host" (a process in a mount namespace of its own, with
 * scratch tmpfs at /tmp, /tmp/box and /dev) that opens sources, and an "INIT" in further namespaces
 * that walks steps. Whatever is done goes away with the processes, and the machine's own root is
 * read-only to them: code that escapes from the root file system, which is what is tested here,
 * must fail the test and not the machine. Within either, EXPECT() ends the process with a message
 * instead of cmocka's asserts, which work in the test's own process only.
 */
#pragma once
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/path.h"
#include "step/host_open.h"
#include "step/mnt.h"

#define BOX "/tmp/box"
#define ROOTFS BOX "/rootfs"
#define HOSTDIR BOX "/host" /* what containers must never reach */

#define EXPECT(cond) \
	do { \
		if (!(cond)) { \
			fprintf(stderr, "%s:%d: expected %s (errno %s; last error \"%s\")\n", \
				__FILE__, __LINE__, #cond, strerror(errno), err_msg()); \
			_exit(1); \
		} \
	} while (0)

#define EXPECT_ERR(call, code, text) \
	do { \
		err_clear(); \
		int got_ = (call); \
		if (got_ != -(code) || !strstr(err_msg(), (text))) { \
			fprintf(stderr, "%s:%d: %s: got %d \"%s\", expected %d \"%s\"\n", \
				__FILE__, __LINE__, #call, got_, err_msg(), -(code), (text)); \
			_exit(1); \
		} \
	} while (0)

struct box {
	struct step_ctx c;
	struct plan plan;
	struct spec_id_maps gid_maps; /* of the container, for messages */
	bool cgroup_ns;
	struct spec_process process;
	struct arena arena;
	int slots[32];
	int nslots;
	int console; /* what CONSOLE sent */
};

typedef void (*box_fn)(struct box *b);

static inline void box_write(const char *path, const char *text)
{
	_cleanup_fd_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	EXPECT(fd >= 0 && fd_write_all(fd, text, strlen(text)) >= 0);
}

static inline bool box_has(const char *path, const char *text)
{
	_cleanup_strbuf_ struct strbuf b = {0};

	return fd_read_file(AT_FDCWD, path, &b, 1 << 22) >= 0 && strstr(strbuf_str(&b), text);
}

/* The line of this mount point in /proc/self/mountinfo of whoever calls; the last one, which is on
 * top. */
static inline const char *box_mountinfo(const char *point)
{
	static char line[4096];
	char found[4096];
	_cleanup_strbuf_ struct strbuf b = {0};

	EXPECT(fd_read_file(AT_FDCWD, "/proc/self/mountinfo", &b, 1 << 22) >= 0);
	line[0] = '\0';
	for (char *save, *l = strtok_r(b.s, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
		if (sscanf(l, "%*s %*s %*s %*s %4095s", found) == 1 && streq(found, point))
			snprintf(line, sizeof(line), "%s", l);
	return line;
}

static inline bool has(const char *line, const char *text)
{
	return strstr(line, text) != NULL;
}

static inline int box_send_fd(void *data, const char *what, int fd)
{
	struct box *b = data;

	EXPECT(streq(what, "console"));
	b->console = dup(fd);
	return 0;
}

/* HOST's part of a bind mount: the slot. */
static inline int box_open(struct box *b, const char *path, const struct spec_mount *m)
{
	struct step s = {.kind = STEP_OPEN_SOURCE,
		.open = {.path = path, .recursive = m && m->rbind, .mount = m}};

	int fd = open_tree_copy(&s);
	EXPECT(fd >= 0);
	b->slots[b->nslots] = fd;
	return b->nslots++;
}

static inline int box_mount(struct box *b, const struct spec_mount *m, int slot)
{
	struct step s = {.kind = STEP_MOUNT, .slot = slot, .field = "mounts[0]"};

	s.mount.mount = m;
	s.mount.userns = b->plan.userns;
	s.mount.cgroup_ns = b->cgroup_ns;
	s.mount.gid = b->gid_maps;
	return step_mount(&b->c, &s);
}

/* An entry with options in the form of config.json. */
static inline struct spec_mount box_entry(
	struct box *b, const char *type, const char *dest, const char *const *options)
{
	struct spec_mount m = {.type = type, .destination = dest, .source = type};
	size_t n = 0;

	while (options && options[n])
		n++;
	EXPECT(spec_parse_mount_options(
		       &b->arena, (struct spec_strings){.v = options, .n = n}, &m) >= 0);
	return m;
}

#define OPTS(...) ((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static inline int box_new(
	struct box *b, const char *type, const char *dest, const char *const *opts)
{
	struct spec_mount *m = arena_alloc(&b->arena, sizeof(*m));

	EXPECT(m);
	*m = box_entry(b, type, dest, opts);
	return box_mount(b, m, -1);
}

static inline int box_step_text(
	struct box *b, int (*fn)(struct step_ctx *, const struct step *), const char *text)
{
	struct step s = {.slot = -1, .text = text};

	return fn(&b->c, &s);
}

static inline int box_number(
	struct box *b, int (*fn)(struct step_ctx *, const struct step *), uint64_t number)
{
	struct step s = {.slot = -1, .number = number};

	return fn(&b->c, &s);
}

static inline int box_device(struct box *b, struct spec_device d, int slot)
{
	struct step s = {.kind = STEP_DEVICE, .slot = slot};

	s.device.device = &d;
	s.device.bind = slot >= 0;
	return step_device(&b->c, &s);
}

static inline int box_link(struct box *b, const char *target, const char *path)
{
	struct step s = {.kind = STEP_SYMLINK, .slot = -1};

	s.link.target = target;
	s.link.path = path;
	return step_symlink(&b->c, &s);
}

static inline int box_console(struct box *b)
{
	struct step s = {.kind = STEP_CONSOLE, .slot = -1, .process = &b->process};

	return step_console(&b->c, &s);
}

static inline void box_attach(struct box *b)
{
	struct step s = {.kind = STEP_ATTACH_ROOT, .slot = 0, .open = {.path = ROOTFS}};

	EXPECT(step_attach_root(&b->c, &s) >= 0);
}

static inline void box_write_maps(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
	box_write(path, "0 100000 65536\n");
	snprintf(path, sizeof(path), "/proc/%d/gid_map", pid);
	box_write(path, "0 100000 65536\n");
}

static inline _Noreturn void box_init(struct box *b, box_fn init, uint64_t flags, const int *sync)
{
	char byte;

	EXPECT(unshare((int)flags) == 0);
	if (flags & CLONE_NEWUSER) {
		EXPECT(write(sync[1], "", 1) == 1 && read(sync[1], &byte, 1) == 1);
		EXPECT(setgid(0) == 0 && setuid(0) == 0);
	}
	if (flags & CLONE_NEWPID) {
		pid_t pid = fork();
		int status;
		EXPECT(pid >= 0);
		if (pid) {
			EXPECT(waitpid(pid, &status, 0) == pid);
			_exit(status != 0);
		}
	}
	init(b);
	_exit(0);
}

/* host: before INIT is made, after the root was opened; check: after INIT is gone. Both may be
 * NULL. */
struct box_test {
	box_fn prepare, host, init, check;
	uint64_t flags; /* of INIT, beside CLONE_NEWNS */
	uint32_t root_propagation;
};

static inline void box_scratch(void)
{
	static const char *const dirs[] = {ROOTFS, HOSTDIR, ROOTFS "/etc", ROOTFS "/tmp"};
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};

	EXPECT(unshare(CLONE_NEWNS) == 0);
	EXPECT(mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) == 0);
	EXPECT(mount("tmp", "/tmp", "tmpfs", 0, "mode=755") == 0 && mkdir(BOX, 0755) == 0);
	EXPECT(mount("box", BOX, "tmpfs", 0, "mode=755") == 0);
	EXPECT(mount("dev", "/dev", "tmpfs", 0, "mode=755") == 0);
	EXPECT(mknod("/dev/null", S_IFCHR | 0666, makedev(1, 3)) == 0);
	EXPECT(chmod("/dev/null", 0666) == 0);
	EXPECT(mount_setattr(AT_FDCWD, "/", 0, &ro, sizeof(ro)) == 0);
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		EXPECT(mkdir(dirs[i], 0755) == 0);
}

static inline void box_host(const struct box_test *t)
{
	struct box b = {.console = -EBADF};
	struct step root = {.kind = STEP_OPEN_ROOT, .field = "root.path"};
	const struct step mask = {.kind = STEP_MASK_PATH}; /* so that paths can be masked */
	int sync[2], status;
	char byte;

	box_scratch();
	b.plan = (struct plan){.process = &b.process};
	b.plan.userns = t->flags & CLONE_NEWUSER;
	b.plan.steps = &mask;
	b.plan.n = 1;
	b.c = (struct step_ctx){
		.plan = &b.plan, .slots = b.slots, .root = -EBADF, .console = -EBADF};
	b.c.arena = &b.arena;
	b.c.peer = (struct step_peer){.data = &b, .send_fd = box_send_fd};
	b.c.proc = path_open_proc();
	EXPECT(b.c.proc >= 0);
	/* As engines do: the container's root owns its files. */
	if (t->flags & CLONE_NEWUSER) {
		EXPECT(chown(ROOTFS, 100000, 100000) == 0);
		EXPECT(chown(ROOTFS "/etc", 100000, 100000) == 0);
		EXPECT(chown(ROOTFS "/tmp", 100000, 100000) == 0);
	}
	if (t->prepare)
		t->prepare(&b);
	root.open.path = ROOTFS;
	root.open.recursive = true;
	root.open.propagation = t->root_propagation;
	b.slots[b.nslots++] = open_tree_copy(&root);
	EXPECT(b.slots[0] >= 0);
	if (t->host)
		t->host(&b);
	EXPECT(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sync) == 0);
	pid_t pid = fork();
	EXPECT(pid >= 0);
	if (pid == 0)
		box_init(&b, t->init, t->flags | CLONE_NEWNS, sync);
	if (t->flags & CLONE_NEWUSER) {
		close(sync[1]);
		if (read(sync[0], &byte, 1) == 1) {
			box_write_maps(pid);
			EXPECT(write(sync[0], "", 1) == 1);
		}
	}
	EXPECT(waitpid(pid, &status, 0) == pid);
	EXPECT(status == 0);
	if (t->check)
		t->check(&b);
	_exit(0);
}

static inline void box_run(const struct box_test *t)
{
	int status;

	if (geteuid() != 0) {
		print_message("needs root: skipped\n");
		skip();
	}
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		box_host(t);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define BOX_TEST(name, ...) \
	static void test_##name(void **state) \
	{ \
		box_run(&(struct box_test){__VA_ARGS__}); \
	}
