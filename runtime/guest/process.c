/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: the life of a process. A message makes it, with its plan, its pipes and its
 * streams, and starts the walk (walk.c). INIT's channel then brings
 *
 *	a barrier    the walk goes on from there, and the monitor hears of it
 *	"console"    the terminal, which its stream takes
 *	a failure    the monitor hears it; what is left is to reap the process
 *	the end      INIT became the program; or it died, which its exit status tells
 *
 * Its exit is told once the channel has ended and its output is through. Others may hold its pipes
 * open for ever (a daemon that an exec left behind): then, half a second later, what it wrote
 * itself only is waited for.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <termios.h>

#include "channel.h"
#include "fd.h"
#include "guest.h"
#include "net.h"
#include "net_config.h"

#define OUTPUT_WAIT 500 /* ms */
#define TEXT_MAX SPEC_MAX_SIZE

struct process *process_find(struct guest *g, uint32_t number)
{
	for (struct process *p = g->processes; p; p = p->next)
		if (p->number == number)
			return p;
	return NULL;
}

static void process_free(struct process *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(p->streams); i++)
		stream_end(&p->streams[i]);
	(void)!loop_watch(&p->guest->loop, &p->watch, p->channel, WATCH_NOTHING);
	fd_close(&p->channel);
	for (int i = 0; p->slots && i < p->plan.nslots; i++)
		fd_close(&p->slots[i]);
	for (int i = 0; i < 3; i++)
		fd_close(&p->stdio[i]);
	fd_close(&p->filter);
	fd_close(&p->proc);
	fd_close(&p->cgroup_dir);
	fd_close(&p->slave);
	fd_close(&p->child.pidfd);
	arena_release(&p->arena);
	free(p);
}

static struct process *process_new(struct guest *g, uint32_t number)
{
	struct process *p = calloc(1, sizeof(*p));

	if (!p) {
		err_set(ENOMEM, "out of memory");
		return NULL;
	}
	*p = (struct process){.guest = g,
		.number = number,
		.filter = -EBADF,
		.proc = -EBADF,
		.cgroup_dir = -EBADF,
		.channel = -EBADF,
		.slave = -EBADF,
		.child.pidfd = -EBADF,
		.stdio = {-EBADF, -EBADF, -EBADF}};
	for (size_t i = 0; i < ARRAY_SIZE(p->streams); i++)
		stream_init(&p->streams[i], &g->loop, -EBADF);
	p->next = g->processes;
	g->processes = p;
	return p;
}

static void stop_listening(struct process *p)
{
	(void)!loop_watch(&p->guest->loop, &p->watch, p->channel, WATCH_NOTHING);
	fd_close(&p->channel);
}

static void fail_with(struct process *p, int code, const char *message)
{
	if (!p->failed)
		guest_say_failed(p->guest, p->number, code, message);
	p->failed = true;
	stop_listening(p);
	if (p->child.pid > 0 && !p->exited)
		pidfd_send_signal(p->child.pidfd, SIGKILL, NULL, 0);
	for (size_t i = 0; i < ARRAY_SIZE(p->streams); i++)
		stream_end(&p->streams[i]);
}

void process_fail(struct process *p, int r)
{
	fail_with(p, -r, err_msg());
}

/* It ended without a word, before it was set up. */
static void fail_died(struct process *p)
{
	char text[160];

	if (WIFSIGNALED(p->status))
		snprintf(text, sizeof(text),
			"the container's first process was killed by signal %d (%s) while it was "
			"being set up",
			WTERMSIG(p->status), strsignal(WTERMSIG(p->status)));
	else
		snprintf(text, sizeof(text),
			"the container's first process exited with status %d while it was being "
			"set up",
			WEXITSTATUS(p->status));
	fail_with(p, ESRCH, text);
}

/* --- what INIT says --- */

static void say_running(struct process *p)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	int r = agent_begin(&w, "running");
	if (r < 0)
		return process_fail(p, r);
	json_out_u64(&w.json, "process", p->number);
	json_out_i64(&w.json, "pid", p->child.pid);
	guest_send(p->guest, &w);
}

static void say_reached(struct process *p, const char *barrier)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	int r = agent_begin(&w, "reached");
	if (r < 0)
		return process_fail(p, r);
	json_out_u64(&w.json, "process", p->number);
	json_out_str(&w.json, "barrier", barrier);
	guest_send(p->guest, &w);
}

int process_take_console(struct process *p, int *master)
{
	struct stream *s = &p->streams[AGENT_TERMINAL];

	/* A program such as an init closes its terminal and opens it again: it must not end
	 * meanwhile. */
	fd_close(&p->slave);
	p->slave = ioctl(*master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (p->slave < 0)
		return err_sys("open the terminal's slave side");
	if (s->sock < 0 || s->local >= 0)
		return s->local >= 0 ? err_set(EPROTO, "a second terminal came from INIT") : 0;
	return stream_start(s, take_fd(master), true, true, true);
}

static void on_message(struct process *p, const struct channel_msg *m, int *fd)
{
	int r;

	switch (m->type) {
	case CHANNEL_FAILED:
		return fail_with(p, -m->code, m->text);
	case CHANNEL_FD:
		if (*fd < 0 || !streq(m->text, "console"))
			r = err_set(EPROTO, "unknown descriptor \"%s\" from the first process",
				m->text);
		else
			r = process_take_console(p, fd);
		break;
	default:
		if (!p->awaited || !streq(m->text, p->awaited)) {
			r = err_set(EPROTO, "unexpected \"%s\" from the first process", m->text);
			break;
		}
		p->awaited = NULL;
		p->at++;
		say_reached(p, m->text);
		r = process_walk(p);
	}
	if (r < 0)
		process_fail(p, r);
}

static void on_channel(struct watch *w, uint32_t events)
{
	struct process *p = (struct process *)((char *)w - offsetof(struct process, watch));
	struct channel_msg m;
	_cleanup_fd_ int fd = -EBADF;

	int r = channel_recv(p->channel, &m, &fd);
	if (r < 0)
		return process_fail(p, r);
	if (r > 0)
		return on_message(p, &m, &fd);
	stop_listening(p);
	/* Else it died: its status tells, and comes. */
	if (!p->awaited && p->wanted)
		say_running(p);
}

/* --- messages that make one --- */

static bool json_is(const struct json *facts, const char *name)
{
	const struct json *v = json_get(facts, name);

	return v && v->type == JSON_BOOL && v->boolean;
}

static const char *copy(struct arena *a, const struct json *facts, const char *name)
{
	const char *v = json_get_str(facts, name);

	return v ? arena_strdup(a, v) : NULL;
}

/* The blob: text, then the filter. */
static int split_blob(struct process *p, const struct agent_frame *f, size_t *ret_text)
{
	uint64_t len;

	if (json_get_u64(f->json, "text", &len) < 0 || len == 0 || len > f->blob_len ||
		len > TEXT_MAX)
		return err_set(EPROTO,
			"text of the agent's: expected a length up to that of the blob, %zu",
			f->blob_len);
	*ret_text = len;
	if (len == f->blob_len)
		return 0;
	p->filter = memfd_create("filter", MFD_CLOEXEC);
	if (p->filter < 0)
		return err_sys("make a memfd for the system call filter");
	int r = fd_write_all(p->filter, f->blob + len, f->blob_len - len);
	if (r < 0)
		return err_set(-r, "keep the system call filter: %s", strerror(-r));
	return lseek(p->filter, 0, SEEK_SET) < 0 ? err_sys("rewind the system call filter") : 0;
}

/* The user whose process it is, as the guest's kernel numbers users. */
static uint32_t owner(const struct process *p)
{
	uint32_t uid = p->plan.process ? p->plan.process->user.uid : 0;
	const struct spec_id_maps *maps = &p->spec->uid_mappings;

	for (size_t i = 0; i < maps->n; i++)
		if (uid - maps->v[i].container_id < maps->v[i].size &&
			uid >= maps->v[i].container_id)
			return maps->v[i].host_id + (uid - maps->v[i].container_id);
	return uid;
}

/* So that it can open /dev/stdout. In a user namespace INIT could not give it away. */
static int make_pipe(struct process *p, int stream)
{
	int ends[2];
	bool in = stream == AGENT_STDIN;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	p->stdio[stream] = ends[in ? 0 : 1];
	int r = stream_start(&p->streams[stream], ends[in ? 1 : 0], in, !in, false);
	if (r >= 0 && fchown(p->stdio[stream], owner(p), (gid_t)-1) < 0)
		r = err_sys("give a pipe to the process's user");
	return r;
}

static int open_stream(struct process *p, int stream)
{
	const struct guest_config *c = p->guest->config;
	struct stream *s = &p->streams[stream];

	int sock = c->connect(c->data, AGENT_STREAM_PORT(p->number, stream));
	if (sock < 0)
		return sock;
	stream_init(s, &p->guest->loop, sock);
	return stream == AGENT_TERMINAL ? stream_connect(s) : make_pipe(p, stream);
}

static int open_streams(struct process *p, const struct agent_frame *f)
{
	const struct json *list = json_get(f->json, "stdio");
	unsigned have = 0;

	if (!list || list->type != JSON_ARRAY)
		return err_set(EPROTO, "stdio of the agent's: expected an array");
	for (const struct json *e = list->first; e; e = e->next) {
		uint64_t n;
		if (e->type != JSON_NUMBER || str_to_u64(e->text, &n) < 0 || n > AGENT_TERMINAL ||
			have & 1u << n)
			return err_set(
				EPROTO, "stdio of the agent's: expected 0, 1, 2 or 3, each once");
		have |= 1u << n;
	}
	if (p->plan.terminal ? have != 1u << AGENT_TERMINAL : have >> AGENT_TERMINAL)
		return err_set(EPROTO,
			"stdio of the agent's: expected %s, as process.terminal is %s",
			p->plan.terminal ? "3 alone" : "no 3", p->plan.terminal ? "true" : "false");
	for (int i = 0; i <= AGENT_TERMINAL; i++) {
		int r = have & 1u << i ? open_stream(p, i) : 0;
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

static int begin(struct process *p, const struct agent_frame *f)
{
	p->slots = arena_array(&p->arena, (size_t)p->plan.nslots + 1, sizeof(int));
	if (!p->slots)
		return -ENOMEM;
	for (int i = 0; i < p->plan.nslots; i++)
		p->slots[i] = -EBADF;
	for (size_t i = 0; i < p->plan.n; i++)
		if (p->plan.steps[i].kind == STEP_COMPILE_SECCOMP && p->filter >= 0)
			p->slots[p->plan.steps[i].slot] = take_fd(&p->filter);
	int r = open_streams(p, f);
	p->watch.ready = on_channel;
	return r < 0 ? r : process_walk(p);
}

/* The root is attached where the guest has a place for it: the bundle's path is the host's. */
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

static int build_container(struct process *p, const struct agent_frame *f)
{
	struct guest *g = p->guest;
	const struct json *facts = json_get(f->json, "facts");
	size_t len;
	uint64_t height = 0, width = 0;

	int r = split_blob(p, f, &len);
	if (r >= 0)
		r = spec_parse(&g->arena, (const char *)f->blob, len, "config.json", &g->spec);
	if (r < 0)
		return r;
	/* Absent or nonsense: no size. */
	if (json_get_u64(facts, "console_height", &height) < 0 || height > UINT16_MAX ||
		json_get_u64(facts, "console_width", &width) < 0 || width > UINT16_MAX)
		height = width = 0;
	p->spec = g->spec;
	p->id = copy(&g->arena, facts, "id");
	p->bundle = copy(&g->arena, facts, "bundle");
	struct plan_env env = {
		.isolation = PLAN_VM,
		.bundle = p->bundle,
		.no_pivot = json_is(facts, "no_pivot"),
		.no_new_keyring = json_is(facts, "no_new_keyring"),
		.keyring = copy(&g->arena, facts, "keyring"),
		.console_height = (uint16_t)height,
		.console_width = (uint16_t)width,
		.attached = json_is(facts, "attached"),
		.cgroup = true,
	};
	if (!p->id || !p->bundle || (!env.no_new_keyring && !env.keyring))
		return err_set(EPROTO, "facts of the agent's: expected id, bundle and keyring");
	r = plan_build(&g->arena, g->spec, &env, &p->plan);
	return r < 0 ? r : move_root(p);
}

/* The machine's network is the container's: the host's namespace, carried over. */
static int set_up_network(struct process *p, const struct agent_frame *f)
{
	const struct json *net = json_get(f->json, "net");
	struct net_config c;

	if (!net)
		return net_loopback_up();
	int r = net_config_parse(&p->arena, net, &c);
	return r < 0 ? r : net_config_apply(&c);
}

/* A machine in software has no clock that would know the time of day. */
static void set_clock(struct guest *g, const struct agent_frame *f)
{
	uint64_t now;

	if (g->config->set_clock && json_get_u64(f->json, "time", &now) >= 0)
		g->config->set_clock(g->config->data, now);
}

void process_create(struct guest *g, const struct agent_frame *f)
{
	if (g->spec)
		return guest_say_failed(g, 0, EALREADY, "the guest has its container already");
	struct process *p = process_new(g, 0);
	if (!p)
		return guest_say_failed(g, 0, ENOMEM, "out of memory");
	set_clock(g, f);
	int r = build_container(p, f);
	if (r >= 0)
		r = set_up_network(p, f);
	if (r >= 0)
		r = begin(p, f);
	if (r < 0)
		process_fail(p, r);
}

static int build_exec(struct process *p, const struct agent_frame *f)
{
	const struct process *c = process_find(p->guest, 0);
	const struct json *facts = json_get(f->json, "facts");
	const struct spec_process *process;
	size_t len;

	if (!c || c->exited || c->failed || c->child.pid <= 0)
		return err_set(ESRCH, "container not running");
	int r = split_blob(p, f, &len);
	if (r >= 0)
		r = spec_parse_process(&p->arena, (const char *)f->blob, len, "process", &process);
	if (r < 0)
		return r;
	p->spec = p->guest->spec;
	p->id = c->id;
	p->bundle = c->bundle;
	p->wanted = true;
	struct plan_exec_env env = {
		.isolation = PLAN_VM,
		.spec = p->spec,
		.process = process,
		.no_new_keyring = json_is(facts, "no_new_keyring"),
		.keyring = copy(&p->arena, facts, "keyring"),
	};
	if (!env.no_new_keyring && !env.keyring)
		return err_set(EPROTO, "facts of the agent's: expected keyring");
	struct cgroup cg;
	const char *sub = json_get_str(facts, "cgroup");
	if (sub)
		r = cg_child(&p->arena, &p->guest->cgroup, sub, &cg);
	else if (cg_at_process(&p->arena, &p->guest->cgroup, c->child.pid, &cg) < 0)
		cg = p->guest->cgroup;
	if (r < 0)
		return err_ctx(r, "--cgroup");
	p->cgroup_dir = cg_open(&cg);
	return p->cgroup_dir < 0 ? p->cgroup_dir : plan_build_exec(&p->arena, &env, &p->plan);
}

void process_exec(struct guest *g, const struct agent_frame *f)
{
	uint32_t number;

	int r = agent_process(f, &number);
	if (r < 0)
		return guest_log(g, "exec: %s", err_msg());
	if (number == 0 || process_find(g, number))
		return guest_log(g, "exec: process %u is there already", number);
	struct process *p = process_new(g, number);
	if (!p)
		return guest_say_failed(g, number, ENOMEM, "out of memory");
	r = build_exec(p, f);
	if (r >= 0)
		r = begin(p, f);
	if (r < 0)
		process_fail(p, r);
}

/* --- messages to one --- */

void process_go(struct guest *g, const struct agent_frame *f, const char *barrier)
{
	uint32_t number;

	if (agent_process(f, &number) < 0 || !barrier)
		return guest_log(g, "%s: expected process and barrier", f->type);
	struct process *p = process_find(g, number);
	if (!p || p->channel < 0)
		return; /* it has failed or died meanwhile, which is told */
	if (streq(f->type, "start"))
		p->wanted = true;
	/* One that died will show by the channel's end. */
	if (channel_send(p->channel, CHANNEL_REACHED, 0, barrier, -EBADF) < 0)
		err_clear();
}

void process_resize(struct guest *g, const struct agent_frame *f)
{
	uint64_t rows, columns;
	uint32_t number;

	if (agent_process(f, &number) < 0 || json_get_u64(f->json, "rows", &rows) < 0 ||
		json_get_u64(f->json, "columns", &columns) < 0 || rows > UINT16_MAX ||
		columns > UINT16_MAX)
		return guest_log(g, "resize: expected process, rows and columns");
	struct process *p = process_find(g, number);
	struct winsize size = {.ws_row = (uint16_t)rows, .ws_col = (uint16_t)columns};
	if (p && p->slave >= 0)
		ioctl(p->slave, TIOCSWINSZ, &size);
}

/* --- the end --- */

void process_reaped(struct guest *g, pid_t pid, int status)
{
	for (struct process *p = g->processes; p; p = p->next) {
		if (p->child.pid != pid || p->exited)
			continue;
		p->exited = true;
		p->status = status;
		p->deadline = guest_now() + OUTPUT_WAIT;
		fd_close(&p->slave);
		for (size_t i = 0; i < ARRAY_SIZE(p->streams); i++)
			stream_count_owed(&p->streams[i]);
		return;
	}
}

static bool has_output(const struct process *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(p->streams); i++)
		if (stream_has_output(&p->streams[i]))
			return true;
	return false;
}

static bool is_paid(const struct process *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(p->streams); i++)
		if (!stream_paid(&p->streams[i]))
			return false;
	return true;
}

static void say_exited(struct process *p)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	p->told = true;
	/* The container's namespaces are gone with it: nothing more will be written. */
	if (p->number == 0)
		sync();
	if (agent_begin(&w, "exited") < 0)
		return;
	json_out_u64(&w.json, "process", p->number);
	json_out_i64(&w.json, "status", p->status);
	guest_send(p->guest, &w);
}

/* Milliseconds until it is due, or -1 where an event will tell; 0: it has been told of. */
static int settle(struct process *p, int64_t now)
{
	if (!p->exited || p->told || p->failed)
		return -1;
	/* It may have sent why it fails just before. */
	if (p->channel >= 0)
		return -1;
	if (p->awaited) {
		fail_died(p);
		return 0;
	}
	if (!has_output(p) || (now >= p->deadline && is_paid(p))) {
		say_exited(p);
		return 0;
	}
	return now < p->deadline ? (int)(p->deadline - now) : -1;
}

/* Nothing more will come of it or has to be reaped. */
static bool is_done(const struct process *p)
{
	if (p->failed)
		return p->exited || p->child.pid <= 0;
	return p->told && !has_output(p);
}

int processes_settle(struct guest *g)
{
	int64_t now = guest_now();
	int timeout = -1;

	for (struct process **at = &g->processes; *at;) {
		struct process *p = *at;
		int due = settle(p, now);
		if (due > 0 && (timeout < 0 || due < timeout))
			timeout = due;
		if (!is_done(p)) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		process_free(p);
	}
	return timeout;
}

void processes_release(struct guest *g)
{
	for (struct process *p; (p = g->processes);) {
		g->processes = p->next;
		process_free(p);
	}
}
