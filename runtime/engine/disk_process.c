/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/disk_process.h"

#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/rootless.h"
#include "base/str.h"
#include "jail/jail.h"

#define READY "ready"
#define WORDS_MAX 40

/* The descriptors of caisson-disk. */
struct ends {
	int socket, control;
	int answer; /* it prints to this descriptor whether it is ready */
};

/* Appends the options to the words of the command line. Returns their number. */
static size_t add_options(const struct disk_process_options *o, const char *const options[][2],
	size_t count, const char **words, size_t n)
{
	const struct {
		bool set;
		const char *word;
	} flags[] = {{o->read_only, "--read-only"}, {o->snapshot, "--snapshot"},
		{o->write_through, "--write-through"}};

	for (size_t i = 0; i < count; i++) {
		if (!options[i][1])
			continue;
		words[n++] = options[i][0];
		words[n++] = options[i][1];
	}
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (flags[i].set)
			words[n++] = flags[i].word;
	return n;
}

/* Executes caisson-disk in the child process. */
_Noreturn static void become_server(const struct disk_process_options *o, const struct ends *e)
{
	const char *words[WORDS_MAX] = {"caisson-disk", "serve", "--format", o->format};
	char socket_text[16], control[16], user[16], queues[16];
	struct rootless rootless;
	sigset_t none;

	/*
	 * caisson-disk outlives a command that attaches a disk, so the signals that a terminal or a
	 * script sends to the command's process group must not reach caisson-disk.
	 */
	setsid();
	/* The monitor has capabilities in its user namespace. A command of a user has none. */
	if (getppid() != o->monitor && rootless_become_root(&rootless) < 0) {
		dprintf(e->answer, "%s", err_msg());
		_exit(127);
	}
	snprintf(socket_text, sizeof(socket_text), "%d", e->socket);
	snprintf(control, sizeof(control), "%d", e->control);
	snprintf(user, sizeof(user), "%u", (unsigned)jail_id(o->monitor));
	snprintf(queues, sizeof(queues), "%u", o->queues ? o->queues : 1);
	const char *const options[][2] = {{"--socket", socket_text}, {"--control", control},
		{"--werror", o->werror}, {"--rerror", o->rerror}, {"--user", user},
		{"--queues", queues}, {"--serial", o->serial}, {"--backing", o->backing},
		{"--key", o->key}};
	size_t n = add_options(o, options, ARRAY_SIZE(options), words, 4);
	words[n++] = "--";
	words[n++] = o->image;
	words[n] = NULL;
	/*
	 * A descriptor that the command has inherited, such as that of a lock or of a pipe, would
	 * stay open as long as caisson-disk runs.
	 */
	const int keep[] = {e->socket, e->control};
	if (fd_set_streams(-EBADF, e->answer, o->errors) < 0 ||
		fd_close_all_but(keep, ARRAY_SIZE(keep)) < 0 || fcntl(e->socket, F_SETFD, 0) < 0 ||
		fcntl(e->control, F_SETFD, 0) < 0)
		_exit(126);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(o->program, (char *const *)words);
	dprintf(STDOUT_FILENO, "execute %s: %s", o->program, strerror(errno));
	_exit(127);
}

/* Reads the answer of caisson-disk, which says either that the server is ready or why it failed. */
static int read_answer(const struct disk_process_options *o, int answer)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	int r = fd_read_all(answer, &text, ERR_MAX, "the answer of caisson-disk");

	if (r < 0)
		return err_ctx(r, "%s", o->field);
	if (streq(strbuf_str(&text), READY))
		return 0;
	return err_set(EIO, "%s: %s", o->field,
		text.len ? strbuf_str(&text) : "caisson-disk, which opens it, was killed");
}

static int make_sockets(int socks[static 2], int controls[static 2])
{
	controls[0] = controls[1] = -EBADF;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks) < 0)
		return err_sys("make a socket pair");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, controls) < 0)
		return err_sys("make a socket pair");
	return 0;
}

pid_t disk_process_start(const struct disk_process_options *o, int *ret_sock, int *ret_control)
{
	int socks[2] = {-EBADF, -EBADF}, controls[2], answer[2];

	int r = make_sockets(socks, controls);
	_cleanup_fd_ int ours = socks[0], theirs = socks[1];
	_cleanup_fd_ int control = controls[0], their_control = controls[1];
	if (r < 0)
		return r;
	if (pipe2(answer, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	_cleanup_fd_ int from = answer[0], to = answer[1];
	pid_t pid = fork();
	if (pid < 0)
		return err_sys("fork the server of %s", o->field);
	if (pid == 0)
		become_server(o, &(struct ends){theirs, their_control, to});
	fd_close(&to);
	fd_close(&theirs);
	fd_close(&their_control);
	r = read_answer(o, from);
	if (r < 0) {
		fd_close(&ours);
		fd_close(&control);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		return r;
	}
	*ret_sock = take_fd(&ours);
	*ret_control = take_fd(&control);
	return pid;
}

int disk_process_ended(const struct blk_message *m, const char *what)
{
	char why[sizeof(m->why)];

	if (m->error == 0)
		return 0;
	str_clean(why, sizeof(why), m->why, strnlen(m->why, sizeof(m->why)));
	/*
	 * The commands do more for some errors than to print them, and a guest that has taken over
	 * caisson-disk chooses the error, so every error but those of a full disk is EIO.
	 */
	return err_set(m->error == ENOSPC || m->error == EDQUOT ? m->error : EIO,
		"%s: not all that the guest wrote is in the image: %s", what, why);
}

int disk_process_result(int control, const char *what)
{
	struct blk_message m;
	ssize_t n;

	do
		n = read(control, &m, sizeof(m));
	while ((n < 0 && errno == EINTR) || (n == (ssize_t)sizeof(m) && m.type != BLK_ENDED));
	if (n == (ssize_t)sizeof(m))
		return disk_process_ended(&m, what);
	return err_set(EIO,
		"%s: caisson-disk was killed before all that the guest wrote was in the image",
		what);
}
