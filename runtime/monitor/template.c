/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts machines from templates, and makes templates.
 *
 * Theory of operation. A template is a snapshot of a machine in which the agent has sent "hello"
 * and waits for "create". Nothing of a container is in it yet, so it serves every container whose
 * machine is the same (write_key()). It is made of an ordinary machine, on its way to its first
 * container:
 *
 * 	1. The agent suspends (guest/suspend.c), after "hello".
 * 	2. The engine pauses the machine and writes it to a file of the cache, which was opened
 * 	   before the monitor entered its jail (monitor/template_file.h).
 * 	3. The machine goes on. The keeper, a process outside of the jail, gives the file its name.
 *
 * In both, the machine of which the template was made and one that starts from the template, the
 * agent gets "resume" before "create", with the time and with random bytes. The guest's kernel
 * derives its random numbers from these bytes at once, so no two machines draw the same ones. While
 * the agent is suspended, no driver has the network devices, so each machine's driver reads that
 * machine's addresses (guest/nics.c).
 *
 * If a template cannot be used or made, the machine boots as it would without one.
 */
#include <stdio.h>
#include <sys/wait.h>

#include "base/log.h"
#include "images/guest/cache.h"
#include "monitor/monitor_internal.h"

#define BOOT_ID "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_MAX 64
#define FORMAT 1 /* has to be increased when the key or the contents of a template change */

static int add_file(struct strbuf *key, const char *name, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys("read the identity of the %s", name);
	return cache_key_stat(key, name, &st);
}

/*
 * Writes the key of the machine's template. The host's boot id stands for the host's kernel and its
 * CPUs, and the program's file for all that a new version of caisson may change.
 */
static int write_key(
	const struct engine_description *d, const struct guest_kernel *kernel, struct strbuf *key)
{
	const struct machine_config *c = d->config;
	struct stat self;

	int r = strbuf_addf(key, "template %d, machine %d, snapshot %d, boot ", FORMAT, MACHINE_ABI,
		SNAPSHOT_FORMAT);
	if (r >= 0)
		r = fd_read_file(AT_FDCWD, BOOT_ID, key, key->len + BOOT_ID_MAX);
	if (r >= 0 && stat("/proc/self/exe", &self) < 0)
		r = err_sys("read the identity of caisson");
	if (r >= 0)
		r = cache_key_stat(key, "caisson", &self);
	if (r >= 0)
		r = add_file(key, "kernel", kernel->kernel);
	if (r >= 0)
		r = add_file(key, "initramfs", kernel->initramfs);
	if (r >= 0)
		r = strbuf_addf(key, "memory %llu, cpus %u, shares %d\n%s\nqueues of interfaces:",
			(unsigned long long)c->memory, c->cpus, d->share >= 0, d->cmdline);
	for (size_t i = 0; r >= 0 && i < d->nnics; i++)
		r = strbuf_addf(key, " %u", d->nics[i].queues);
	return r;
}

static bool has_remote_nic(const struct engine_description *d)
{
	for (size_t i = 0; i < d->nnics; i++)
		if (d->nics[i].backend)
			return true;
	return false;
}

/*
 * Says whether the machine can have a template. The kernel reads from its disks when it boots, and
 * what it has read would be in the template, so a machine with disks boots. Guest memory of a
 * template is private, so a machine boots too if a process other than the file server serves one of
 * its devices.
 */
static bool is_possible(const struct monitor *m, const struct engine_description *d)
{
	const struct machine_config *c = d->config;

	return c->template != TEMPLATE_OFF && c->cache && c->hypervisor == HYPERVISOR_KVM &&
	       !c->foreign && !c->nested && !m->a->restore && d->nbackends == 0 && d->image < 0 &&
	       d->seed < 0 && !has_remote_nic(d);
}

static void use(struct monitor *m, struct engine_description *d)
{
	struct template *t = &m->template;

	log_debug("microvm: starts from a template");
	t->step = TEMPLATE_USED;
	m->streams.agent_port = t->found.owner.agent_port;
	d->snapshot = &t->found.snapshot;
	d->snapshot_memory = t->found.fd;
	d->snapshot_trusted = true;
}

static int find_or_make(struct monitor *m, struct engine_description *d, const struct strbuf *key)
{
	struct template *t = &m->template;
	const uint64_t memory = d->config->memory;
	_cleanup_fd_ int cache = cache_open(d->config->cache);
	int r = -ENOENT;

	if (cache < 0)
		return cache;
	if (d->config->template != TEMPLATE_REFRESH)
		r = template_open(cache, key, memory, &t->found);
	if (r >= 0) {
		use(m, d);
		return 0;
	}
	if (r != -ENOENT)
		log_warn("%s: the microVM boots, and the template is made again", err_msg());
	t->agent_port = streams_new_port();
	r = template_make(cache, key, memory, t->agent_port, &t->new);
	if (r < 0)
		return r;
	t->step = TEMPLATE_WANTED;
	return 0;
}

int template_choose(
	struct monitor *m, struct engine_description *d, const struct guest_kernel *kernel)
{
	_cleanup_strbuf_ struct strbuf key = {0};

	if (!is_possible(m, d))
		return 0;
	int r = write_key(d, kernel, &key);
	if (r >= 0)
		r = find_or_make(m, d, &key);
	/*
	 * An error is only logged, because the machine can boot. Another process that makes a
	 * template at this time is the usual reason.
	 */
	if (r < 0)
		log_debug("microvm: no template: cache %s: %s", d->config->cache, err_msg());
	err_clear();
	return 0;
}

int template_failed(struct monitor *m, int r)
{
	const struct template *t = &m->template;
	char why[ERR_MAX];

	if (t->step != TEMPLATE_USED)
		return r;
	snprintf(why, sizeof(why), "%s", err_msg());
	_cleanup_fd_ int cache = cache_open(m->a->machine->cache);
	if (cache < 0 || unlinkat(cache, t->found.name, 0) < 0)
		return err_set(-r, "%s (--template off does without %s)", why, t->found.name);
	return err_set(-r, "%s (the template %s was removed: try again)", why, t->found.name);
}

bool template_under_way(const struct monitor *m)
{
	return m->template.step == TEMPLATE_SUSPENDING || m->template.step == TEMPLATE_SAVING;
}

int template_on_hello(struct monitor *m, bool suspended)
{
	struct template *t = &m->template;

	if (suspended != (t->step == TEMPLATE_USED))
		return err_set(EPROTO, "the guest's agent %s suspended",
			suspended ? "was unexpectedly" : "was not");
	if (t->step == TEMPLATE_USED)
		return checkpoint_send_resume(m, true, false);
	if (t->step != TEMPLATE_WANTED)
		return 0;
	t->step = TEMPLATE_SUSPENDING;
	t->request = ++m->next_request;
	int r = checkpoint_send_suspend(m, t->request, t->agent_port);
	return r < 0 ? r : 1;
}

/* Gives up the template if r is an error, and lets the agent make the container. */
static int end(struct monitor *m, int r)
{
	if (r < 0)
		log_notice("the microVM's template could not be made: %s", err_msg());
	m->template.step = TEMPLATE_UNUSED;
	template_abandon(&m->template.new);
	r = monitor_send_create(m);
	/* The agent has dropped the size that on_hello() sent, because it had no process then. */
	return r < 0 ? r : monitor_send_size(m);
}

/* Lets the agent, which has suspended, go on. */
static int go_on(struct monitor *m, int r)
{
	int sent = checkpoint_send_resume(m, true, false);

	return sent < 0 ? sent : end(m, r);
}

/* Begins to save the machine, whose agent has suspended. */
static int save(struct monitor *m)
{
	struct template *t = &m->template;

	t->save = (struct engine_save){.state = t->new.fd,
		.memory = t->new.fd,
		.owner = t->new.owner.s,
		.owner_len = t->new.owner.len};
	int r = engine_save(&m->engine, &t->save);
	t->step = TEMPLATE_SAVING;
	return r < 0 ? go_on(m, r) : 0;
}

int template_on_reply(struct monitor *m, uint64_t id, const struct agent_frame *f)
{
	const struct template *t = &m->template;

	if (t->step != TEMPLATE_SUSPENDING || id != t->request)
		return 0;
	int r = agent_failure(f);
	r = r < 0 ? end(m, r) : save(m);
	return r < 0 ? r : 1;
}

int template_on_saved(struct monitor *m)
{
	struct template *t = &m->template;

	int r = engine_saved(&m->engine);
	if (r >= 0 && write(t->new.keeper, "", 1) < 0)
		r = err_sys("tell the process that keeps it");
	engine_go_on(&m->engine);
	log_debug("microvm: the template is written");
	return go_on(m, r);
}

void template_reap(struct monitor *m)
{
	pid_t *pid = &m->template.new.pid;

	if (*pid > 0 && waitpid(*pid, NULL, WNOHANG) == *pid)
		*pid = 0;
}
