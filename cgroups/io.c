/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Applies linux.resources.blockIO.
 *
 * Linux has two features that give block I/O a weight: the BFQ scheduler, with io.bfq.weight, whose
 * range includes the specification's 10 to 1000, and iocost, with io.weight from 1 to 10000. Like
 * runc, caisson uses io.bfq.weight if that file exists.
 */
#include <inttypes.h>

#include "cgroups/cg_internal.h"

#define F "linux.resources.blockIO."

struct weight_file {
	const char *name;
	bool bfq;
};

static int find_weight_file(struct cg_target *t, const char *field, struct weight_file *ret)
{
	ret->bfq = faccessat(t->dir, "io.bfq.weight", F_OK, 0) == 0;
	ret->name = ret->bfq ? "io.bfq.weight" : "io.weight";
	if (ret->bfq || faccessat(t->dir, "io.weight", F_OK, 0) == 0)
		return 0;
	return err_set(EOPNOTSUPP,
		"%s: this kernel has no weights for block I/O: cgroup %s has neither io.bfq.weight "
		"(load the bfq module and choose that scheduler) nor io.weight (iocost)",
		field, t->cg->path);
}

static int check_weight(const char *field, uint64_t weight)
{
	if (weight >= 10 && weight <= 1000)
		return 0;
	return err_set(
		EINVAL, "%s: expected a number from 10 to 1000, found %" PRIu64, field, weight);
}

static int apply_weights(struct cg_target *t, const struct cg_resources *res)
{
	const struct cg_device_values *devices = &res->block_io.weight_device;
	uint64_t weight = res->block_io.weight.v;
	const char *field = weight ? F "weight" : F "weightDevice";
	struct weight_file f;

	if (!weight && !devices->n)
		return 0;
	int r = find_weight_file(t, field, &f);
	if (r == 0 && weight)
		r = check_weight(field, weight);
	if (r == 0 && weight)
		r = cg_put(t, field, f.name, "%" PRIu64,
			f.bfq ? weight : cg_io_weight_from_blkio(weight));
	for (size_t i = 0; r == 0 && i < devices->n; i++) {
		const struct cg_device_value *d = &devices->v[i];
		r = check_weight(F "weightDevice", d->value);
		if (r == 0)
			r = cg_put(t, F "weightDevice", f.name, "%" PRIu64 ":%" PRIu64 " %" PRIu64,
				d->major, d->minor,
				f.bfq ? d->value : cg_io_weight_from_blkio(d->value));
	}
	return r;
}

/*
 * Writes a limit of a rate to io.max. A rate of 0 removes the limit, as on cgroup v1; cgroup v2
 * calls this "max".
 */
static int apply_throttle(struct cg_target *t, const char *field, const char *key,
	const struct cg_device_values *values)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < values->n; i++) {
		const struct cg_device_value *d = &values->v[i];
		r = d->value ? cg_put(t, field, "io.max", "%" PRIu64 ":%" PRIu64 " %s=%" PRIu64,
				       d->major, d->minor, key, d->value)
			     : cg_put(t, field, "io.max", "%" PRIu64 ":%" PRIu64 " %s=max",
				       d->major, d->minor, key);
	}
	return r;
}

int cg_apply_io(struct cg_target *t, const struct cg_resources *res)
{
	const __typeof__(res->block_io) *io = &res->block_io;
	const struct {
		const char *field, *key;
		const struct cg_device_values *values;
	} throttles[] = {
		{F "throttleReadBpsDevice", "rbps", &io->throttle_read_bps},
		{F "throttleWriteBpsDevice", "wbps", &io->throttle_write_bps},
		{F "throttleReadIOPSDevice", "riops", &io->throttle_read_iops},
		{F "throttleWriteIOPSDevice", "wiops", &io->throttle_write_iops},
	};
	bool lifting = !io->weight.v && !io->weight_device.n;
	const char *field = io->weight.v          ? F "weight"
			    : io->weight_device.n ? F "weightDevice"
						  : NULL;

	for (size_t i = 0; !field && i < ARRAY_SIZE(throttles); i++)
		if (throttles[i].values->n)
			field = throttles[i].field;
	if (!field)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(throttles); i++)
		for (size_t k = 0; k < throttles[i].values->n; k++)
			lifting &= !throttles[i].values->v[k].value;
	int r = cg_require(t, "io", field, lifting);
	if (r <= 0)
		return r;
	r = apply_weights(t, res);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(throttles); i++)
		r = apply_throttle(t, throttles[i].field, throttles[i].key, throttles[i].values);
	return r;
}
