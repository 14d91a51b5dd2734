/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handles the messages "create" and "exec": makes a process, with its plan, its pipes and its
 * streams, from the message.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "guest/guest.h"
#include "guest/hotplug.h"
#include "netsetup/net.h"

void *guest_copy_blob(struct arena *a, const struct agent_frame *f)
{
	void *bytes = arena_alloc(a, f->blob_len + 1);

	if (bytes && f->blob_len)
		memcpy(bytes, f->blob, f->blob_len);
	return bytes;
}

static int take_orders(struct process *p, struct arena *a, const struct agent_frame *f)
{
	struct agent_orders *orders;
	void *bytes = guest_copy_blob(a, f);

	if (!bytes)
		return -ENOMEM;
	int r = agent_orders_unpack(bytes, f->blob_len, &orders);
	if (r < 0)
		return err_ctx(r, "the monitor's message \"%s\"", f->type);
	p->orders = orders;
	p->plan = orders->plan;
	return 0;
}

/*
 * Makes a pipe for a standard stream, and gives the end that INIT gets to the process's user, so
 * that the program can open /dev/stdout. The agent makes the pipe, because INIT in a user namespace
 * could not give the pipe away.
 */
static int make_pipe(struct process *p, int stream)
{
	int ends[2];
	bool in = stream == AGENT_STDIN;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	p->stdio[stream] = ends[in ? 0 : 1];
	int r = stream_start(&p->streams[stream], ends[in ? 1 : 0], in, !in, false);
	if (r >= 0 && fchown(p->stdio[stream], p->orders->uid, (gid_t)-1) < 0)
		r = err_sys("give a pipe to the process's user");
	return r;
}

static int open_stream(struct process *p, int stream, uint32_t port)
{
	const struct guest_config *c = p->guest->config;
	struct stream *s = &p->streams[stream];

	int sock = c->connect(c->data, port);
	if (sock < 0)
		return sock;
	stream_init(s, &p->guest->loop, sock);
	return stream == AGENT_TERMINAL ? stream_connect(s) : make_pipe(p, stream);
}

/* Gives the process one pipe for both standard output and standard error. */
static int share_stdout(struct process *p)
{
	p->stdio[AGENT_STDERR] = fcntl(p->stdio[AGENT_STDOUT], F_DUPFD_CLOEXEC, 3);
	return p->stdio[AGENT_STDERR] < 0 ? err_sys("duplicate the pipe of standard output") : 0;
}

static int open_streams(struct process *p, const struct agent_frame *f)
{
	const struct json *list = json_get(f->json, "stdio");
	uint32_t ports[AGENT_TERMINAL + 1] = {0};
	unsigned have = 0;

	if (!list || list->type != JSON_ARRAY)
		return err_set(EPROTO, "the monitor's message: stdio: expected an array");
	for (const struct json *e = list->first; e; e = e->next) {
		uint64_t n, port;
		if (json_get_u64(e, "stream", &n) < 0 || n > AGENT_TERMINAL || have & 1u << n ||
			json_get_u64(e, "port", &port) < 0 || port > UINT32_MAX)
			return err_set(EPROTO,
				"the monitor's message: stdio: expected streams 0, 1, 2 or 3, "
				"each once, with their ports");
		have |= 1u << n;
		ports[n] = (uint32_t)port;
	}
	if (p->plan.terminal ? have != 1u << AGENT_TERMINAL : have >> AGENT_TERMINAL)
		return err_set(EPROTO,
			"the monitor's message: stdio: expected %s, because process.terminal is %s",
			p->plan.terminal ? "stream 3 alone" : "no stream 3",
			p->plan.terminal ? "true" : "false");
	for (int i = 0; i <= AGENT_TERMINAL; i++) {
		int r = 0;
		if (i == AGENT_STDERR && have & 1u << AGENT_STDOUT &&
			ports[i] == ports[AGENT_STDOUT] && have >> i & 1)
			r = share_stdout(p);
		else if (have & 1u << i)
			r = open_stream(p, i, ports[i]);
		if (r < 0)
			return r;
	}
	for (int i = 0; i < 3; i++) {
		if (p->stdio[i] < 0)
			p->stdio[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (p->stdio[i] < 0)
			return err_sys("open /dev/null");
	}
	return 0;
}

static int begin_process(struct process *p, const struct agent_frame *f)
{
	p->slots = arena_array(&p->arena, (size_t)p->plan.nslots + 1, sizeof(int));
	if (!p->slots)
		return -ENOMEM;
	for (int i = 0; i < p->plan.nslots; i++)
		p->slots[i] = -EBADF;
	int r = open_streams(p, f);
	return r < 0 ? r : process_walk(p);
}

/*
 * Replaces, in the process's plan, the path to which the root will be attached by a path in the
 * guest, because the bundle's path exists only on the host.
 */
static int move_root(struct process *p)
{
	struct step *steps = arena_array(&p->guest->arena, p->plan.n, sizeof(*steps));
	const char *root = arena_printf(&p->guest->arena, "%s/root", p->guest->config->dir);

	if (!steps || !root)
		return -ENOMEM;
	memcpy(steps, p->plan.steps, p->plan.n * sizeof(*steps));
	for (size_t i = 0; i < p->plan.n; i++)
		if (steps[i].kind == STEP_ATTACH_ROOT)
			steps[i].open.path = root;
	p->plan.steps = steps;
	return 0;
}

static int take_container(struct process *p, const struct agent_frame *f)
{
	int r = take_orders(p, &p->guest->arena, f);

	if (r < 0)
		return r;
	p->guest->orders = p->orders;
	return p->orders->id ? move_root(p)
			     : err_set(EPROTO, "the monitor's message \"create\" has no id");
}

/*
 * Sets the guest's clock to the time in the message, because a machine that QEMU runs in software
 * has no clock with the time of day.
 */
void guest_set_clock(struct guest *g, const struct agent_frame *f)
{
	uint64_t now;

	if (g->config->set_clock && json_get_u64(f->json, "time", &now) >= 0)
		g->config->set_clock(g->config->data, now);
}

void process_create(struct guest *g, const struct agent_frame *f)
{
	if (g->orders)
		return guest_say_failed(g, 0, EALREADY, "the guest has its container already");
	struct process *p = process_new(g, 0);
	if (!p)
		return guest_say_failed(g, 0, ENOMEM, "out of memory");
	p->asked_at = clock_ns();
	guest_set_clock(g, f);
	int r = take_container(p, f);
	if (r >= 0)
		r = hotplug_find_devices(json_get(f->json, "devices"));
	if (r >= 0)
		r = network_create(p, json_get(f->json, "net"));
	if (r >= 0)
		r = begin_process(p, f);
	if (r < 0)
		process_fail(p, r);
}

/* Finds the cgroup for an exec. do_cgroup_attach() opens the cgroup again. */
static int find_cgroup(struct process *p, const struct process *container)
{
	const char *sub = p->orders->subgroup;
	struct cgroup *cg = &p->exec_cgroup;

	*cg = p->guest->cgroup;
	int r = sub ? cg_child(&p->arena, &p->guest->cgroup, sub, cg) : 0;
	if (r < 0)
		return err_ctx(r, "--cgroup");
	_cleanup_fd_ int dir =
		sub ? cg_open(cg) : cg_open_for_exec(&p->arena, cg, container->child.pid);
	if (dir < 0)
		return dir;
	/* The host only knows of a cgroup that `caisson pause` has frozen. */
	if (!p->orders->ignore_paused && cg_dir_is_frozen(dir))
		return err_set(EBUSY, ORDERS_PAUSED "its cgroup %s is frozen", cg->path);
	return 0;
}

static int take_exec(struct process *p, const struct agent_frame *f)
{
	const struct process *c = process_find(p->guest, 0);

	if (p->guest->config->service)
		return service_take_exec(p, f);
	if (!c || c->exited || c->failed || c->child.pid <= 0)
		return err_set(ESRCH, "container not running");
	int r = take_orders(p, &p->arena, f);
	if (r < 0)
		return r;
	p->wanted = true;
	return find_cgroup(p, c);
}

void process_exec(struct guest *g, const struct agent_frame *f)
{
	uint32_t number;

	int r = agent_process(f, &number);
	if (r < 0)
		return guest_log(g, "exec: %s", err_msg());
	if (number == 0 || process_find(g, number))
		return guest_log(
			g, "exec: the number %u is used already, expected a new one", number);
	struct process *p = process_new(g, number);
	if (!p)
		return guest_say_failed(g, number, ENOMEM, "out of memory");
	r = take_exec(p, f);
	if (r >= 0)
		r = begin_process(p, f);
	if (r < 0)
		process_fail(p, r);
}
