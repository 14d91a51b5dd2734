/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prepares the agent for a snapshot of the machine, and lets it go on after one.
 *
 * Theory of operation. A snapshot has no vsock connections. When a machine starts from a snapshot,
 * the guest's kernel resets the vsock connections that it had, and the bytes that were under way in
 * these connections are lost. So before the snapshot the monitor stops sending input to the
 * processes, and asks the agent to suspend. The agent takes all input out of the sockets into
 * memory, and takes no more output out of the pipes. Then it answers. The vsock devices and the
 * kernels on both sides keep the order of packets, so when the monitor has the answer, it has all
 * output that the agent has sent before.
 *
 * The monitor then saves the machine. Afterwards one of two things happens. In the machine that was
 * saved, "resume" comes over the same connection, and the streams go on. In a machine that starts
 * from the snapshot, the connection is reset. The agent connects to the monitor again, at a port
 * that the monitor has chosen at random for this, because another program in the guest could
 * connect first. After the agent's "hello" the monitor sends "resume" with new ports for the
 * streams, the time, and bytes for the kernel's random numbers: two machines from one snapshot
 * would otherwise draw the same random numbers.
 */
#include <stdio.h>

#include "base/fd.h"
#include "guest/guest.h"

/*
 * Refuses to suspend while a process is being made, because its INIT waits for messages of the
 * monitor, and while a process of `exec` runs, because its streams would be lost.
 */
static int check_processes(const struct guest *g)
{
	const struct process *c = process_find((struct guest *)g, 0);

	/*
	 * Before "create" there is no process, and nothing that a snapshot could lose. Such a
	 * snapshot is a template.
	 */
	if (!g->processes && !g->jobs)
		return 0;
	if (!c || c->exited || c->failed || c->child.pid <= 0)
		return err_set(ESRCH, "container not running");
	if (c->channel >= 0 || c->awaited)
		return err_set(EBUSY, "the container's program does not run yet");
	for (const struct process *p = g->processes; p; p = p->next)
		if (p->number > 0 && !p->told)
			return err_set(EBUSY,
				"a process of `exec` runs: it would lose its streams; end it "
				"first");
	return g->jobs ? err_set(EBUSY, "another request to the guest is under way") : 0;
}

static int suspend_streams(struct guest *g)
{
	int r = 0;

	for (struct process *p = g->processes; p; p = p->next)
		for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(p->streams); i++)
			r = stream_suspend(&p->streams[i]);
	return r;
}

/*
 * Connects the streams of the container's process to the vsock ports that the message "resume"
 * names.
 */
static void reconnect_streams(struct guest *g, const struct json *stdio)
{
	struct process *p = process_find(g, 0);
	int socks[AGENT_TERMINAL + 1] = {-EBADF, -EBADF, -EBADF, -EBADF};

	for (const struct json *e = stdio->first; e; e = e->next) {
		uint64_t n, port;
		if (json_get_u64(e, "stream", &n) < 0 || n > AGENT_TERMINAL || socks[n] >= 0 ||
			json_get_u64(e, "port", &port) < 0 || port > UINT32_MAX) {
			guest_log(g, "resume: stdio: expected streams from 0 to 3 with ports");
			continue;
		}
		if (!p || !stream_is_open(&p->streams[n]))
			continue;
		socks[n] = g->config->connect(g->config->data, (uint32_t)port);
	}
	for (size_t i = 0; p && i < ARRAY_SIZE(socks); i++)
		if (stream_is_open(&p->streams[i]))
			stream_reconnect(&p->streams[i], socks[i]);
}

static void resume_streams(struct guest *g)
{
	for (struct process *p = g->processes; p; p = p->next)
		for (size_t i = 0; i < ARRAY_SIZE(p->streams); i++)
			stream_resume(&p->streams[i]);
}

/*
 * Takes the network devices from their driver, or gives them back, if there is no container yet.
 */
static int hold_nics(struct guest *g, bool hold)
{
	if (g->processes || !g->config->hold_nics)
		return 0;
	return g->config->hold_nics(g->config->data, hold);
}

void guest_suspend(struct guest *g, const struct agent_frame *f)
{
	char why[ERR_MAX];
	uint64_t id, port;

	if (json_get_u64(f->json, "id", &id) < 0 || json_get_u64(f->json, "port", &port) < 0 ||
		port > UINT32_MAX)
		return guest_log(g, "suspend: expected id and port");
	int r = check_processes(g);
	if (r >= 0)
		r = hold_nics(g, true);
	if (r >= 0)
		r = suspend_streams(g);
	if (r < 0) {
		snprintf(why, sizeof(why), "%s", err_msg());
		resume_streams(g);
		if (hold_nics(g, false) < 0)
			guest_log(g, "suspend: %s", err_msg());
		return guest_say_reply(g, id, -r, why);
	}
	guest_say_reply(g, id, 0, "");
	g->suspended = true;
	g->resume_port = (uint32_t)port;
}

void guest_resume(struct guest *g, const struct agent_frame *f)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	const struct json *stdio = json_get(f->json, "stdio");

	if (!g->suspended)
		return guest_log(g, "resume: the agent is not suspended");
	guest_set_clock(g, f);
	if (g->config->add_entropy && f->blob_len)
		g->config->add_entropy(g->config->data, f->blob, f->blob_len);
	g->suspended = false;
	if (hold_nics(g, false) < 0)
		guest_log(g, "resume: %s", err_msg());
	if (stdio && stdio->type == JSON_ARRAY)
		reconnect_streams(g, stdio);
	else
		resume_streams(g);
	if (agent_begin(&w, "resumed") >= 0)
		guest_send(g, &w);
}

int guest_reconnect(struct guest *g)
{
	int r = loop_watch(&g->loop, &g->control_watch, g->control, WATCH_NOTHING);

	fd_close(&g->control);
	agent_reader_release(&g->reader);
	g->reader = (struct agent_reader){0};
	if (r >= 0)
		r = g->control = g->config->reconnect(g->config->data, g->resume_port);
	if (r >= 0)
		r = guest_say_hello(g);
	return r < 0 ? r : loop_watch(&g->loop, &g->control_watch, g->control, EPOLLIN);
}
