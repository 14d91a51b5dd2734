/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/vm_client.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>

#include "agent/agent.h"
#include "agent/orders.h"
#include "base/fd.h"
#include "base/log.h"
#include "monitor/control.h"

#define CALL_TIMEOUT_MS VM_ASK_TIMEOUT_MS
#define KILL_TIMEOUT_MS 3000
/* how long, in ms, a disk may take to become larger, which can move tables in its image */
#define DISK_SIZE_TIMEOUT_MS 60000
/* how long, in ms, the microVM's monitor may take to write all of the guest's memory */
#define CHECKPOINT_TIMEOUT_MS 600000

static int call_monitor(struct container *c, struct agent_writer *w, const struct strbuf *blob,
	int timeout_ms, struct agent_frame *ret)
{
	_cleanup_fd_ int sock = control_connect(c->dir);

	return sock < 0 ? sock : control_call(sock, w, blob, timeout_ms, ret);
}

static int kill_monitor(struct container *c)
{
	_cleanup_fd_ int pidfd = container_pidfd(c);

	if (pidfd < 0)
		return pidfd;
	return pidfd_send_signal(pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH
		       ? err_sys("kill the container's monitor")
		       : 0;
}

/*
 * Sends a signal to a container in a microVM. The guest's kernel delivers the signal, so that a
 * guest whose program is killed still writes its data to disk. If the guest does not react to
 * SIGKILL, the microVM's monitor is killed.
 */
int vm_signal(struct container *c, int sig, bool all)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	_cleanup_agent_frame_ struct agent_frame reply = {0};

	int r = agent_begin(&w, "signal");
	if (r < 0)
		return r;
	json_out_i64(&w.json, "signal", sig);
	json_out_bool(&w.json, "all", all);
	r = call_monitor(c, &w, NULL, sig == SIGKILL ? KILL_TIMEOUT_MS : CALL_TIMEOUT_MS, &reply);
	return r < 0 && r != -ESRCH && sig == SIGKILL ? kill_monitor(c) : r;
}

int vm_freeze(struct container *c, bool frozen)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	_cleanup_agent_frame_ struct agent_frame reply = {0};

	int r = agent_begin(&w, "freeze");
	if (r < 0)
		return r;
	json_out_bool(&w.json, "frozen", frozen);
	r = call_monitor(c, &w, NULL, CALL_TIMEOUT_MS, &reply);
	return r < 0 ? r : container_mark_frozen(c, frozen);
}

int vm_continue(struct container *c)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	_cleanup_agent_frame_ struct agent_frame reply = {0};

	int r = agent_begin(&w, "continue");
	return r < 0 ? r : call_monitor(c, &w, NULL, CALL_TIMEOUT_MS, &reply);
}

int vm_resize_disk(struct container *c, uint64_t size)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	_cleanup_agent_frame_ struct agent_frame reply = {0};

	int r = agent_begin(&w, "grow");
	if (r < 0)
		return r;
	json_out_u64(&w.json, "size", size);
	return call_monitor(c, &w, NULL, DISK_SIZE_TIMEOUT_MS, &reply);
}

int vm_ask(struct container *c, const char *what, struct agent_frame *ret)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	int r = agent_begin(&w, what);
	return r < 0 ? r : call_monitor(c, &w, NULL, CALL_TIMEOUT_MS, ret);
}

int vm_find_agent(struct container *c, int timeout_ms, enum vm_agent *ret)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	_cleanup_agent_frame_ struct agent_frame reply = {0};

	int r = agent_begin(&w, "address");
	if (r >= 0)
		r = call_monitor(c, &w, NULL, timeout_ms, &reply);
	*ret = VM_AGENT_NONE;
	if (r >= 0 && json_get_true(reply.json, "agent"))
		*ret = VM_AGENT_CAISSON;
	else if (r >= 0 && json_get_true(reply.json, "guestAgent"))
		*ret = VM_AGENT_QEMU;
	return r;
}

static int attach(struct container *c, const char *what, int sock)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	_cleanup_agent_frame_ struct agent_frame reply = {0};
	_cleanup_fd_ int control = control_connect(c->dir);

	int r = control < 0 ? control : agent_begin(&w, what);
	if (r >= 0)
		r = control_send_fds(control, &w, &sock, 1);
	return r < 0 ? r : control_wait(control, CALL_TIMEOUT_MS, &reply);
}

int vm_attach_console(struct container *c, int sock)
{
	return attach(c, "console", sock);
}

int vm_attach_viewer(struct container *c, int sock)
{
	return attach(c, "vnc", sock);
}

int vm_watch(struct container *c)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	_cleanup_fd_ int sock = control_connect(c->dir);

	int r = sock < 0 ? sock : agent_begin(&w, "watch");
	if (r >= 0)
		r = agent_send(&w, sock, NULL, 0);
	return r < 0 ? r : take_fd(&sock);
}

int vm_watch_read(int sock, struct agent_reader *reader)
{
	int r = agent_reader_receive(reader, sock), events = 0;

	if (r == 0 || r == -ECONNRESET)
		return err_set(ESRCH, "container not running");
	while (r > 0) {
		_cleanup_agent_frame_ struct agent_frame f = {0};
		r = agent_reader_next(reader, &f);
		if (r > 0 && streq(f.type, "oom"))
			events = 1;
	}
	return r < 0 && r != -EAGAIN ? r : events;
}

int vm_update(struct container *c, const struct cg_resources *guest, bool grown)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	_cleanup_agent_frame_ struct agent_frame reply = {0};
	_cleanup_strbuf_ struct strbuf limits = {0};

	int r = agent_begin(&w, "update");
	if (r < 0)
		return r;
	json_out_bool(&w.json, "grown", grown);
	r = agent_limits_pack(guest, &limits);
	return r < 0 ? r : call_monitor(c, &w, &limits, CALL_TIMEOUT_MS, &reply);
}

int vm_undo_update(struct container *c, int error)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	_cleanup_agent_frame_ struct agent_frame reply = {0};
	char why[ERR_MAX];

	snprintf(why, sizeof(why), "%s", err_msg());
	int r = agent_begin(&w, "update");
	if (r >= 0) {
		json_out_bool(&w.json, "undo", true);
		r = call_monitor(c, &w, NULL, CALL_TIMEOUT_MS, &reply);
	}
	if (r < 0)
		log_warn("the limits in the guest are not restored: %s", err_msg());
	return err_set(-error, "%s", why);
}

int vm_checkpoint(struct container *c, int state, int memory)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	_cleanup_agent_frame_ struct agent_frame reply = {0};
	const int fds[] = {state, memory};
	_cleanup_fd_ int sock = control_connect(c->dir);

	int r = sock < 0 ? sock : agent_begin(&w, "checkpoint");
	if (r >= 0)
		r = control_send_fds(sock, &w, fds, ARRAY_SIZE(fds));
	if (r >= 0)
		r = control_wait(sock, CHECKPOINT_TIMEOUT_MS, &reply);
	return r < 0 ? r : take_fd(&sock);
}

int vm_end(struct container *c, int sock)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	_cleanup_fd_ int pidfd = container_pidfd(c);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	int r = pidfd < 0 ? pidfd : agent_begin(&w, "end");
	if (r >= 0)
		r = agent_send(&w, sock, NULL, 0);
	while (r >= 0 && poll(&p, 1, -1) < 0)
		if (errno != EINTR)
			r = err_sys("wait for the microVM's end");
	return r < 0 ? r : 0;
}
