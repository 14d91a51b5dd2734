/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket of a container's monitor: first the functions for a command that connects,
 * then the functions for the monitor. control.h describes the messages.
 */
#include "monitor/control.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "monitor/monitor_internal.h"

/* the monitor's words for a request that its version of caisson does not have */
#define UNKNOWN "unknown request"

/*
 * Makes a socket, and the address of CONTROL_SOCKET in the directory `dir`. The address goes
 * through /proc/self/fd, because a socket's path is limited to 107 bytes, and the path of `dir` may
 * be longer.
 */
static int make_socket(int dir, struct sockaddr_un *ret_addr)
{
	*ret_addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(ret_addr->sun_path, sizeof(ret_addr->sun_path), "/proc/self/fd/%d/" CONTROL_SOCKET,
		dir);
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return sock < 0 ? err_sys("make a socket") : sock;
}

int control_listen(int dir)
{
	struct sockaddr_un addr;
	_cleanup_fd_ int sock = make_socket(dir, &addr);

	if (sock < 0)
		return sock;
	if (bind(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(sock, 64) < 0)
		return err_sys("listen on " CONTROL_SOCKET " in the state directory");
	return take_fd(&sock);
}

int control_connect(int dir)
{
	struct sockaddr_un addr;
	_cleanup_fd_ int sock = make_socket(dir, &addr);

	if (sock < 0)
		return sock;
	if (connect(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return errno == ECONNREFUSED || errno == ENOENT
			       ? err_set(ESRCH, "container not running")
			       : err_sys("reach the container's monitor");
	return take_fd(&sock);
}

static int wait_reply(int sock, int timeout_ms, struct agent_frame *ret)
{
	struct agent_reader reader = {0};
	int r = 0;

	while (r == 0) {
		struct pollfd p = {.fd = sock, .events = POLLIN};
		int n = poll(&p, 1, timeout_ms);
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			r = err_set(ETIMEDOUT, "the microVM does not answer");
		else if (n < 0)
			r = err_sys("wait for the container's monitor");
		else if ((r = agent_reader_receive(&reader, sock)) == 0)
			r = err_set(ESRCH, "container not running");
		else if (r > 0)
			r = agent_reader_next(&reader, ret);
	}
	agent_reader_release(&reader);
	return r < 0 ? r : 0;
}

int control_wait(int sock, int timeout_ms, struct agent_frame *ret)
{
	int r = wait_reply(sock, timeout_ms, ret);

	return r < 0 ? r : agent_failure(ret);
}

/* Says what it means that a request could not be sent. */
static int send_error(int r)
{
	return r == -EPIPE || r == -ECONNRESET ? err_set(ESRCH, "container not running") : r;
}

int control_send_fds(int sock, struct agent_writer *w, const int *fds, unsigned n)
{
	const struct iovec none[2] = {{0}};
	int r = agent_send_fds(w, sock, none, fds, n);

	return r < 0 ? send_error(r) : 0;
}

int control_call(int sock, struct agent_writer *w, const struct strbuf *blob, int timeout_ms,
	struct agent_frame *ret)
{
	int r = agent_send(w, sock, blob ? blob->s : NULL, blob ? blob->len : 0);

	if (r < 0)
		return send_error(r);
	r = control_wait(sock, timeout_ms, ret);
	if (r == -EPROTO && str_starts(err_msg(), UNKNOWN))
		return err_set(EPROTO,
			"%s: the microVM was started by another version of caisson: start it anew",
			err_msg());
	return r;
}

/*
 * --- the monitor's side of the control socket; handle_request() decides who answers which request
 * ---
 */

int monitor_accept(struct monitor *m)
{
	_cleanup_fd_ int sock = accept4(m->control, NULL, NULL, SOCK_CLOEXEC);

	if (sock < 0)
		return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED
			       ? 0
			       : err_sys("accept a command");
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		if (m->clients[i].sock >= 0)
			continue;
		m->clients[i].sock = take_fd(&sock);
		return 0;
	}
	/*
	 * The monitor closes the new connection, because all entries of its table of clients are in
	 * use. The command takes the closed connection as a sign that the container is not running
	 * (wait_reply()), and says so.
	 */
	return 0;
}

/*
 * Sends the command's request unchanged to the guest, with an id. When the guest's reply with this
 * id comes, on_reply() finds the command's entry in the table of clients by the id.
 */
static int forward_request(struct monitor *m, struct client *c, const struct agent_frame *f)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	if (m->agent < 0)
		return err_set(ENOTCONN, "the microVM has not booted yet");
	int r = agent_begin(&w, f->type);
	if (r < 0)
		return r;
	c->request = ++m->next_request;
	json_out_u64(&w.json, "id", c->request);
	for (const struct json *j = f->json->first; j; j = j->next)
		if (!streq(j->key, "type") && !streq(j->key, "id"))
			json_out_node(&w.json, j->key, j);
	return agent_send(&w, m->agent, f->blob, f->blob_len);
}

/*
 * Offers the descriptors that came with the request "exec" to the guest. Descriptor i becomes the
 * standard stream whose number is element i of the request's member "stdio".
 */
static int offer_streams(struct monitor *m, uint32_t process, struct agent_frame *f)
{
	const struct json *stdio = json_get(f->json, "stdio");
	unsigned i = 0;

	if (!stdio || stdio->type != JSON_ARRAY || stdio->count != f->nfds)
		return err_set(EPROTO, "exec: %u descriptors came: expected one for each of stdio",
			f->nfds);
	for (const struct json *j = stdio->first; j; j = j->next, i++) {
		uint64_t stream;
		if (j->type != JSON_NUMBER || str_to_u64(j->text, &stream) < 0 ||
			stream > AGENT_TERMINAL)
			return err_set(EPROTO, "exec: stdio: expected numbers from 0 to 3");
		int r = streams_offer(&m->streams, process, (unsigned)stream, f->fds[i]);
		if (r < 0)
			return r;
		f->fds[i] = -EBADF;
	}
	return 0;
}

static int on_exec(struct monitor *m, struct client *c, struct agent_frame *f)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	if (c->process)
		return err_set(
			EPROTO, "exec: this connection has a process already: expected one exec");
	c->process = ++m->next_process;
	int r = monitor_check_running(m, true);
	if (r >= 0)
		r = offer_streams(m, c->process, f);
	if (r >= 0)
		r = agent_begin(&w, "exec");
	if (r < 0)
		return r;
	json_out_u64(&w.json, "process", c->process);
	streams_json(&m->streams, c->process, &w.json);
	for (const struct json *j = f->json->first; j; j = j->next)
		if (!streq(j->key, "type") && !streq(j->key, "process") && !streq(j->key, "stdio"))
			json_out_node(&w.json, j->key, j);
	return agent_send(&w, m->agent, f->blob, f->blob_len);
}

static int on_signal(struct monitor *m, struct client *c, const struct agent_frame *f)
{
	uint64_t sig;

	if (json_get_u64(f->json, "signal", &sig) < 0 || sig > 64)
		return err_set(EPROTO, "signal: expected a number from 0 to 64");
	if (c->process && monitor_is_end((int)sig)) {
		c->told = true;
		c->give_up = c->ended ? clock_ms() : 0;
	}
	/*
	 * SIGKILL ends the microVM at once, because the container's process has ended, and the
	 * monitor only waits for a reader of its output, or because the guest is paused after an
	 * error of its disk and cannot react.
	 */
	if ((m->phase >= PHASE_EXITED || m->disk_error) && !c->process && sig == SIGKILL) {
		m->status = m->phase >= PHASE_EXITED ? m->status : SIGKILL;
		monitor_advance(m, PHASE_CUT);
		client_reply(c, 0, "");
		return 0;
	}
	if (m->phase >= PHASE_EXITED && !c->process)
		return err_set(ESRCH, "container not running");
	if (sig == SIGKILL && !c->process && !m->kill_deadline)
		m->kill_deadline = clock_ms() + KILL_GRACE_MS;
	int r = monitor_send_signal(m, c->process, (int)sig, json_get_true(f->json, "all"));
	if (r >= 0 && !c->process)
		client_reply(c, 0, "");
	return r;
}

static int on_resize(struct monitor *m, struct client *c, const struct agent_frame *f)
{
	uint64_t rows, columns;

	if (json_get_u64(f->json, "rows", &rows) < 0 ||
		json_get_u64(f->json, "columns", &columns) < 0 || rows > 65535 || columns > 65535)
		return err_set(EPROTO, "resize: expected rows and columns");
	return monitor_send_resize(m, c->process, (unsigned)rows, (unsigned)columns);
}

/*
 * Handles the requests about the machine's disk, "continue" and "grow". Refuses the requests
 * that a machine which is paused cannot answer, and those that cannot be
 * done while the disk is resized. Returns 1 if the request is none of these.
 */
static int handle_disk_request(struct monitor *m, struct client *c, const struct agent_frame *f)
{
	static const char *const answered[] = {"signal", "watch", "resize", "address", "console"};
	static const char *const excluded[] = {"checkpoint", "attach", "detach"};

	if (streq(f->type, "continue")) {
		int r = disk_error_continue(m);
		if (r >= 0)
			client_reply(c, 0, "");
		return r;
	}
	for (size_t i = 0; m->resizes_disk && i < ARRAY_SIZE(excluded); i++)
		if (streq(f->type, excluded[i]))
			return err_set(EBUSY, "%s: the machine's disk is being resized: try again",
				f->type);
	if (streq(f->type, "grow"))
		return disk_size_begin(m, c, f);
	for (size_t i = 0; i < ARRAY_SIZE(answered); i++)
		if (streq(f->type, answered[i]))
			return 1;
	return m->disk_error ? disk_error_refuse(m, f->type) : foreign_check_frozen(m, f->type);
}

static int handle_request(struct monitor *m, struct client *c, struct agent_frame *f)
{
	int r = handle_disk_request(m, c, f);

	if (r <= 0)
		return r;
	if (foreign_here(m) && !foreign_agent_answers(m, c, f))
		return foreign_request(m, c, f);
	if (streq(f->type, "checkpoint"))
		return checkpoint_begin(m, c, f);
	if (streq(f->type, "end"))
		return checkpoint_end(m, c);
	if (m->checkpoint.step != CHECKPOINT_NONE && !streq(f->type, "signal") &&
		!streq(f->type, "watch"))
		return err_set(EBUSY, "%s: a checkpoint of the container is under way", f->type);
	if (streq(f->type, "attach") || streq(f->type, "detach"))
		return hotplug_begin(m, c, f);
	if (streq(f->type, "share"))
		return hotplug_share(m, c);
	if (streq(f->type, "exec"))
		return on_exec(m, c, f);
	if (streq(f->type, "signal"))
		return on_signal(m, c, f);
	if (streq(f->type, "resize"))
		return on_resize(m, c, f);
	if (streq(f->type, "watch")) {
		c->watches = true;
		return 0;
	}
	if (c->request)
		return err_set(EPROTO,
			"%s: this connection waits for a reply already: expected one request at a "
			"time",
			f->type);
	if (streq(f->type, "cpus"))
		return machine_size_set_cpus(m, c, f);
	if (streq(f->type, "memory"))
		return machine_size_memory(m, c, f);
	if (streq(f->type, "freeze") || streq(f->type, "ps") || streq(f->type, "stats") ||
		streq(f->type, "update"))
		return forward_request(m, c, f);
	return err_set(EPROTO, UNKNOWN " \"%s\"", f->type);
}

/*
 * Ends a command's connection. If the command was the proxy of an exec, the guest kills the
 * process, because an engine that kills the proxy means to kill the process.
 */
static void hang_up(struct monitor *m, struct client *c)
{
	if (c->process && !c->ended && m->agent >= 0 &&
		monitor_send_signal(m, c->process, SIGKILL, false) < 0)
		log_debug("%s", err_msg());
	if (c->process)
		streams_withdraw(&m->streams, c->process);
	if (c->qga.request)
		qga_withdraw(&m->qga, c->qga.request);
	const bool checkpoints = c->change == CHANGE_CHECKPOINT;
	client_close(c);
	if (checkpoints)
		checkpoint_on_hang_up(m);
}

void monitor_on_client(struct monitor *m, struct client *c)
{
	int r = agent_reader_receive(&c->reader, c->sock);

	if (r <= 0 && r != -EAGAIN) {
		hang_up(m, c);
		return;
	}
	for (;;) {
		_cleanup_agent_frame_ struct agent_frame f = {0};
		r = agent_reader_next(&c->reader, &f);
		if (r == 0)
			return;
		if (r > 0)
			r = handle_request(m, c, &f);
		if (r >= 0)
			continue;
		client_reply(c, -r, err_msg());
		hang_up(m, c);
		return;
	}
}
