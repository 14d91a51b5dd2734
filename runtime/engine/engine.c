/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/engine.h"

int engine_start(struct engine *ret, const struct engine_description *d)
{
	*ret = (struct engine){.ended = -EBADF, .chatter = -EBADF};
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

void engine_stop(struct engine *e)
{
	if (e->ops)
		e->ops->stop(e);
	*e = (struct engine){.ended = -EBADF, .chatter = -EBADF};
}
