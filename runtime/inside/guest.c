/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements what caisson-inside does in the guest: mounts what the guest needs, finds the devices
 * of the disk, and calls the function of the command that the host has asked for.
 */
#include <linux/module.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/process.h"
#include "images/guest/modules.h"
#include "inside/inside.h"

/* limit of the output of a program that guest_run() runs, in bytes */
#define OUTPUT_MAX (64u << 20)

int guest_run(const char *const *argv, struct strbuf *out)
{
	int ends[2], status = 0, r = 0;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	_cleanup_fd_ int from = ends[0], to = ends[1];
	pid_t pid = fork();
	if (pid < 0)
		return err_sys("make a process");
	if (pid == 0) {
		if (fd_set_streams(-EBADF, to, -EBADF) < 0)
			_exit(126);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	fd_close(&to);
	_cleanup_strbuf_ struct strbuf ignored = {0};
	r = fd_read_all(from, out ? out : &ignored, OUTPUT_MAX, argv[0]);
	fd_close(&from);
	int e = process_wait(pid, argv[0], &status);
	if (e < 0)
		return e;
	if (r < 0)
		return r;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void load_file(int dir, const struct module *m)
{
	int flags = m->packing == MODULE_PLAIN ? 0 : MODULE_INIT_COMPRESSED_FILE;
	_cleanup_fd_ int fd = openat(dir, m->path, O_RDONLY | O_CLOEXEC);

	/*
	 * A module that cannot be loaded is no error here. If the driver is needed later, mount(2)
	 * fails and says that the kernel does not know the file system.
	 */
	if (fd >= 0)
		(void)syscall(SYS_finit_module, fd, "", flags);
}

int guest_load(struct inside_guest *g, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n && g->modules; i++) {
		struct module_list list;
		if (!modules_find(g->modules, names[i]))
			continue;
		int r = modules_resolve(&g->arena, g->modules, &names[i], 1, &list);
		if (r < 0)
			return r;
		for (size_t k = 0; k < list.n; k++)
			load_file(g->modules_dir, list.v[k]);
	}
	return 0;
}

/*
 * Configures lvm(8) to make its device nodes itself. Otherwise it would wait for udev, which does
 * not run in the guest.
 */
static int configure_lvm(void)
{
	static const char text[] =
		"activation { udev_sync = 0 udev_rules = 0 }\n"
		"devices { use_devicesfile = 0 obtain_device_list_from_udev = 0 }\n";

	if (mkdir("/etc/lvm", 0755) < 0)
		return err_sys("create /etc/lvm");
	return fd_replace_file(AT_FDCWD, "/etc/lvm/lvm.conf", text, strlen(text), 0644);
}

static int set_up(struct inside_guest *g)
{
	/*
	 * /dev gets a devtmpfs, because the kernel itself makes the device nodes of partitions and
	 * of device mapper there.
	 */
	if (mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, NULL) < 0)
		return err_sys("mount devtmpfs on /dev");
	int r = configure_lvm();
	if (r < 0)
		return r;
	g->modules_dir = open(INSIDE_MODULES, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (g->modules_dir < 0)
		return err_sys("open " INSIDE_MODULES);
	if (faccessat(g->modules_dir, "modules.dep", F_OK, 0) < 0)
		return 0;
	return modules_load(&g->arena, g->modules_dir, INSIDE_MODULES, &g->modules);
}

/* Parses the arguments that put_args() in bundle.c writes. Returns the number of words. */
static int parse(struct inside_options *o, int argc, char **argv)
{
	char *as = NULL;
	const struct option_def defs[] = {
		{"write", 0, OPTION_FLAG, &o->write, NULL, NULL},
		{"long", 0, OPTION_FLAG, &o->is_long, NULL, NULL},
		{"recursive", 0, OPTION_FLAG, &o->recursive, NULL, NULL},
		{"human-readable", 0, OPTION_FLAG, &o->human, NULL, NULL},
		{"inodes", 0, OPTION_FLAG, &o->inodes, NULL, NULL},
		{"json", 0, OPTION_FLAG, &o->json, NULL, NULL},
		{"archive", 0, OPTION_FLAG, &o->archive, NULL, NULL},
		{"quote", 0, OPTION_FLAG, &o->quote, NULL, NULL},
		{"mount", 0, OPTION_LIST, &o->mounts, NULL, NULL},
		{"key", 0, OPTION_LIST, &o->keys, NULL, NULL},
		{"as", 0, OPTION_STRING, &as, NULL, NULL},
		{0},
	};
	bool help;

	int n = options_parse(defs, argc, argv, true, &help);
	for (int i = 0; i < n; i++)
		str_unescape(argv[i]);
	if (as)
		str_unescape(as);
	o->as = as;
	return n;
}

/*
 * Ends the command when the host passes a signal on. What has been written is synced first, because
 * the microVM ends at once after this process.
 */
static void on_signal(int sig)
{
	sync();
	_exit(128 + sig);
}

/*
 * Sets the handlers of the signals that end a command. Without handlers the kernel would drop these
 * signals, because this process is the first one of its pid namespace. On a terminal SIGINT and
 * SIGQUIT are for the shell that `caisson disk shell` runs, and not for this process.
 */
static void handle_signals(void)
{
	signal(SIGTERM, on_signal);
	signal(SIGHUP, on_signal);
	if (isatty(STDIN_FILENO))
		return;
	signal(SIGINT, on_signal);
	signal(SIGQUIT, on_signal);
}

int inside_guest(int argc, char **argv)
{
	const struct inside_command *c = inside_commands;
	struct inside_guest *g = calloc(1, sizeof(*g));

	if (!g)
		return err_set(ENOMEM, "out of memory");
	g->root = g->modules_dir = -EBADF;
	while (c->name && (argc < 1 || !streq(c->name, argv[0])))
		c++;
	if (!c->name)
		return err_set(EINVAL, "the guest got no command");
	if (getpid() != 1)
		return err_set(EINVAL, INSIDE_GUEST " is for the guest of a microVM");
	int n = parse(&g->options, argc - 1, argv + 1);
	if (n < 0)
		return n;
	argv[1 + n] = NULL;
	handle_signals();
	int r = set_up(g);
	if (r >= 0)
		r = devices_find(g);
	if (r >= 0)
		r = c->guest(g, n, argv + 1);
	/*
	 * The file systems are unmounted and synced, because the microVM ends at once after this
	 * process, and what was written has to be on the disk by then.
	 */
	mounts_clear(g);
	sync();
	return r;
}

int guest_wait(char **argv)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		execvp(argv[0], argv);
		fprintf(stderr, "caisson disk: execute %s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	if (pid < 0)
		return err_sys("make a process");
	/*
	 * This process is the first one of its pid namespace, so waitpid(2) also returns orphans,
	 * which are ignored.
	 */
	for (;;) {
		pid_t ended = waitpid(-1, &status, 0);
		if (ended == pid)
			break;
		if (ended < 0 && errno != EINTR)
			return err_sys("wait for %s", argv[0]);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
