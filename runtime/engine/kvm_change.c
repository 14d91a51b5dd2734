/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes a machine that runs, in the devices' thread, which is the only one that may: saves it in
 * a snapshot, and attaches devices to it and detaches them.
 */
#include "engine/kvm_internal.h"

#include <stdio.h>
#include <sys/eventfd.h>

#include "base/fd.h"

void kvm_note(struct outcome *o, int r)
{
	o->r = r;
	snprintf(o->why, sizeof(o->why), "%s", r < 0 ? err_msg() : "");
}

int kvm_outcome(const struct outcome *o)
{
	return o->r < 0 ? err_set(-o->r, "%s", o->why) : o->r;
}

/* --- snapshots of the machine --- */

static int write_snapshot(struct machine *m, const struct engine_save *s)
{
	struct snapshot_writer w;

	int r = snapshot_begin(&w);
	if (r >= 0)
		r = machine_save(m, &w, s->memory);
	if (r >= 0)
		r = snapshot_section(&w, SNAPSHOT_OWNER, 0);
	if (r >= 0)
		r = snapshot_put(&w, s->owner, s->owner_len);
	if (r >= 0)
		r = snapshot_finish(&w);
	if (r >= 0 && fd_write_all(s->state, w.bytes.s, w.bytes.len) < 0)
		r = err_sys("write the snapshot");
	snapshot_release(&w);
	return r;
}

/*
 * Pauses the machine and writes the snapshot, in the devices' thread, which is the only one that
 * may call machine_save().
 */
static void save_now(struct machine *m, void *ctx)
{
	struct engine *e = ctx;
	struct kvm_engine *k = e->state;

	kvm_note(&k->saved, write_snapshot(m, k->save));
	eventfd_write(e->save_done, 1);
}

static void go_on_now(struct machine *m, void *ctx)
{
	machine_go_on(m);
}

int kvm_save(struct engine *e, const struct engine_save *s)
{
	struct kvm_engine *k = e->state;

	k->save = s;
	machine_call(&k->machine, save_now, e);
	return 0;
}

int kvm_saved(struct engine *e)
{
	struct kvm_engine *k = e->state;
	eventfd_t n;

	(void)eventfd_read(e->save_done, &n);
	k->save = NULL;
	return kvm_outcome(&k->saved);
}

void kvm_go_on(struct engine *e)
{
	struct kvm_engine *k = e->state;

	machine_call(&k->machine, go_on_now, NULL);
}

/* --- devices that are attached to the running machine, and detached from it --- */

static void change_now(struct machine *m, void *ctx)
{
	struct engine *e = ctx;
	struct kvm_engine *k = e->state;
	struct engine_change *c = k->change;

	int r = 0;
	if (c->detach)
		machine_detach(m, c->slot);
	else
		r = machine_attach(m, &c->device, &c->slot);
	kvm_note(&k->changed, r);
	eventfd_write(e->change_done, 1);
}

int kvm_change(struct engine *e, struct engine_change *c)
{
	struct kvm_engine *k = e->state;

	k->change = c;
	machine_call(&k->machine, change_now, e);
	return 0;
}

int kvm_changed(struct engine *e)
{
	struct kvm_engine *k = e->state;
	eventfd_t n;

	(void)eventfd_read(e->change_done, &n);
	k->change = NULL;
	return kvm_outcome(&k->changed);
}

/* --- devices of a machine that has started without them, because of its template --- */

static void place_late_now(struct machine *m, void *ctx)
{
	struct engine *e = ctx;
	struct kvm_engine *k = e->state;

	kvm_note(&k->changed, machine_place_late(m, e->late_slots));
	eventfd_write(e->change_done, 1);
}

int kvm_place_late(struct engine *e)
{
	struct kvm_engine *k = e->state;

	machine_call(&k->machine, place_late_now, e);
	return 0;
}
