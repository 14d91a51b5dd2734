/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/engine.h"

int engine_start(struct engine *ret, const struct engine_description *d)
{
	*ret = (struct engine)ENGINE_INIT;
	ret->ops = d->config->hypervisor == HYPERVISOR_KVM ? &engine_kvm : &engine_qemu;
	int r = ret->ops->start(ret, d);
	if (r < 0)
		engine_stop(ret);
	return r;
}

int engine_run(struct engine *e, const struct jail *jail)
{
	e->jail = jail;
	return e->ops->run(e);
}

int engine_result(struct engine *e)
{
	return e->ops->result(e);
}

int engine_press_power(struct engine *e)
{
	return e->ops->press_power(e);
}

bool engine_guest_agent_is_open(const struct engine *e)
{
	return e->ops && e->ops->guest_agent_is_open && e->ops->guest_agent_is_open(e);
}

int engine_add_viewer(struct engine *e, int sock)
{
	if (!e->ops->add_viewer)
		return err_set(ENOTSUP, "the built-in monitor's machines have no screen");
	return e->ops->add_viewer(e, sock);
}

void engine_stop(struct engine *e)
{
	if (e->ops)
		e->ops->stop(e);
	*e = (struct engine)ENGINE_INIT;
}

int engine_next_event(struct engine *e, struct engine_event *ret)
{
	return e->ops->next_event(e, ret);
}

int engine_pause(struct engine *e)
{
	return e->ops->pause(e);
}

int engine_retry(struct engine *e)
{
	return e->ops->retry(e);
}

int engine_resize_disk(struct engine *e, uint64_t size)
{
	return e->ops->resize_disk(e, size);
}

int engine_set_balloon(struct engine *e, uint64_t bytes)
{
	return e->ops->set_balloon(e, bytes);
}

void engine_get_balloon(struct engine *e, struct engine_balloon *ret)
{
	e->ops->get_balloon(e, ret);
}

void engine_request_memory(struct engine *e, uint64_t bytes)
{
	if (e->ops->request_memory)
		e->ops->request_memory(e, bytes);
}

void engine_get_memory(struct engine *e, struct engine_hot_memory *ret)
{
	*ret = (struct engine_hot_memory){0};
	if (e->ops->get_memory)
		e->ops->get_memory(e, ret);
}

int engine_save(struct engine *e, const struct engine_save *s)
{
	return e->ops->save(e, s);
}

int engine_can_save(const struct engine *e)
{
	return e->ops->can_save ? e->ops->can_save(e) : 0;
}

int engine_saved(struct engine *e)
{
	return e->ops->saved(e);
}

void engine_go_on(struct engine *e)
{
	if (e->ops && e->ops->go_on)
		e->ops->go_on(e);
}

int engine_record_pages(struct engine *e, int pagemap, struct vm_page_run *runs, size_t max)
{
	return e->ops->record_pages ? e->ops->record_pages(e, pagemap, runs, max) : 0;
}

int engine_change(struct engine *e, struct engine_change *c)
{
	return e->ops->change(e, c);
}

int engine_changed(struct engine *e)
{
	return e->ops->changed(e);
}

int engine_place_late(struct engine *e)
{
	return e->ops->place_late(e);
}
