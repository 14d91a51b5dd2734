/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/disk_server.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "jail/jail.h"
#include "machine/image.h"

#define READY "ready"
#define LOOK_MS 10 /* how often, in ms, the monitor checks whether caisson-disk has ended */
/*
 * how long, in ms, caisson-disk may take to write what it holds in memory when it ends;
 * fdatasync(2) takes most of this time
 */
#define END_MS 30000
#define WORDS_MAX 32

/*
 * Executes caisson-disk in the child process, with its two sockets. caisson-disk prints to the
 * descriptor `answer` whether it is ready, and its errors to the descriptor `errors`.
 */
_Noreturn static void become_server(
	const struct machine_config *c, pid_t monitor, const int socks[2], int answer, int errors)
{
	const char *words[WORDS_MAX] = {"caisson-disk", "serve", "--format", c->image_format};
	char socket_text[16], control[16], user[16], queues[16];
	size_t n = 4;
	sigset_t none;

	snprintf(socket_text, sizeof(socket_text), "%d", socks[0]);
	snprintf(control, sizeof(control), "%d", socks[1]);
	snprintf(user, sizeof(user), "%u", (unsigned)jail_id(monitor));
	snprintf(queues, sizeof(queues), "%u", c->image_queues);
	const char *const options[][2] = {{"--socket", socket_text}, {"--control", control},
		{"--werror", machine_on_error_name(c->image_werror)},
		{"--rerror", machine_on_error_name(c->image_rerror)}, {"--user", user},
		{"--queues", queues}, {"--serial", IMAGE_SERIAL}, {"--backing", c->image_backing},
		{"--key", c->image_key}};
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		if (!options[i][1])
			continue;
		words[n++] = options[i][0];
		words[n++] = options[i][1];
	}
	if (c->image_read_only)
		words[n++] = "--read-only";
	if (c->image_snapshot)
		words[n++] = "--snapshot";
	if (c->image_write_through)
		words[n++] = "--write-through";
	words[n++] = c->image;
	words[n] = NULL;
	if (fd_set_streams(-EBADF, answer, errors) < 0 || fcntl(socks[0], F_SETFD, 0) < 0 ||
		fcntl(socks[1], F_SETFD, 0) < 0)
		_exit(126);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(c->image_server, (char *const *)words);
	dprintf(STDOUT_FILENO, "execute %s: %s", c->image_server, strerror(errno));
	_exit(127);
}

/* Reads the answer of caisson-disk, which says either that the server is ready or why it failed. */
static int read_answer(int answer, const char *image)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	int r = fd_read_all(answer, &text, ERR_MAX, "the answer of caisson-disk");

	if (r < 0)
		return err_ctx(r, "vm.image");
	if (streq(strbuf_str(&text), READY))
		return 0;
	return err_set(EIO, "vm.image: %s",
		text.len ? strbuf_str(&text) : "caisson-disk, which opens it, was killed");
}

int disk_server_start(struct disk_server *ret, const struct machine_config *c, int errors)
{
	int socks[2], controls[2], answer[2];

	*ret = (struct disk_server){.sock = -EBADF, .control = -EBADF};
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks) < 0)
		return err_sys("make a socket pair");
	_cleanup_fd_ int ours = socks[0], theirs = socks[1];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, controls) < 0)
		return err_sys("make a socket pair");
	_cleanup_fd_ int control = controls[0], their_control = controls[1];
	if (pipe2(answer, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	_cleanup_fd_ int from = answer[0], to = answer[1];
	pid_t monitor = getpid();
	pid_t pid = fork();
	if (pid < 0)
		return err_sys("fork the server of vm.image");
	if (pid == 0)
		become_server(c, monitor, (const int[]){theirs, their_control}, to, errors);
	ret->pid = pid;
	ret->sock = take_fd(&ours);
	ret->control = take_fd(&control);
	fd_close(&to);
	fd_close(&theirs);
	fd_close(&their_control);
	return read_answer(from, c->image);
}

/* Waits up to `ms` milliseconds for the end of caisson-disk. Returns whether it has ended. */
static bool await_end(struct disk_server *s, int ms)
{
	const int64_t end = clock_ms() + ms;

	while (s->pid > 0) {
		if (waitpid(s->pid, &s->status, WNOHANG) == s->pid) {
			s->pid = 0;
			s->ended = true;
		} else if (clock_ms() >= end) {
			break;
		} else {
			poll(NULL, 0, LOOK_MS);
		}
	}
	return s->ended;
}

int disk_server_check(struct disk_server *s, int wait_ms)
{
	if (!await_end(s, wait_ms))
		return 0;
	if (WIFSIGNALED(s->status))
		return err_set(EIO,
			"vm.image: the process that serves it (caisson-disk) was killed by signal "
			"%d",
			WTERMSIG(s->status));
	if (WEXITSTATUS(s->status) == 0)
		return err_set(
			EPIPE, "vm.image: the hypervisor closed its connection to caisson-disk");
	return err_set(EIO, "vm.image: the process that serves it (caisson-disk) failed");
}

int disk_server_next(struct disk_server *s, struct blk_message *ret)
{
	ssize_t n = read(s->control, ret, sizeof(*ret));

	/* caisson-disk has ended, and disk_server_check() tells why. */
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		fd_close(&s->control);
	if (n != (ssize_t)sizeof(*ret))
		return 0;
	ret->why[sizeof(ret->why) - 1] = '\0';
	return 1;
}

static int tell_server(struct disk_server *s, const struct blk_message *m)
{
	if (s->control >= 0 && write(s->control, m, sizeof(*m)) < 0)
		return err_sys("send caisson-disk a message");
	return 0;
}

int disk_server_retry(struct disk_server *s)
{
	return tell_server(s, &(struct blk_message){.type = BLK_RETRY});
}

int disk_server_resize(struct disk_server *s, uint64_t size)
{
	return tell_server(s, &(struct blk_message){.type = BLK_RESIZE, .size = size});
}

void disk_server_stop(struct disk_server *s)
{
	fd_close(&s->sock);
	fd_close(&s->control);
	if (await_end(s, END_MS) || s->pid <= 0)
		return;
	kill(s->pid, SIGKILL);
	while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
		;
	s->pid = 0;
}
