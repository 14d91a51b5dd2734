/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rig/box.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "base/path.h"

void box_write(const char *path, const char *text)
{
	_cleanup_fd_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	EXPECT(fd >= 0 && fd_write_all(fd, text, strlen(text)) >= 0);
}

bool box_has(const char *path, const char *text)
{
	_cleanup_strbuf_ struct strbuf b = {0};

	return fd_read_file(AT_FDCWD, path, &b, 1 << 22) >= 0 && strstr(strbuf_str(&b), text);
}

const char *box_mountinfo(const char *point)
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

bool has(const char *line, const char *text)
{
	return strstr(line, text) != NULL;
}

static int box_send_fd(void *data, const char *what, int fd)
{
	struct box *b = data;

	EXPECT(streq(what, "console"));
	b->console = dup(fd);
	return 0;
}

int box_open(struct box *b, const char *path, const struct spec_mount *m)
{
	struct step s = {.kind = STEP_OPEN_SOURCE,
		.open = {.path = path, .recursive = m && m->rbind, .mount = m}};

	int fd = open_tree_copy(&s, -EBADF);
	EXPECT(fd >= 0);
	b->slots[b->nslots] = fd;
	return b->nslots++;
}

int box_mount(struct box *b, const struct spec_mount *m, int slot)
{
	struct step s = {.kind = STEP_MOUNT, .slot = slot, .field = "mounts[0]"};

	s.mount.mount = m;
	s.mount.userns = b->plan.userns;
	s.mount.cgroup_ns = b->cgroup_ns;
	s.mount.gid = b->gid_maps;
	return step_mount(&b->c, &s);
}

struct spec_mount box_entry(
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

int box_new(struct box *b, const char *type, const char *dest, const char *const *opts)
{
	struct spec_mount *m = arena_alloc(&b->arena, sizeof(*m));

	EXPECT(m);
	*m = box_entry(b, type, dest, opts);
	return box_mount(b, m, -1);
}

int box_step_text(
	struct box *b, int (*fn)(struct step_ctx *, const struct step *), const char *text)
{
	struct step s = {.slot = -1, .text = text};

	return fn(&b->c, &s);
}

int box_number(struct box *b, int (*fn)(struct step_ctx *, const struct step *), uint64_t number)
{
	struct step s = {.slot = -1, .number = number};

	return fn(&b->c, &s);
}

int box_device(struct box *b, struct spec_device d, int slot)
{
	struct step s = {.kind = STEP_DEVICE, .slot = slot};

	s.device.device = &d;
	s.device.bind = slot >= 0;
	return step_device(&b->c, &s);
}

int box_link(struct box *b, const char *target, const char *path)
{
	struct step s = {.kind = STEP_SYMLINK, .slot = -1};

	s.link.target = target;
	s.link.path = path;
	return step_symlink(&b->c, &s);
}

int box_console(struct box *b)
{
	struct step s = {.kind = STEP_CONSOLE, .slot = -1, .process = &b->process};

	return step_console(&b->c, &s);
}

void box_attach(struct box *b)
{
	struct step s = {.kind = STEP_ATTACH_ROOT, .slot = 0, .open = {.path = ROOTFS}};

	EXPECT(step_attach_root(&b->c, &s) >= 0);
}

static void box_write_maps(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
	box_write(path, "0 100000 65536\n");
	snprintf(path, sizeof(path), "/proc/%d/gid_map", pid);
	box_write(path, "0 100000 65536\n");
}

static _Noreturn void box_init(struct box *b, box_fn init, uint64_t flags, const int *sync)
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

static void box_scratch(void)
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

static void box_host(const struct box_test *t)
{
	struct box b = {.console = -EBADF};
	struct step root = {.kind = STEP_OPEN_ROOT, .field = "root.path"};
	/*
	 * The plan has the step MASK_PATH, because the container's first process prepares for
	 * masking paths only if the plan has this step.
	 */
	const struct step mask = {.kind = STEP_MASK_PATH};
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
	/*
	 * The container's root user must own the files of the root file system, as after an engine
	 * has prepared it.
	 */
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
	b.slots[b.nslots++] = open_tree_copy(&root, -EBADF);
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

void box_run(const struct box_test *t)
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
