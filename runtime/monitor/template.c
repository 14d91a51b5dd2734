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
 * A template has no late devices (machine_options.late), so that it serves machines with any. The
 * machine of which it is made boots without its late devices too. A machine gets them in spare
 * slots (vm/hotplug.h), before it runs or after it was saved, and the message "create" tells the
 * agent of the slots.
 *
 * The first machine that starts from a template records which pages of its memory it has touched
 * when its container is created, into another file (monitor/template_pages.h). Later machines get
 * these pages before they run.
 *
 * If a template cannot be used or made, the machine boots as it would without one. This holds too
 * for a template that KVM or a device refuses to load: the engine has released the machine by then,
 * and makes another one on the same connection to the file server. The file server drops what it
 * has loaded of the template when the guest sends FUSE_INIT.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/hash.h"
#include "base/log.h"
#include "images/guest/cache.h"
#include "monitor/monitor_internal.h"

#define BOOT_ID "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_MAX 64
#define PAGEMAP "/proc/self/pagemap"
#define FORMAT 1 /* has to be increased when the key or the contents of a template change */

static uint32_t short_hash(uint64_t hash)
{
	return (uint32_t)(hash ^ hash >> 32);
}

static uint64_t hash_text(uint64_t seed, const char *text)
{
	return hash_add(seed, text, strlen(text) + 1);
}

/* Writes the part of the key that the boot of the host and the files of the machine decide. */
static int write_files(const struct guest_kernel *kernel, struct template_key *k)
{
	struct strbuf *text = &k->text;
	struct stat self, file;
	char path[PATH_MAX];

	int r = fd_read_file(AT_FDCWD, BOOT_ID, text, BOOT_ID_MAX);
	if (r < 0)
		return r;
	k->boot = short_hash(hash_add(HASH_START, text->s, text->len));
	const size_t begin = text->len;
	const ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	path[n < 0 ? 0 : n] = '\0';
	if (stat("/proc/self/exe", &self) < 0)
		return err_sys("read the identity of caisson");
	if (fstat(kernel->kernel, &file) < 0)
		return err_sys("read the identity of the kernel");
	r = cache_key_stat(text, "caisson", &self);
	if (r >= 0)
		r = cache_key_stat(text, "kernel", &file);
	if (r < 0)
		return r;
	k->files = short_hash(hash_text(hash_text(HASH_START, path), kernel->path));
	k->build = short_hash(hash_add(HASH_START, text->s + begin, text->len - begin));
	if (fstat(kernel->initramfs, &file) < 0)
		return err_sys("read the identity of the initramfs");
	return cache_key_stat(text, "initramfs", &file);
}

/*
 * Writes the key of the machine's template. The host's boot id stands for the host's kernel and its
 * CPUs, and the program's file for all that a new version of caisson may change.
 */
static int write_key(const struct engine_description *d, const struct guest_kernel *kernel,
	struct template_key *key)
{
	const struct machine_config *c = d->config;
	int r = write_files(kernel, key);

	if (r >= 0)
		r = strbuf_addf(&key->text, "template %d, machine %d, snapshot %d\n", FORMAT,
			MACHINE_ABI, SNAPSHOT_FORMAT);
	if (r >= 0)
		r = strbuf_addf(&key->text,
			"memory %llu + %llu, cpus %u, shares %d\n%s\nqueues of interfaces:",
			(unsigned long long)c->memory, (unsigned long long)c->hot_memory,
			c->max_cpus, d->share >= 0, d->cmdline);
	for (size_t i = 0; r >= 0 && i < d->nnics; i++)
		if (!d->nics[i].backend)
			r = strbuf_addf(&key->text, " %u", d->nics[i].queues);
	return r;
}

/* Says whether the machine can have a template. */
static bool is_possible(const struct monitor *m, const struct engine_description *d)
{
	const struct machine_config *c = d->config;

	return c->template != TEMPLATE_OFF && c->cache && c->hypervisor == HYPERVISOR_KVM &&
	       !c->foreign && !c->nested && !m->a->restore && d->seed < 0;
}

/* Looks for the pages that a machine of the template touches first. */
static void find_pages(struct monitor *m, struct engine_description *d, int cache)
{
	struct template *t = &m->template;
	int r = template_pages_open(cache, &t->found, d->config->memory, &t->pages);

	if (r < 0 && r != -ENOENT)
		log_debug("microvm: %s: the pages are recorded again", err_msg());
	if (r >= 0)
		log_debug("microvm: prefetches %zu runs of pages", t->pages.n);
	err_clear();
	d->prefetch = t->pages.runs;
	d->prefetch_count = t->pages.n;
}

static void use(struct monitor *m, struct engine_description *d, int cache)
{
	struct template *t = &m->template;

	log_debug("microvm: starts from a template");
	t->step = TEMPLATE_USED;
	find_pages(m, d, cache);
	d->late = true;
	m->streams.agent_port = t->found.owner.agent_port;
	d->snapshot = &t->found.snapshot;
	d->snapshot_memory = t->found.fd;
	d->snapshot_trusted = true;
}

static int find_or_make(
	struct monitor *m, struct engine_description *d, const struct template_key *key)
{
	struct template *t = &m->template;
	const uint64_t memory = d->config->memory;
	_cleanup_fd_ int cache = cache_open(d->config->cache);
	int r = -ENOENT;

	if (cache < 0)
		return cache;
	if (d->config->template != TEMPLATE_REFRESH && !t->failed)
		r = template_open(cache, key, memory, &t->found);
	if (r >= 0) {
		use(m, d, cache);
		return 0;
	}
	if (r != -ENOENT)
		log_warn("%s: the microVM boots, and the template is made again", err_msg());
	t->agent_port = streams_new_port();
	r = template_make(cache, key, memory, t->agent_port, &t->new);
	if (r < 0)
		return r;
	t->step = TEMPLATE_WANTED;
	d->late = true;
	return 0;
}

int template_choose(
	struct monitor *m, struct engine_description *d, const struct guest_kernel *kernel)
{
	struct template_key key = {0};

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
	strbuf_release(&key.text);
	err_clear();
	return 0;
}

/*
 * Makes the machine without its template, which is called `name`, after a start from the template
 * has failed. *why is the error message of that start. If this start succeeds, the fault was in the
 * template, which is removed, and a new one is made of the machine. If it fails too, the fault is
 * elsewhere, such as in a disk, and the template stays for other machines.
 */
static int boot_instead(struct monitor *m, struct engine_description *d,
	const struct guest_kernel *kernel, const char *why)
{
	struct template *t = &m->template;
	_cleanup_fd_ int cache = cache_open(d->config->cache);
	char name[CACHE_NAME_SIZE];

	memcpy(name, t->found.name, sizeof(name));
	template_release(&t->found);
	t->step = TEMPLATE_UNUSED;
	t->failed = true;
	m->streams.agent_port = 0;
	d->snapshot = NULL;
	d->snapshot_memory = -EBADF;
	d->snapshot_trusted = d->late = false;
	d->owned = true;
	d->prefetch_count = 0;
	int r = template_choose(m, d, kernel);
	if (r >= 0)
		r = engine_start(&m->engine, d);
	if (r < 0)
		return r;
	log_warn("the template %s: %s: the microVM boots, and the template is made again "
		 "(--template off does without it)",
		name, why);
	if (cache < 0 || (unlinkat(cache, name, 0) < 0 && errno != ENOENT))
		log_warn("the template %s cannot be removed from %s", name, d->config->cache);
	err_clear();
	return 0;
}

/*
 * Begins the record of the machine's pages, before the monitor enters its jail. An error is only
 * logged: another process that records pages at this time is the usual reason.
 */
static void begin_record(struct monitor *m, const struct engine_description *d)
{
	struct template *t = &m->template;
	_cleanup_fd_ int cache = cache_open(d->config->cache);
	int r = cache < 0 ? cache : template_pages_make(cache, &t->found, &t->record);

	if (r >= 0) {
		t->pagemap = open(PAGEMAP, O_RDONLY | O_CLOEXEC);
		r = t->pagemap < 0 ? err_sys("open " PAGEMAP) : 0;
	}
	if (r >= 0)
		return;
	log_debug("microvm: its pages are not recorded: %s", err_msg());
	err_clear();
	template_abandon(&t->record);
}

void template_on_created(struct monitor *m)
{
	struct template *t = &m->template;
	_cleanup_free_ struct vm_page_run *runs = NULL;

	if (!m->engine.maps_snapshot || t->pagemap < 0)
		return;
	runs = calloc(TEMPLATE_RUNS_MAX, sizeof(*runs));
	int n = runs ? engine_record_pages(&m->engine, t->pagemap, runs, TEMPLATE_RUNS_MAX)
		     : -ENOMEM;
	int r = n < 0 ? n : template_pages_write(&t->record, &t->found.owner, runs, (size_t)n);
	if (r < 0)
		log_debug("microvm: its pages are not recorded: %s", err_msg());
	else
		log_debug("microvm: %d runs of pages are recorded", n);
	err_clear();
	fd_close(&t->pagemap);
	template_abandon(&t->record);
}

void template_end(struct monitor *m)
{
	template_abandon(&m->template.new);
	template_abandon(&m->template.record);
	fd_close(&m->template.pagemap);
}

int template_start(
	struct monitor *m, struct engine_description *d, const struct guest_kernel *kernel)
{
	struct template *t = &m->template;
	char why[ERR_MAX];
	int r = engine_start(&m->engine, d);

	if (r >= 0 && m->engine.maps_snapshot && t->step == TEMPLATE_USED && !t->pages.runs)
		begin_record(m, d);
	template_pages_release(&t->pages);
	if (r >= 0 || t->step != TEMPLATE_USED)
		return r;
	snprintf(why, sizeof(why), "%s", err_msg());
	return boot_instead(m, d, kernel, why);
}

bool template_under_way(const struct monitor *m)
{
	return m->template.step >= TEMPLATE_SUSPENDING;
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

/* Lets the agent make the container. */
static int create(struct monitor *m)
{
	m->template.step = TEMPLATE_UNUSED;
	int r = monitor_send_create(m);
	/* The agent has dropped the size that on_hello() sent, because it had no process then. */
	return r < 0 ? r : monitor_send_size(m);
}

/*
 * Gives up the template if r is an error. Lets the agent make the container, once the machine has
 * its late devices.
 */
static int end(struct monitor *m, int r)
{
	if (r < 0)
		log_notice("the microVM's template could not be made: %s", err_msg());
	template_abandon(&m->template.new);
	if (!m->engine.late_count)
		return create(m);
	m->template.step = TEMPLATE_PLACING;
	return engine_place_late(&m->engine);
}

int template_on_changed(struct monitor *m)
{
	if (m->template.step != TEMPLATE_PLACING)
		return 0;
	int r = engine_changed(&m->engine);
	if (r >= 0)
		r = create(m);
	return r < 0 ? r : 1;
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
	pid_t *const pids[] = {&m->template.new.pid, &m->template.record.pid};

	for (size_t i = 0; i < ARRAY_SIZE(pids); i++)
		if (*pids[i] > 0 && waitpid(*pids[i], NULL, WNOHANG) == *pids[i])
			*pids[i] = 0;
}
