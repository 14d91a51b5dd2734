/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements `caisson disk mount` and `caisson disk umount` on the host.
 *
 * Theory of operation. The file systems of the disk are mounted in a microVM, and a FUSE server in
 * it (export.c) serves them. On the host a process in the background, the relay, opens /dev/fuse,
 * mounts it at DIR, and copies the kernel's requests to the microVM and the replies back. So only
 * the guest's kernel reads the disk's file systems, and the host's kernel gets nothing but FUSE
 * replies, which it does not trust.
 *
 * One thread of the relay copies requests, and the main thread copies replies. With one thread for
 * both the relay and the guest could wait for each other, when both pipes are full. At the end of
 * the mount the kernel reports ENODEV to the thread that copies requests, and this thread closes
 * the guest's input. The guest then unmounts the file systems and ends, and the main thread reads
 * the end of its output. If the guest ends first, or a signal comes, the relay takes the mount away
 * and ends the guest.
 */
#include <limits.h>
#include <linux/fuse.h>
#include <mntent.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "base/interrupt.h"
#include "base/process.h"
#include "inside/inside.h"

/*
 * Room for a request or a reply: 1 MiB of data, which is the most that the guest's server agrees
 * to, and what is before the data.
 */
#define MESSAGE_MAX ((1U << 20) + 4096U)
#define MOUNT_TYPE "fuse.caisson"
#define SOURCE_PREFIX "caisson-" /* what the mount's source begins with; the relay's pid follows */
#define UMOUNT_MS 120000         /* how long `umount` waits until the disk is written */
#define AGAIN_MS 1000            /* time after which `caisson run` gets SIGTERM again */
#define ERRORS_MAX 65536         /* how many bytes of errors of `caisson run` are kept */

struct relay {
	const struct inside_run *run;
	const char *target; /* absolute path of the mount point */
	int fuse, interrupt;
	int to, from; /* the pipes to and from the guest */
	int errors;   /* memfd with the error messages of `caisson run` */
	pid_t pid;    /* pid of `caisson run` */
	/* whether the kernel has no mount any more; set before the guest's input is closed */
	atomic_bool gone;
	char *buffers;
};

/* Starts `caisson run` with pipes for its standard input and output. */
static int start_guest(struct arena *a, struct relay *r, const struct inside_bundle *b)
{
	const pid_t self = getpid();
	int in[2], out[2];

	if (pipe2(in, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	_cleanup_fd_ int theirs_in = in[0];
	r->to = in[1];
	if (pipe2(out, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	_cleanup_fd_ int theirs_out = out[1];
	r->from = out[0];
	/* The file cannot grow, because a hostile guest may write errors without an end. */
	r->errors = memfd_create("errors", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (r->errors < 0 || ftruncate(r->errors, ERRORS_MAX) < 0 ||
		fcntl(r->errors, F_ADD_SEALS, F_SEAL_GROW) < 0)
		return err_sys("make a file for errors");
	r->pid = fork();
	if (r->pid < 0)
		return err_sys("make a process");
	if (r->pid > 0)
		return 0;
	if (dup2(theirs_in, STDIN_FILENO) >= 0 && dup2(theirs_out, STDOUT_FILENO) >= 0 &&
		dup2(r->errors, STDERR_FILENO) >= 0 &&
		(inside_end_with(self) < 0 || inside_become_run(a, r->run, b) < 0))
		fd_say(STDERR_FILENO, "caisson disk", err_msg());
	inside_remove_bundle(b->path);
	_exit(1);
}

/*
 * Reads `len` bytes from the guest. Returns 1, 0 at the end of the guest's output, or -EINTR if a
 * signal has come.
 */
static int read_guest(const struct relay *r, void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		int result = interrupt_wait(r->interrupt, r->from);
		if (result < 0)
			return result;
		ssize_t n = read(r->from, (char *)buf + done, len - done);
		if (n < 0 && errno != EINTR)
			return err_sys("read from the guest");
		if (n == 0)
			return 0;
		done += n > 0 ? (size_t)n : 0;
	}
	return 1;
}

/* Prints the error messages of `caisson run`, which end at the first zero byte of their file. */
static void print_errors(const struct relay *r)
{
	char text[ERRORS_MAX];
	ssize_t n = pread(r->errors, text, sizeof(text), 0);

	if (n > 0)
		(void)!fd_write_all(STDERR_FILENO, text, strnlen(text, (size_t)n));
}

/*
 * Waits until `caisson run` has ended. Sends SIGTERM to it first if `cut` is set, or once a signal
 * has come to this process. The signal is sent again and again, because the guest's kernel drops a
 * signal that comes before the command in the guest has set its handlers.
 */
static void await_guest(const struct relay *r, bool cut)
{
	_cleanup_fd_ int ended = pidfd_open(r->pid, 0);
	struct pollfd p[] = {
		{.fd = ended, .events = POLLIN}, {.fd = r->interrupt, .events = POLLIN}};

	while (ended >= 0 && !p[0].revents) {
		if (cut)
			kill(r->pid, SIGTERM);
		poll(p, cut ? 1 : 2, cut ? AGAIN_MS : -1);
		cut |= p[1].revents != 0;
	}
}

/*
 * Waits for the end of `caisson run`, to which it first sends SIGTERM if `cut` is set. Copies the
 * messages of `caisson run` to standard error, which is /dev/null once go_to_background() was
 * called. Returns the exit code of `caisson run`, or 1 if a signal ended it.
 */
static int end_guest(struct relay *r, bool cut)
{
	int status, result;

	fd_close(&r->from);
	await_guest(r, cut);
	result = process_wait(r->pid, "caisson", &status);
	if (result < 0)
		return result;
	print_errors(r);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int attach(const struct relay *r, bool allow_other)
{
	_cleanup_strbuf_ struct strbuf source = {0}, data = {0};
	unsigned long flags = MS_NOSUID | MS_NODEV | (r->run->write ? 0 : MS_RDONLY);
	int result = strbuf_addf(
		&source, SOURCE_PREFIX "%d:%s", (int)getpid(), strrchr(r->run->disk, '/') + 1);

	if (result >= 0)
		result = strbuf_addf(&data,
			"fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions%s", r->fuse,
			allow_other ? ",allow_other" : "");
	if (result < 0)
		return result;
	return mount(strbuf_str(&source), r->target, MOUNT_TYPE, flags, strbuf_str(&data)) < 0
		       ? err_sys("mount on %s", r->target)
		       : 0;
}

/* Finds the pid of the relay of the topmost mount at `path`. *ret is 0 if that mount has none. */
static int find_relay(const char *path, pid_t *ret)
{
	FILE *f = setmntent("/proc/self/mounts", "re");
	struct mntent *m;
	uint64_t pid = 0;

	if (!f)
		return err_sys("open /proc/self/mounts");
	while ((m = getmntent(f))) {
		if (!streq(m->mnt_dir, path))
			continue;
		pid = 0;
		if (streq(m->mnt_type, MOUNT_TYPE) && str_starts(m->mnt_fsname, SOURCE_PREFIX))
			pid = strtoull(m->mnt_fsname + strlen(SOURCE_PREFIX), NULL, 10);
	}
	endmntent(f);
	*ret = pid > INT_MAX ? 0 : (pid_t)pid;
	return 0;
}

/*
 * Takes away a mount that is in use. MNT_FORCE makes its files and the requests that wait for the
 * guest fail, because a hostile guest may never reply, nor end.
 */
static void detach(const struct relay *r)
{
	umount2(r->target, MNT_DETACH | MNT_FORCE | UMOUNT_NOFOLLOW);
}

void inside_drop_mount(const struct inside_run *run)
{
	pid_t pid = 0;

	if (find_relay(run->target, &pid) >= 0 && pid > 0 && pid == *run->relay)
		umount2(run->target, MNT_DETACH | UMOUNT_NOFOLLOW);
}

/* Copies requests until the kernel has no mount any more. Then closes the guest's input. */
static void *copy_requests(void *data)
{
	struct relay *r = data;
	ssize_t n;

	/*
	 * The kernel reports ENOENT for a request that its caller has given up, and EINTR and
	 * EAGAIN without any meaning for this thread.
	 */
	while ((n = read(r->fuse, r->buffers, MESSAGE_MAX)) > 0 || errno == ENOENT ||
		errno == EINTR || errno == EAGAIN)
		if (n > 0 && fd_write_all(r->to, r->buffers, (size_t)n) < 0)
			break;
	r->gone = n < 0 && errno == ENODEV;
	fd_close(&r->to);
	return NULL;
}

/*
 * Copies replies until the end of the guest's output. A malformed reply ends the mount, because the
 * guest is hostile.
 */
static int copy_replies(const struct relay *r)
{
	char *reply = r->buffers + MESSAGE_MAX;
	struct fuse_out_header head;
	int result;

	while ((result = read_guest(r, &head, sizeof(head))) > 0) {
		if (head.len < sizeof(head) || head.len > MESSAGE_MAX || !head.unique)
			return err_set(EPROTO, "the guest's reply is none of FUSE");
		memcpy(reply, &head, sizeof(head));
		size_t rest = head.len - sizeof(head);
		result = rest ? read_guest(r, reply + sizeof(head), rest) : 1;
		if (result <= 0)
			break;
		/* The kernel reports ENOENT if the request's caller has given the request up. */
		if (write(r->fuse, reply, head.len) < 0 && errno != ENOENT && errno != ENODEV)
			return err_sys("reply to the kernel");
	}
	return result;
}

/* Copies messages until the mount or the guest ends, and then ends the other of the two. */
static int relay_messages(struct relay *r)
{
	pthread_t thread;
	int e = pthread_create(&thread, NULL, copy_requests, r);
	int result = e ? err_set(e, "start a thread: %s", strerror(e)) : copy_replies(r);

	/*
	 * If no process uses the mount, this umount2() ends it as umount(8) would, and the guest
	 * ends as usual. Otherwise detach() ends it. Both are left out if the topmost mount is
	 * another one, because they would take that away: after an umount, what was mounted at the
	 * same place before, and else what was mounted there later.
	 */
	pid_t top = 0;
	bool gone = r->gone;
	bool covered = find_relay(r->target, &top) < 0 || top != getpid();
	bool busy = !gone && (covered || umount2(r->target, UMOUNT_NOFOLLOW) < 0);
	if (busy && !covered)
		detach(r);
	return end_guest(r, busy || (result < 0 && (gone || result != -EINTR)));
}

/*
 * Leaves the caller's directory and closes the caller's streams, so that nothing waits for the end
 * of this process. Then tells the command that the mount is made.
 */
static int go_to_background(int ready)
{
	int r = chdir("/") < 0 ? err_sys("go to the background")
			       : fd_set_streams(-EBADF, -EBADF, -EBADF);

	if (r < 0)
		return r;
	return write(ready, "", 1) == 1 ? 0 : err_sys("tell that the disk is mounted");
}

/*
 * Waits until the guest has mounted the file systems. Returns 1, or 0 if the guest has ended after
 * it has printed why.
 */
static int await_ready(const struct relay *r)
{
	char word[sizeof(INSIDE_READY) - 1];
	int result = read_guest(r, word, sizeof(word));

	if (result > 0 && memcmp(word, INSIDE_READY, sizeof(word)) != 0)
		return err_set(EPROTO, "the guest said something that was not expected");
	return result;
}

/* Implements the process in the background. Returns its exit code. */
static int run_relay(struct arena *a, struct relay *r, const struct inside_bundle *b, int ready)
{
	char message[ERR_MAX];
	int result = start_guest(a, r, b);

	if (result < 0) {
		inside_remove_bundle(b->path);
		return result;
	}
	result = await_ready(r);
	if (result == 0)
		return end_guest(r, false) ?: 1;
	if (result > 0)
		result = attach(r, r->run->options->allow_other);
	bool attached = result >= 0;
	if (result >= 0)
		result = go_to_background(ready);
	if (result >= 0)
		return relay_messages(r);
	snprintf(message, sizeof(message), "%s", err_msg());
	/* Without a mount of its own, the relay would take away what was mounted there before. */
	if (attached)
		detach(r);
	fd_close(&r->to);
	(void)!end_guest(r, true);
	return err_set(-result, "%s", message);
}

static _Noreturn void become_relay(
	struct arena *a, struct relay *r, const struct inside_bundle *b, int ready)
{
	int result = -ENOMEM;

	*r->run->relay = getpid();
	setsid();
	signal(SIGPIPE, SIG_IGN);
	r->buffers = malloc(2 * (size_t)MESSAGE_MAX);
	if (r->buffers)
		result = run_relay(a, r, b, ready);
	if (result < 0)
		fd_say(STDERR_FILENO, "caisson disk", err_msg());
	_exit(result < 0 ? 1 : result);
}

/* Waits until the relay has mounted the disk. Returns its exit code if it has failed. */
static int await_relay(pid_t pid, int ready, int interrupt)
{
	char byte;
	int status, r = interrupt_wait(interrupt, ready);

	if (r < 0)
		kill(pid, SIGTERM);
	else if (read(ready, &byte, 1) == 1)
		return 0;
	int e = process_wait(pid, "the process in the background", &status);
	if (r < 0 || e < 0)
		return r < 0 ? r : e;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int open_mount(struct arena *a, struct relay *r, const char *dir)
{
	_cleanup_free_ char *path = realpath(dir, NULL);
	_cleanup_fd_ int fd = path ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd < 0)
		return err_sys("mount: %s: expected a directory", dir);
	r->target = arena_strdup(a, path);
	r->fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (r->fuse < 0)
		return err_sys("mount: open /dev/fuse (the host's kernel needs its module fuse)");
	return r->target ? 0 : -ENOMEM;
}

int inside_host_mount(
	const struct inside_command *self, struct inside_options *o, int argc, char **argv)
{
	_cleanup_arena_ struct arena a = {0};
	struct inside_run run;
	struct relay r = {.run = &run, .to = -EBADF, .from = -EBADF, .errors = -EBADF};
	struct inside_bundle b;
	int ends[2];

	if (geteuid() != 0)
		return err_set(EPERM, "mount: only root can mount something on the host: use sudo");
	int result = inside_prepare(&a, self, o, argv[0], &run);
	if (result >= 0)
		result = open_mount(&a, &r, argv[1]);
	if (result < 0)
		return result;
	_cleanup_fd_ int fuse = r.fuse;
	_cleanup_fd_ int interrupt = interrupt_block();
	if (interrupt < 0)
		return interrupt;
	r.interrupt = interrupt;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	_cleanup_fd_ int ready = ends[0], theirs = ends[1];
	run.target = r.target;
	run.relay = mmap(
		NULL, sizeof(pid_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (run.relay == MAP_FAILED)
		return err_sys("get memory");
	result = inside_make_bundle(&a, &run, &b);
	if (result < 0)
		return result;
	pid_t pid = fork();
	if (pid == 0)
		become_relay(&a, &r, &b, theirs);
	fd_close(&theirs);
	if (pid > 0)
		return await_relay(pid, ready, interrupt);
	result = err_sys("make a process");
	inside_remove_bundle(b.path);
	return result;
}

int inside_host_umount(
	const struct inside_command *self, struct inside_options *o, int argc, char **argv)
{
	_cleanup_free_ char *path = realpath(argv[0], NULL);
	pid_t pid = 0;

	if (!path)
		return err_sys("umount: %s", argv[0]);
	int r = find_relay(path, &pid);
	if (r < 0)
		return r;
	if (pid == 0)
		return err_set(EINVAL,
			"umount: %s: no disk of `caisson disk mount` is mounted there", argv[0]);
	/* If the relay has ended, there is nothing to wait for. */
	_cleanup_fd_ int relay = pidfd_open(pid, 0);
	if (umount2(path, UMOUNT_NOFOLLOW) < 0)
		return err_sys("umount: %s%s", argv[0],
			errno == EBUSY ? " (a process uses it: `fuser -m` lists them)" : "");
	struct pollfd p = {.fd = relay, .events = POLLIN};
	if (relay >= 0 && poll(&p, 1, UMOUNT_MS) == 0)
		return err_set(ETIMEDOUT,
			"umount: %s: it is unmounted, but its microVM has not ended after %d s: "
			"the disk is still in use",
			argv[0], UMOUNT_MS / 1000);
	return 0;
}
