/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the built-in machine (runtime/vm) in threads of the monitor: one for the devices, and one
 * for each vCPU.
 */
#include "engine/kvm_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "base/fd.h"
#include "base/log.h"
#include "engine/disk_server.h"
#include "engine/share.h"
#include "engine/streams.h"
#include "machine/image.h"

/*
 * How long, in ms, the vsock device goes on after the guest has ended, so that a program that reads
 * the guest's output slowly still gets all of it.
 */
#define DRAIN_MS 10000

/* Notes that vm.image holds requests. The devices' thread calls this. */
static void on_held(void *ctx, int error, bool write)
{
	struct engine *e = ctx;
	struct kvm_engine *k = e->state;

	atomic_store(&k->held, write ? error : -error);
	eventfd_write(e->events, 1);
}

/*
 * Notes that a program of the guest has opened or closed its port. The devices' thread calls this.
 */
static void on_port(void *ctx)
{
	struct engine *e = ctx;
	struct kvm_engine *k = e->state;

	atomic_store(&k->port_changed, true);
	eventfd_write(e->events, 1);
}

static bool kvm_guest_agent_is_open(const struct engine *e)
{
	const struct kvm_engine *k = e->state;

	return k->machine.has_port && virtio_port_is_open(&k->machine.port);
}

static int kvm_next_event(struct engine *e, struct engine_event *ret)
{
	struct kvm_engine *k = e->state;
	eventfd_t n;

	(void)eventfd_read(e->events, &n);
	*ret = (struct engine_event){.kind = ENGINE_DISK_RESIZED};
	if (atomic_exchange(&k->resized, false)) {
		ret->error = k->resize.r < 0 ? -k->resize.r : 0;
		snprintf(ret->why, sizeof(ret->why), "%.*s", BLK_WHY_MAX - 1, k->resize.why);
		return 1;
	}
	*ret = (struct engine_event){.kind = ENGINE_GUEST_AGENT};
	if (atomic_exchange(&k->port_changed, false))
		return 1;
	int error = atomic_exchange(&k->held, 0);
	*ret = (struct engine_event){
		.kind = ENGINE_DISK_HELD, .error = abs(error), .write = error > 0};
	return error != 0;
}

static void pause_now(struct machine *m, void *ctx)
{
	machine_pause(m);
}

static void retry_now(struct machine *m, void *ctx)
{
	machine_retry(m);
}

/*
 * Pausing and resuming are calls like a snapshot's and a device's, which pause and resume the vCPUs
 * too, so that they happen in the order in which the monitor has asked for them.
 */
static int kvm_pause(struct engine *e)
{
	struct kvm_engine *k = e->state;

	machine_call(&k->machine, pause_now, NULL);
	return 0;
}

static int kvm_retry(struct engine *e)
{
	struct kvm_engine *k = e->state;

	machine_call(&k->machine, retry_now, NULL);
	return 0;
}

static void resize_now(struct machine *m, void *ctx)
{
	struct engine *e = ctx;
	struct kvm_engine *k = e->state;

	kvm_note(&k->resize, machine_resize_disk(m, k->size));
	atomic_store(&k->resized, true);
	eventfd_write(e->events, 1);
}

static int kvm_resize_disk(struct engine *e, uint64_t size)
{
	struct kvm_engine *k = e->state;

	k->size = size;
	machine_call(&k->machine, resize_now, e);
	return 0;
}

static int kvm_set_balloon(struct engine *e, uint64_t bytes)
{
	struct kvm_engine *k = e->state;

	virtio_balloon_set_target(&k->machine.balloon, (uint32_t)(bytes / VIRTIO_BALLOON_PAGE));
	return 0;
}

static void kvm_get_balloon(struct engine *e, struct engine_balloon *ret)
{
	struct virtio_balloon *b = &((struct kvm_engine *)e->state)->machine.balloon;

	ret->wanted = (uint64_t)virtio_balloon_target(b) * VIRTIO_BALLOON_PAGE;
	ret->given = (uint64_t)virtio_balloon_actual(b) * VIRTIO_BALLOON_PAGE;
}

static void kvm_request_memory(struct engine *e, uint64_t bytes)
{
	struct kvm_engine *k = e->state;

	if (k->machine.mem.dev.ops)
		virtio_mem_request(&k->machine.mem, bytes);
}

static void kvm_get_memory(struct engine *e, struct engine_hot_memory *ret)
{
	struct kvm_engine *k = e->state;

	if (k->machine.mem.dev.ops)
		virtio_mem_read(&k->machine.mem, &ret->requested, &ret->plugged);
}

static int kvm_record_pages(struct engine *e, int pagemap, struct vm_page_run *runs, size_t max)
{
	const struct kvm_engine *k = e->state;

	return vm_pages_record(&k->machine.memory, pagemap, runs, max);
}

static int enter_vcpu(void *ctx)
{
	const struct engine *e = ctx;

	return jail_enter_thread(e->jail, JAIL_VCPU);
}

static void *devices_thread(void *arg)
{
	struct engine *e = arg;
	struct kvm_engine *k = e->state;

	int r = jail_enter_thread(e->jail, JAIL_DEVICES);
	if (r >= 0)
		r = machine_run(&k->machine);
	kvm_note(&k->run, r);
	/*
	 * The devices' thread waits here until the program that reads the guest's output has read
	 * all of it.
	 */
	if (virtio_vsock_drain(&k->machine.vsock, DRAIN_MS) < 0)
		log_warn("%s", err_msg());
	eventfd_write(e->ended, 1);
	return NULL;
}

/*
 * Sorts the interfaces into those with a tap and the one with a vhost-user server. Returns the
 * number of interfaces with a tap. If no interface has a vhost-user server, remote->peer stays
 * NULL.
 */
static size_t sort_nics(const struct engine_description *d, struct virtio_net_options *taps,
	struct virtio_net_remote_options *remote)
{
	size_t ntaps = 0;

	for (size_t i = 0; i < d->nnics; i++) {
		const struct engine_nic *n = &d->nics[i];
		if (n->backend) {
			*remote = (struct virtio_net_remote_options){.sock = n->fd,
				.peer = n->backend,
				.mtu = (uint16_t)n->mtu,
				.owned = d->owned};
			memcpy(remote->mac, n->mac, sizeof(n->mac));
			continue;
		}
		taps[ntaps] = (struct virtio_net_options){.pairs = n->queues,
			.in_kernel = n->vhost != NULL,
			.mtu = (uint16_t)n->mtu,
			.offloads = n->offloads};
		memcpy(taps[ntaps].taps, n->taps, n->queues * sizeof(*n->taps));
		if (n->vhost)
			memcpy(taps[ntaps].vhost, n->vhost, n->queues * sizeof(*n->vhost));
		memcpy(taps[ntaps++].mac, n->mac, sizeof(n->mac));
	}
	return ntaps;
}

/*
 * Returns how many spare slots the machine gets, if it has `others` devices besides those that
 * every machine has. Each slot needs an interrupt line of its own.
 */
static unsigned count_spares(size_t others)
{
	const size_t used = MACHINE_DEVICES_OWN - 1 + others;
	const size_t left = used < MACHINE_LINES ? MACHINE_LINES - used : 0;

	return left < MACHINE_SPARES_MAX ? (unsigned)left : MACHINE_SPARES_MAX;
}

/*
 * Lists the disks: vm.image, then those of vhost-user servers, then a foreign guest's second disk.
 * Returns their number.
 */
static size_t list_disks(
	struct engine *e, const struct engine_description *d, struct machine_disk *ret)
{
	const struct kvm_engine *k = e->state;
	const struct machine_config *c = d->config;
	size_t n = 0;

	if (k->image >= 0)
		ret[n++] = (struct machine_disk){.fd = k->image,
			.read_only = c->image_read_only,
			.write_through = c->image_write_through,
			.serial = machine_image_serial(c),
			.errors = {c->image_werror, c->image_rerror, on_held, e}};
	for (size_t i = 0; i < d->nbackends; i++) {
		const struct engine_backend *b = &d->backends[i];

		if (!b->tag)
			ret[n++] = (struct machine_disk){.fd = b->sock,
				.remote = true,
				.peer = b->field,
				.reconnect = b->reconnect,
				.queues = b->queues,
				.owned = d->owned};
	}
	if (k->seed >= 0)
		ret[n++] = (struct machine_disk){
			.fd = k->seed, .read_only = true, .serial = ENGINE_SEED_SERIAL};
	return n;
}

static int build_machine(struct engine *e, const struct engine_description *d)
{
	struct kvm_engine *k = e->state;
	const struct machine_config *c = d->config;
	const struct virtio_vsock_options vsock = {.cid = GUEST_CID,
		.event_queue = true,
		.connect = streams_on_connect,
		.closed = streams_on_closed,
		.ctx = d->streams};
	struct machine_share shares[1 + ENGINE_BACKENDS_MAX];
	struct machine_disk disks[2 + ENGINE_BACKENDS_MAX];
	size_t nshares = 0;
	struct virtio_net_options nics[ENGINE_NICS_MAX];
	struct virtio_net_remote_options remote = {0};

	if (d->share >= 0)
		shares[nshares++] = (struct machine_share){
			.tag = SHARE_TAG, .sock = d->share, .owned = d->owned};
	for (size_t i = 0; i < d->nbackends; i++)
		if (d->backends[i].tag)
			shares[nshares++] = (struct machine_share){.tag = d->backends[i].tag,
				.sock = d->backends[i].sock,
				.peer = d->backends[i].field,
				.owned = d->owned};
	const struct virtio_port_options port = {.name = ENGINE_GUEST_AGENT_PORT,
		.sock = k->guest_agent,
		.changed = on_port,
		.ctx = e};
	const size_t ndisks = list_disks(e, d, disks);
	const size_t nnics = sort_nics(d, nics, &remote);
	const size_t remote_shares = nshares - (d->share >= 0);
	const size_t late = ndisks + remote_shares + (remote.peer != NULL);
	const size_t all = ndisks + nshares + d->nnics + !!c->hot_memory;
	const struct machine_options o = {
		.kvm = "/dev/kvm",
		.memory = {.size = c->memory,
			.hot = c->hot_memory,
			.pages = c->pages,
			.mergeable = c->mergeable},
		.cpus = c->max_cpus,
		.nested = c->nested,
		.kernel = d->kernel,
		.initramfs = d->initramfs,
		.cmdline = d->cmdline,
		.console_in = c->foreign ? k->log : -EBADF,
		.console_out = k->log,
		.serial = c->foreign,
		.port = k->guest_agent >= 0 ? &port : NULL,
		.disks = disks,
		.disk_count = ndisks,
		.late = d->late,
		.shares = shares,
		.share_count = nshares,
		.nics = nics,
		.nic_count = nnics,
		.remote_nic = remote.peer ? &remote : NULL,
		.vsock = &vsock,
		.power_button = c->foreign,
		.balloon = true,
		.spares = c->foreign ? 0 : count_spares(d->late ? all - late : all),
		.snapshot = d->snapshot,
		.snapshot_memory = d->snapshot_memory,
		.snapshot_trusted = d->snapshot_trusted,
		.prefetch = d->prefetch,
		.prefetch_count = d->prefetch_count,
		.enter_vcpu = enter_vcpu,
		.enter_ctx = e,
	};

	d->streams->device = &k->machine.vsock;
	int r = machine_build(&k->machine, &o);
	k->built = r >= 0;
	e->late_count = d->late ? late : 0;
	e->maps_snapshot = r >= 0 && k->machine.memory.mapped;
	/* A machine of which a template is made gets its late devices by kvm_place_late(). */
	if (r >= 0 && d->late && d->snapshot)
		r = machine_place_late(&k->machine, e->late_slots);
	return r;
}

static int kvm_start(struct engine *e, const struct engine_description *d)
{
	struct kvm_engine *k = calloc(1, sizeof(*k));

	e->state = k;
	if (!k)
		return -ENOMEM;
	k->log = k->image = k->seed = k->guest_agent = -EBADF;
	k->foreign = d->config->foreign;
	e->ended = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e->save_done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e->change_done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e->events = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (e->ended < 0 || e->save_done < 0 || e->change_done < 0 || e->events < 0)
		return err_sys("create an eventfd");
	k->log = fcntl(d->log, F_DUPFD_CLOEXEC, 3);
	if (k->log >= 0 && d->image >= 0)
		k->image = fcntl(d->image, F_DUPFD_CLOEXEC, 3);
	if (k->log >= 0 && d->seed >= 0)
		k->seed = fcntl(d->seed, F_DUPFD_CLOEXEC, 3);
	if (k->log >= 0 && d->guest_agent >= 0)
		k->guest_agent = fcntl(d->guest_agent, F_DUPFD_CLOEXEC, 3);
	if (k->log < 0 || (d->image >= 0 && k->image < 0) || (d->seed >= 0 && k->seed < 0) ||
		(d->guest_agent >= 0 && k->guest_agent < 0))
		return err_sys("duplicate the machine's descriptors");
	return build_machine(e, d);
}

static int kvm_run(struct engine *e)
{
	struct kvm_engine *k = e->state;

	/*
	 * This thread starts the vCPUs' threads, because threads that the devices' thread started
	 * would inherit the system call filter of the devices' thread, which forbids KVM_RUN.
	 */
	int r = machine_start(&k->machine);
	if (r < 0)
		return r;
	r = pthread_create(&k->thread, NULL, devices_thread, e);
	k->has_thread = r == 0;
	return r ? err_set(r, "start the machine's thread: %s", strerror(r)) : 0;
}

static int kvm_result(struct engine *e)
{
	struct kvm_engine *k = e->state;
	char why[sizeof(k->machine.cpus.why)];

	pthread_join(k->thread, NULL);
	k->has_thread = false;
	int r = kvm_outcome(&k->run);
	if (r < 0)
		return r;
	if (r == VM_END_POWEROFF || r == VM_END_STOPPED)
		return 0;
	/* If a foreign guest reboots, the machine ends, as QEMU ends it by -no-reboot. */
	if (k->foreign && r == VM_END_RESET)
		return 0;
	/*
	 * str_quote_end() makes one line of the text that says why the machine failed, because that
	 * text may have several lines (a dump of the registers), and an error message has one line.
	 */
	str_quote_end(why, sizeof(why), k->machine.cpus.why, strlen(k->machine.cpus.why));
	return err_set(r == VM_END_LOST ? EPIPE : EIO, "%s", *why ? why : "it reset itself");
}

static void kvm_stop(struct engine *e)
{
	struct kvm_engine *k = e->state;

	if (!k)
		return;
	if (k->has_thread) {
		vcpus_end(&k->machine.cpus, VM_END_STOPPED, "stopped");
		machine_cut(&k->machine);
		pthread_join(k->thread, NULL);
	}
	if (k->built)
		machine_release(&k->machine);
	fd_close(&k->log);
	fd_close(&k->image);
	fd_close(&k->seed);
	fd_close(&k->guest_agent);
	fd_close(&e->ended);
	fd_close(&e->save_done);
	fd_close(&e->change_done);
	fd_close(&e->events);
	free(k);
	e->state = NULL;
}

static int kvm_press_power(struct engine *e)
{
	struct kvm_engine *k = e->state;

	machine_press_power(&k->machine);
	return 0;
}

const struct engine_ops engine_kvm = {.start = kvm_start,
	.run = kvm_run,
	.stop = kvm_stop,
	.result = kvm_result,
	.press_power = kvm_press_power,
	.guest_agent_is_open = kvm_guest_agent_is_open,
	.save = kvm_save,
	.saved = kvm_saved,
	.go_on = kvm_go_on,
	.record_pages = kvm_record_pages,
	.change = kvm_change,
	.changed = kvm_changed,
	.place_late = kvm_place_late,
	.next_event = kvm_next_event,
	.pause = kvm_pause,
	.retry = kvm_retry,
	.resize_disk = kvm_resize_disk,
	.set_balloon = kvm_set_balloon,
	.get_balloon = kvm_get_balloon,
	.request_memory = kvm_request_memory,
	.get_memory = kvm_get_memory};
