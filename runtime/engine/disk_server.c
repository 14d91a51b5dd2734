/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/disk_server.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/process.h"
#include "engine/disk_process.h"
#include "machine/image.h"

#define LOOK_MS 10 /* how often, in ms, the monitor checks whether caisson-disk has ended */

int disk_server_start(struct disk_server *ret, const struct machine_config *c, int errors)
{
	const struct disk_process_options o = {.program = c->image_server,
		.field = "vm.image",
		.image = c->image,
		.format = c->image_format,
		.serial = machine_image_serial(c),
		.backing = c->image_backing,
		.key = c->image_key,
		.werror = machine_on_error_name(c->image_werror),
		.rerror = machine_on_error_name(c->image_rerror),
		.queues = c->image_queues,
		.read_only = c->image_read_only,
		.snapshot = c->image_snapshot,
		.write_through = c->image_write_through,
		.monitor = getpid(),
		.errors = errors};

	*ret = (struct disk_server){.sock = -EBADF, .control = -EBADF};
	pid_t pid = disk_process_start(&o, &ret->sock, &ret->control);
	if (pid < 0)
		return pid;
	ret->pid = pid;
	return 0;
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
	/* caisson-disk ends although the machine runs, so disk_server_check() tells more. */
	if (ret->type == BLK_ENDED) {
		if (disk_process_ended(ret, "vm.image") < 0)
			log_warn("%s", err_msg());
		fd_close(&s->control);
		return 0;
	}
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

int disk_server_stop(struct disk_server *s)
{
	_cleanup_fd_ int control = take_fd(&s->control);

	fd_close(&s->sock);
	if (s->pid > 0 && !await_end(s, DISK_PROCESS_END_MS)) {
		(void)process_kill(s->pid);
		s->pid = 0;
	}
	return control < 0 ? 0 : disk_process_result(control, "vm.image");
}
