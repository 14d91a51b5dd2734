/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes resource limits as JSON that spec_parse_resources() reads. The monitor sends it to a
 * microVM's guest to update the guest's limits.
 */
#include "spec/spec.h"

static void put_devices(struct json_out *o, const struct cg_resources *res)
{
	json_out_array(o, "devices");
	for (size_t i = 0; i < res->ndevices; i++) {
		const struct cg_device_rule *d = &res->devices[i];
		const char type[] = {d->type, '\0'};
		json_out_object(o, NULL);
		json_out_bool(o, "allow", d->allow);
		json_out_str(o, "type", type);
		json_out_i64(o, "major", d->major);
		json_out_i64(o, "minor", d->minor);
		json_out_str(o, "access", d->access);
		json_out_end_object(o);
	}
	json_out_end_array(o);
}

static void put_i64(struct json_out *o, const char *key, struct opt_i64 v)
{
	if (v.set)
		json_out_i64(o, key, v.v);
}

static void put_memory(struct json_out *o, const struct cg_resources *res)
{
	json_out_object(o, "memory");
	put_i64(o, "limit", res->memory.limit);
	put_i64(o, "reservation", res->memory.reservation);
	put_i64(o, "swap", res->memory.swap);
	json_out_bool(o, "checkBeforeUpdate", res->memory.check_before_update.v);
	json_out_end_object(o);
}

void spec_guest_resources_json(const struct cg_resources *res, const char *key, struct json_out *o)
{
	json_out_object(o, key);
	put_devices(o, res);
	put_memory(o, res);
	json_out_object(o, "pids");
	put_i64(o, "limit", res->pids_limit);
	json_out_end_object(o);
	json_out_array(o, "hugepageLimits");
	for (size_t i = 0; i < res->nhugepages; i++) {
		json_out_object(o, NULL);
		json_out_str(o, "pageSize", res->hugepages[i].page_size);
		json_out_u64(o, "limit", res->hugepages[i].limit);
		json_out_end_object(o);
	}
	json_out_end_array(o);
	json_out_object(o, "unified");
	for (size_t i = 0; i < res->nunified; i++)
		json_out_str(o, res->unified[i].file, res->unified[i].value);
	json_out_end_object(o);
	json_out_end_object(o);
}
