/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/update_devices.h"

#include <stdio.h>

#include "base/log.h"
#include "launch/hotplug.h"
#include "launch/live_list.h"
#include "launch/live_mounts.h"

#define KINDS 3

/* How devices of one kind are attached, and detached by their names in the container. */
struct kind {
	const char *option;
	const struct option_list *add, *rm;
	int (*attach)(struct container *c, const char *value);
	int (*detach)(struct container *c, const char *name);
	bool names_target; /* the value of `option` is SOURCE:TARGET[:OPTIONS], else a name */
};

static void list_kinds(const struct update_devices *u, struct kind ret[static KINDS])
{
	ret[0] = (struct kind){"--add-net", &u->add_nets, &u->rm_nets, hotplug_add_net,
		u->force ? hotplug_force_net : hotplug_remove_net, false};
	ret[1] = (struct kind){"--add-disk", &u->add_disks, &u->rm_disks, hotplug_add_disk,
		hotplug_remove_disk, true};
	ret[2] = (struct kind){"--add-mount", &u->add_mounts, &u->rm_mounts, live_mounts_add,
		live_mounts_remove, true};
}

int update_devices(struct container *c, struct update_devices *u)
{
	struct kind kinds[KINDS];
	int r = 0;

	list_kinds(u, kinds);
	for (size_t i = 0; i < KINDS; i++)
		for (size_t k = 0; r >= 0 && k < kinds[i].rm->n; k++) {
			r = kinds[i].detach(c, kinds[i].rm->v[k]);
			u->not_attached = r == -ENOENT;
			if (r >= 0)
				u->removed++;
		}
	for (size_t i = 0; i < KINDS; i++)
		for (size_t k = 0; r >= 0 && k < kinds[i].add->n; k++) {
			r = kinds[i].attach(c, kinds[i].add->v[k]);
			if (r >= 0)
				u->added++;
		}
	return r < 0 ? update_devices_undo(c, u, r) : 0;
}

static int detach(struct container *c, const struct kind *k, const char *value)
{
	char *parts[3] = {NULL, (char *)value, NULL};

	int r = k->names_target ? live_list_split(&c->arena, value, "a target", parts) : 0;
	return r < 0 ? r : k->detach(c, parts[1]);
}

int update_devices_undo(struct container *c, struct update_devices *u, int error)
{
	char why[ERR_MAX];
	struct kind kinds[KINDS];
	size_t before = u->add_nets.n + u->add_disks.n + u->add_mounts.n;

	if (!u->added)
		return error;
	snprintf(why, sizeof(why), "%s", err_msg());
	list_kinds(u, kinds);
	for (size_t i = KINDS; i-- > 0;) {
		before -= kinds[i].add->n;
		for (; u->added > before; u->added--) {
			const char *value = kinds[i].add->v[u->added - 1 - before];
			if (detach(c, &kinds[i], value) < 0)
				log_warn("%s %s stays attached: %s", kinds[i].option, value,
					err_msg());
		}
	}
	return err_set(-error, "%s", why);
}
