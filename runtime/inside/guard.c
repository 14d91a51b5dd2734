/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ends the microVM that looks into a disk, and removes what the command has made, if the command
 * was killed by a signal that no process can handle.
 *
 * Theory of operation. Each process of the command holds a lock (flock(2)) on the directory of the
 * bundle: this program, the relay of `mount`, and `caisson run`, which inherits the descriptor. The
 * kernel releases the lock when the last of them has ended. A process in the background, the guard,
 * waits for the lock. In the usual case `caisson run` has removed the container and the bundle by
 * then, and the guard just ends. Otherwise the guard removes them, by `caisson delete --force`.
 *
 * The guard is in a process group of its own, so that no signal for the command's process group and
 * no key on its terminal reaches the guard. If the guard is killed too, the next command that looks
 * into a disk finds the bundle, whose lock is free, and removes what the guard would have removed.
 *
 * A command that runs `caisson run` in a child process lets the kernel kill that child when the
 * command ends (PR_SET_PDEATHSIG), because the child would otherwise hold the lock.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "base/dir.h"
#include "base/helper.h"
#include "base/process.h"
#include "inside/inside.h"

#define PREFIX "caisson-disk-"
#define TEMPLATE PREFIX "XXXXXX"
#define CONFIG "config.json"
#define RUNTIME_WORDS 8

/* Runs a command of caisson for the container `id`. Its result does not matter to the caller. */
static void run_caisson(const char *command, const char *option, const char *id)
{
	_cleanup_helper_streams_ struct helper_streams s = HELPER_STREAMS_INIT;
	const char *words[RUNTIME_WORDS] = {0};
	size_t n = inside_begin_words(words);
	int status;

	if (n == 0)
		return;
	words[n++] = command;
	if (option)
		words[n++] = option;
	words[n++] = id;
	if (helper_streams_open(&s, "", 0) >= 0)
		(void)!helper_run(&s, words[0], words, &status);
}

static bool has_state(const char *id)
{
	const char *root = getenv(STATE_VARIABLE);
	_cleanup_strbuf_ struct strbuf path = {0};

	return root && strbuf_addf(&path, "%s/%s", root, id) >= 0 &&
	       access(strbuf_str(&path), F_OK) == 0;
}

/*
 * Removes what a command has left that was killed. With `stop` the guest gets a signal first, upon
 * which it writes its data to the disk.
 */
static void remove_left(const struct inside_bundle *b, bool stop)
{
	const bool has_bundle = access(b->path, F_OK) == 0;

	if (!has_bundle && !has_state(b->id))
		return;
	if (stop)
		run_caisson("stop", NULL, b->id);
	run_caisson("delete", "--force", b->id);
	if (has_bundle)
		inside_remove_bundle(b->path);
}

static int await_lock(int fd)
{
	while (flock(fd, LOCK_EX) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

/* Implements the guard. `lock` is a descriptor of the bundle's directory without the lock. */
static _Noreturn void guard(const struct inside_run *run, const struct inside_bundle *b, int lock)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	prctl(PR_SET_NAME, "caisson-guard");
	/* A guard in the user's working directory would keep that busy. A path may depend on it. */
	const char *root = getenv(STATE_VARIABLE);
	if (b->path[0] == '/' && (!root || root[0] == '/'))
		(void)!chdir("/");
	if (fd_set_streams(-EBADF, -EBADF, -EBADF) < 0 || fd_close_all_but(&lock, 1) < 0 ||
		await_lock(lock) < 0)
		_exit(1);
	if (run->target)
		inside_drop_mount(run);
	remove_left(b, run->write);
	_exit(0);
}

/*
 * Takes the lock on the directory of the bundle, and starts the guard. b->lock is the descriptor
 * that holds the lock. `caisson run` inherits it. The guard is no child of this process, because
 * `caisson run`, as which this process goes on, would not wait for its end, so that it would stay
 * as a zombie.
 */
static int start_guard(const struct inside_run *run, struct inside_bundle *b)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
	_cleanup_fd_ int theirs = open(b->path, flags), first = open(b->path, flags);

	/* A number from 3 on, because the first three are those of standard streams. */
	b->lock = first < 0 ? -1 : fcntl(first, F_DUPFD, 3);
	if (theirs < 0 || b->lock < 0 || flock(b->lock, LOCK_EX | LOCK_NB) < 0)
		return err_sys("lock %s", b->path);
	pid_t pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		pid = fork();
		if (pid == 0)
			guard(run, b, theirs);
		_exit(pid < 0);
	}
	if (pid < 0)
		return err_sys("make a process");
	int status, r = process_wait(pid, "the process that makes the guard", &status);
	if (r < 0)
		return r;
	return status == 0 ? 0 : err_set(EAGAIN, "make a process that waits for the command's end");
}

/*
 * Says whether the directory is a bundle of this user whose command has ended, and locks it if so.
 * Only mkdtemp(3) gives a directory its mode, so a directory that others can write to is none. A
 * new bundle gets its config.json after the lock, so a directory without this file may belong to a
 * command that is about to take the lock.
 */
static bool is_left(int dir)
{
	struct stat st;

	return fstat(dir, &st) == 0 && st.st_uid == geteuid() && (st.st_mode & 07777) == 0700 &&
	       flock(dir, LOCK_EX | LOCK_NB) == 0 && faccessat(dir, CONFIG, F_OK, 0) == 0;
}

static int name_bundle(
	struct arena *a, const char *folder, const char *name, struct inside_bundle *ret)
{
	char *path = arena_printf(a, "%s/%s", folder, name);

	*ret = (struct inside_bundle){.path = path, .lock = -EBADF};
	return path ? 0 : -ENOMEM;
}

/* The random end of the bundle's name is also that of the container. */
static int name_container(struct arena *a, struct inside_bundle *b)
{
	b->id = arena_printf(a, "disk-%s", b->path + strlen(b->path) - strlen("XXXXXX"));
	return b->id ? 0 : -ENOMEM;
}

static void sweep(struct arena *a, const char *folder)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	DIR *d = dir_take_fd(open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct inside_bundle b;
	struct dirent *e;

	while (d && (e = readdir(d))) {
		if (!str_starts(e->d_name, PREFIX) || strlen(e->d_name) != strlen(TEMPLATE))
			continue;
		_cleanup_fd_ int dir = openat(dirfd(d), e->d_name, flags);
		if (dir >= 0 && is_left(dir) && name_bundle(a, folder, e->d_name, &b) >= 0 &&
			name_container(a, &b) >= 0)
			remove_left(&b, true);
	}
	if (d)
		closedir(d);
}

int inside_begin(struct arena *a, const struct inside_run *run, struct inside_bundle *ret)
{
	const char *folder = getenv("TMPDIR") ?: "/var/tmp";

	sweep(a, folder);
	int r = name_bundle(a, folder, TEMPLATE, ret);
	if (r < 0)
		return r;
	if (!mkdtemp(ret->path))
		return err_sys("create a directory in %s (TMPDIR names another one)", folder);
	r = name_container(a, ret);
	if (r >= 0)
		r = start_guard(run, ret);
	if (r < 0)
		inside_remove_bundle(ret->path);
	return r;
}

int inside_end_with(pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return err_sys("let the kernel kill this process when its parent ends");
	return getppid() == parent ? 0 : err_set(ESRCH, "the command has ended");
}
