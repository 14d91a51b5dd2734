/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements cp, tar-out and tar-in on the host.
 *
 * Theory of operation. `cp` out of a disk: a child becomes `caisson run`, and the guest writes a
 * tar to its standard output, which is a pipe. This process unpacks the tar. Whoever made the disk
 * may control the guest, so this process trusts nothing in the tar: each entry must have a name
 * that was asked for, or be beneath a directory of that name; the process makes only files,
 * directories and links; and it resolves names beneath the target's directory (images/oci/tree.h).
 * `cp` into a disk: a child becomes `caisson run`, and this process writes the tar to its standard
 * input.
 */
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/interrupt.h"
#include "base/process.h"
#include "images/oci/tree.h"
#include "inside/boot.h"
#include "inside/inside.h"

#define AGAIN_MS 1000 /* time after which a child that has not ended gets SIGTERM again */

static void warn(void *data, const char *text)
{
	fd_say(STDERR_FILENO, "caisson disk", text);
}

/*
 * Opens FILE as standard input or output of this process, which `caisson run` inherits. "-" leaves
 * the stream as it is.
 */
static int redirect(const char *file, bool in)
{
	if (streq(file, "-"))
		return 0;
	_cleanup_fd_ int fd = in ? open(file, O_RDONLY | O_CLOEXEC)
				 : open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0 || dup2(fd, in ? STDIN_FILENO : STDOUT_FILENO) < 0)
		return err_sys("%s", file);
	return 0;
}

int inside_host_tar(
	const struct inside_command *self, struct inside_options *o, int argc, char **argv)
{
	_cleanup_arena_ struct arena a = {0};
	struct inside_run run;

	int r = inside_prepare(&a, self, o, argv[0], &run);
	if (r >= 0 && argc == 3)
		r = redirect(argv[2], self->write);
	if (r < 0)
		return r;
	if (isatty(self->write ? STDIN_FILENO : STDOUT_FILENO))
		return err_set(EINVAL, "%s: standard %s is a terminal: name a FILE", self->name,
			self->write ? "input" : "output");
	run.words = argv + 1;
	run.nwords = 1;
	return inside_execute(&a, &run);
}

/*
 * Starts `caisson run` with the bundle in a child process. A pipe is the child's standard input if
 * `in` is set, else its standard output, and *ret_end is the other end of the pipe. Returns the
 * child's pid.
 */
static int start_run(struct arena *a, const struct inside_run *run, const struct inside_bundle *b,
	bool in, int *ret_end)
{
	const pid_t self = getpid();
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	int theirs = ends[in ? 0 : 1];
	*ret_end = ends[in ? 1 : 0];
	pid_t pid = fork();
	if (pid == 0) {
		if (dup2(theirs, in ? STDIN_FILENO : STDOUT_FILENO) >= 0 &&
			(inside_end_with(self) < 0 || inside_become_run(a, run, b) < 0))
			fd_say(STDERR_FILENO, "caisson disk", err_msg());
		inside_remove_bundle(b->path);
		_exit(1);
	}
	close(theirs);
	return pid < 0 ? err_sys("make a process") : pid;
}

/*
 * Waits for the end of `caisson run`, which start_run() has started. r is the result of reading or
 * writing the pipe. Returns r if `caisson run` succeeded, or if r is a failure that `caisson run`
 * has not caused. Else returns the exit code of `caisson run`, which has printed why it failed.
 */
static int end_run(pid_t pid, int r)
{
	int status;

	int e = process_wait(pid, "caisson", &status);
	if (e < 0)
		return e;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return r;
	if (r < 0 && r != -EPIPE && r != -EBADMSG)
		return r;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* A copy between the host and `caisson run`, which runs in a child process. */
struct copying {
	pid_t pid;
	int child;     /* pidfd of the child process */
	int pipe;      /* this process's end of the pipe to or from the child process */
	int interrupt; /* signalfd from interrupt_block() */
	pthread_t thread;
};

/*
 * If a signal comes, ends `caisson run`, which removes its bundle, and then this process. A thread
 * of its own does this, because the main thread may be busy, for example with a large hole of a
 * file.
 */
static void *watch_signals(void *data)
{
	const struct copying *c = data;
	struct pollfd ended = {.fd = c->child, .events = POLLIN};

	if (interrupt_wait(c->interrupt, c->child) >= 0)
		return NULL;
	/*
	 * /dev/null takes the place of this process's end of the pipe, because `caisson run` does
	 * not end while it waits for this process to read.
	 */
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0)
		dup3(null, c->pipe, O_CLOEXEC);
	/*
	 * The signal is sent again and again, because the guest's kernel drops a signal that comes
	 * before the command in the guest has set its handlers.
	 */
	do
		pidfd_send_signal(c->child, SIGTERM, NULL, 0);
	while (poll(&ended, 1, AGAIN_MS) <= 0);
	fd_say(STDERR_FILENO, "caisson disk", err_msg());
	_exit(1);
}

/*
 * Makes the bundle and starts `caisson run` with it, and a thread that ends both processes if
 * SIGTERM, SIGINT, SIGHUP or SIGQUIT comes. `in` means the same as for start_run().
 */
static int begin_copy(struct arena *a, const struct inside_run *run, bool in, struct copying *c)
{
	struct inside_bundle b;
	int r = inside_make_bundle(a, run, &b);

	if (r < 0)
		return r;
	c->interrupt = interrupt_block();
	if (c->interrupt < 0) {
		inside_remove_bundle(b.path);
		return c->interrupt;
	}
	c->pid = r = start_run(a, run, &b, in, &c->pipe);
	if (r < 0)
		return r;
	c->child = pidfd_open(c->pid, 0);
	r = c->child < 0 ? errno : pthread_create(&c->thread, NULL, watch_signals, c);
	if (r == 0)
		return 0;
	kill(c->pid, SIGTERM);
	close(c->pipe);
	return end_run(c->pid, err_set(r, "watch for signals: %s", strerror(r)));
}

/* Ends a copy, whose result is r so far, and the thread, which ends after the child process. */
static int end_copy(struct copying *c, int r)
{
	close(c->pipe);
	r = end_run(c->pid, r);
	pthread_join(c->thread, NULL);
	close(c->child);
	close(c->interrupt);
	return r;
}

/* What the tar from the guest may contain. */
struct expected {
	const char *const *names;
	int n;
	bool archive;
	bool warned;
	bool any;
};

static bool is_expected(const struct expected *x, const char *name)
{
	for (int i = 0; i < x->n; i++) {
		size_t len = strlen(x->names[i]);
		if (strncmp(name, x->names[i], len) == 0 && (!name[len] || name[len] == '/'))
			return true;
	}
	return false;
}

static int check_entry(void *data, struct tar_entry *e)
{
	struct expected *x = data;
	char name[256];

	if (!is_expected(x, e->name) || (e->type == TAR_HARDLINK && !is_expected(x, e->link))) {
		str_clean(name, sizeof(name), e->name, strlen(e->name));
		return err_set(
			EPERM, "the disk's microVM sent \"%s\", which was not asked for", name);
	}
	x->any = true;
	if (e->type == TAR_CHAR || e->type == TAR_BLOCK || e->type == TAR_FIFO) {
		if (!x->warned)
			fd_say(STDERR_FILENO, "caisson disk", "devices and FIFOs are not copied");
		x->warned = true;
		return 0;
	}
	if (!x->archive) {
		e->mode &= 0777;
		e->nxattrs = 0;
	}
	return 1;
}

static const char *last_name(struct arena *a, const char *path)
{
	size_t end = strlen(path);

	while (end > 0 && path[end - 1] == '/')
		end--;
	size_t from = end;
	while (from > 0 && path[from - 1] != '/')
		from--;
	return arena_strndup(a, path + from, end - from);
}

static bool is_directory(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/*
 * Opens the directory of the host into which `cp` copies. If `target` is not a directory, it is the
 * new name of the only source. Then *ret_as is that name, and the directory is the one in which
 * `target` is.
 */
static int open_target(struct arena *a, const char *target, int sources, const char **ret_as)
{
	_cleanup_free_ char *above = strdup(target);

	*ret_as = NULL;
	if (is_directory(target)) {
		int fd = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		return fd < 0 ? err_sys("%s", target) : fd;
	}
	if (sources > 1 || target[strlen(target) - 1] == '/')
		return err_set(ENOTDIR, "%s: expected a directory", target);
	*ret_as = last_name(a, target);
	if (!above || !*ret_as)
		return -ENOMEM;
	char *slash = strrchr(above, '/');
	if (slash)
		slash[slash == above] = '\0';
	int fd = open(slash ? above : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? err_sys("%s: open its directory", target) : fd;
}

static int unpack_copies(
	struct arena *a, const struct inside_options *o, int from, int root, char **sources, int n)
{
	const struct tree_options options = {
		.warn = warn, .plain = true, .max_bytes = UINT64_MAX, .squash = !o->archive};
	const char **names = arena_array(a, (size_t)n, sizeof(*names));
	struct expected x = {.names = names, .n = n, .archive = o->archive};

	for (int i = 0; i < n; i++) {
		names[i] = i == 0 && o->as ? o->as : last_name(a, sources[i]);
		if (!names[i])
			return -ENOMEM;
	}
	return inside_unpack(from, root, &options, check_entry, &x);
}

static int copy_out(
	const struct inside_command *self, struct inside_options *o, int argc, char **argv)
{
	_cleanup_arena_ struct arena a = {0};
	struct inside_run run;
	struct copying c;
	int n = argc - 2;
	char **words = arena_array(&a, (size_t)n + 1, sizeof(*words));

	if (!words)
		return -ENOMEM;
	int r = inside_prepare(&a, self, o, argv[0], &run);
	_cleanup_fd_ int root = r < 0 ? r : open_target(&a, argv[argc - 1], n, &o->as);
	if (root < 0)
		return root;
	words[0] = (char *)"out";
	for (int i = 0; i < n; i++) {
		words[1 + i] = argv[1 + i] + 1;
		const char *name = last_name(&a, words[1 + i]);
		if (!name || !*name || streq(name, ".") || streq(name, ".."))
			return err_set(EINVAL,
				"cp: %s: expected a path that ends in a name; `caisson disk "
				"tar-out` copies the content of a directory",
				argv[1 + i]);
	}
	run.words = words;
	run.nwords = n + 1;
	r = begin_copy(&a, &run, false, &c);
	return r != 0 ? r : end_copy(&c, unpack_copies(&a, o, c.pipe, root, words + 1, n));
}

/*
 * Adds a file or directory of the host to the tar. Its name in the tar is the last component of its
 * path.
 */
static int pack_source(struct pack *p, const char *source)
{
	_cleanup_free_ char *path = strdup(source);

	if (!path)
		return err_set(ENOMEM, "out of memory");
	for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
		path[n - 1] = '\0';
	char *slash = strrchr(path, '/');
	_cleanup_free_ char *name = strdup(slash ? slash + 1 : path);
	if (!name)
		return err_set(ENOMEM, "out of memory");
	if (!*name || streq(name, ".") || streq(name, ".."))
		return err_set(EINVAL,
			"cp: %s: expected a path that ends in a name; `caisson disk tar-in` copies "
			"the content of a directory",
			source);
	if (slash)
		slash[slash == path] = '\0';
	_cleanup_fd_ int dir = open(slash ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0 ? err_sys("%s", source) : pack_add(p, dir, name, NULL);
}

static int pack_sources(int to, char **sources, int n)
{
	struct pack *p = NULL;
	int r = pack_start(&p, to);

	for (int i = 0; i < n && r >= 0; i++)
		r = pack_source(p, sources[i]);
	if (r >= 0)
		r = pack_finish(p);
	pack_free(p);
	return r;
}

static int copy_in(
	const struct inside_command *self, struct inside_options *o, int argc, char **argv)
{
	_cleanup_arena_ struct arena a = {0};
	struct inside_run run;
	struct copying c;
	int n = argc - 2;
	char *count = arena_printf(&a, "%d", n);
	char *words[] = {(char *)"in", argv[argc - 1] + 1, count};

	if (!count)
		return -ENOMEM;
	for (int i = 0; i < n; i++)
		if (access(argv[1 + i], F_OK) < 0)
			return err_sys("%s", argv[1 + i]);
	int r = inside_prepare(&a, self, o, argv[0], &run);
	if (r < 0)
		return r;
	run.write = true;
	run.words = words;
	run.nwords = 3;
	signal(SIGPIPE, SIG_IGN);
	r = begin_copy(&a, &run, true, &c);
	return r != 0 ? r : end_copy(&c, pack_sources(c.pipe, argv + 1, n));
}

int inside_host_cp(
	const struct inside_command *self, struct inside_options *o, int argc, char **argv)
{
	bool to_disk = argv[argc - 1][0] == ':';

	for (int i = 1; i < argc; i++) {
		bool in_disk = argv[i][0] == ':';
		if (in_disk && !argv[i][1])
			return err_set(EINVAL, "cp: expected a path behind \":\"");
		if (in_disk == (to_disk != (i == argc - 1)))
			return err_set(EINVAL, "cp: paths in the disk begin with \":\": expected "
					       "the sources or the "
					       "target to be in the disk, and not both");
	}
	return to_disk ? copy_in(self, o, argc, argv) : copy_out(self, o, argc, argv);
}

/* Accepts an entry of the tar only if it is a plain file that boot.h names, and only once. */
static int check_boot_entry(void *data, struct tar_entry *e)
{
	static const char *const names[] = {BOOT_KERNEL, BOOT_INITRD, BOOT_CMDLINE, BOOT_USER};
	unsigned *seen = data;
	char name[256];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (!streq(e->name, names[i]) || e->type != TAR_FILE || *seen & 1u << i)
			continue;
		*seen |= 1u << i;
		e->mode = 0600;
		e->nxattrs = 0;
		return 1;
	}
	str_clean(name, sizeof(name), e->name, strlen(e->name));
	return err_set(EPERM, "the disk's microVM sent \"%s\", which was not asked for", name);
}

int inside_take_boot(struct arena *a, const struct inside_options *o, const char *disk, int dir)
{
	static const struct inside_command boot = {.name = INSIDE_BOOT};
	const struct tree_options options = {
		.warn = warn, .plain = true, .max_bytes = BOOT_BYTES_MAX, .squash = true};
	struct inside_run run;
	struct inside_bundle b = {.lock = -EBADF};
	_cleanup_fd_ int from = -EBADF;
	unsigned seen = 0;

	int r = inside_prepare(a, &boot, o, disk, &run);
	if (r >= 0)
		r = inside_make_bundle(a, &run, &b);
	/* The machine that boots later is not to inherit the lock of this microVM. */
	_cleanup_fd_ int lock = b.lock;
	if (r < 0)
		return r;
	pid_t pid = r = start_run(a, &run, &b, false, &from);
	if (r < 0)
		return r;
	/*
	 * The guest sends nothing before it has found what the disk boots, which may take minutes.
	 * If a signal ends this wait, `caisson run` has to end its microVM too.
	 */
	_cleanup_fd_ int interrupt = interrupt_open();
	r = interrupt_wait(interrupt, from);
	if (r < 0)
		kill(pid, SIGTERM);
	else
		r = inside_unpack(from, dir, &options, check_boot_entry, &seen);
	fd_close(&from);
	return end_run(pid, r);
}
