/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/sys.h"
#include "ns/channel.h"
#include "ns/ns.h"
#include "step/step.h"

struct init {
	int channel; /* to the runtime; from WAIT_START on, to the `start` command */
	int start_socket;
};

static int report(void *data, const char *barrier)
{
	struct init *i = data;

	return channel_report(i->channel, barrier);
}

static int await(void *data, const char *barrier)
{
	struct init *i = data;

	return channel_await_or_exit(i->channel, barrier);
}

static int send_fd(void *data, const char *what, int fd)
{
	struct init *i = data;

	return channel_send(i->channel, CHANNEL_FD, 0, what, fd);
}

/*
 * The runtime of `create` is about to end, so INIT gives up its channel. The next one to connect is
 * `start`, which hears of INIT's success or failure. Only the runtime's user can connect, because
 * the socket is in the state directory.
 */
static int wait_start(void *data)
{
	struct init *i = data;

	if (i->start_socket < 0)
		return await(data, "start");
	fd_close(&i->channel);
	do
		i->channel = accept4(i->start_socket, NULL, NULL, SOCK_CLOEXEC);
	while (i->channel < 0 && errno == EINTR);
	if (i->channel < 0)
		return err_sys("accept the start command");
	fd_close(&i->start_socket);
	return 0;
}

_Noreturn void ns_init(const struct ns_init_args *a)
{
	struct init init = {.channel = a->channel, .start_socket = a->start_socket};
	struct step_ctx c = {
		.plan = a->plan,
		.place = PLACE_INIT,
		.peer =
			{
				.data = &init,
				.report = report,
				.await = await,
				.send_fd = send_fd,
				.wait_start = wait_start,
			},
		.slots = a->slots,
		.root = -EBADF,
		.proc = a->proc,
		.console = -EBADF,
		.null_cover.fd = -EBADF,
		.dir_cover.fd = -EBADF,
		.env = a->env,
		.hook_out = a->hook_out,
		.state_json = a->state_json,
		.state_data = a->state_data,
		.arena = a->arena,
	};

	/*
	 * Closing everything else keeps the runtime's descriptors, and those that leaked into the
	 * runtime, out of the container (CVE-2024-21626).
	 */
	int r = 0;
	/*
	 * INIT leads a session of its own, so that it gets signals from the runtime and not from
	 * the terminal that caisson was started on.
	 */
	setsid();
	if (close_range(3 + (unsigned)a->preserve_fds, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		r = err_sys("mark descriptors close-on-exec");
	if (r == 0 && a->plan->exec) {
		/*
		 * An exec has no ATTACH_ROOT step, because its process is in the container's root
		 * already.
		 */
		c.root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (c.root < 0)
			r = err_sys("open the container's root");
	}
	if (r == 0)
		r = step_walk(&c, a->from);
	if (r == 0)
		r = err_set(EINVAL, "process: missing: there is nothing to start");
	if (channel_send(init.channel, CHANNEL_FAILED, r, err_msg(), -EBADF) < 0)
		_exit(2);
	_exit(1);
}
