/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adds the properties of a new scope to the message that starts it. caisson writes the control
 * files itself (cg_apply()), but systemd must know the limits too, because it writes them again on
 * a reload and shows them in `systemctl show`. Later updates, and limits that are known only once
 * the cgroup exists, go through keep.c. Device rules are left out: without DeviceAllow= systemd
 * attaches no device program, and caisson's own program is the only one.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "cgroups/cg_internal.h"
#include "cgroups/systemd/sdbus.h"

#define PERIOD_DEFAULT 100000 /* the kernel's default period of a CPU quota, in microseconds */
#define MASK_BITS 8192
#define WORD_BITS (8 * sizeof(unsigned long))

static int err_property(int r, const char *name)
{
	return err_set(-r, "systemd property %s: %s", name, strerror(-r));
}

/*
 * Adds one property with a basic value. The arguments for the types "t", "s" and "b" are those of
 * sd_bus_message_append_basic().
 */
int sd_put(struct sdbus *s, sd_bus_message *m, const char *name, const char *sig, ...)
{
	va_list ap;
	int r = s->sd_bus_message_open_container(m, 'r', "sv");

	if (r >= 0)
		r = s->sd_bus_message_append_basic(m, 's', name);
	if (r >= 0)
		r = s->sd_bus_message_open_container(m, 'v', sig);
	va_start(ap, sig);
	if (r >= 0 && *sig == 't') {
		uint64_t v = va_arg(ap, uint64_t);
		r = s->sd_bus_message_append_basic(m, 't', &v);
	} else if (r >= 0 && *sig == 'b') {
		int v = va_arg(ap, int);
		r = s->sd_bus_message_append_basic(m, 'b', &v);
	} else if (r >= 0) {
		r = s->sd_bus_message_append_basic(m, *sig, va_arg(ap, const char *));
	}
	va_end(ap);
	if (r >= 0)
		r = s->sd_bus_message_close_container(m);
	if (r >= 0)
		r = s->sd_bus_message_close_container(m);
	return r < 0 ? err_property(r, name) : 0;
}

static int put_u64(struct sdbus *s, sd_bus_message *m, const char *name, uint64_t v)
{
	return sd_put(s, m, name, "t", v);
}

/*
 * Adds the property for a limit. A limit of -1 becomes infinity, and a limit of 0 counts as not
 * set.
 */
static int put_limit(struct sdbus *s, sd_bus_message *m, const char *name, struct opt_i64 v)
{
	if (!v.set || v.v == 0)
		return 0;
	return put_u64(s, m, name, v.v < 0 ? UINT64_MAX : (uint64_t)v.v);
}

int sd_put_mask(struct sdbus *s, sd_bus_message *m, const char *name, const char *list)
{
	unsigned long mask[MASK_BITS / WORD_BITS] = {0};
	uint8_t bytes[MASK_BITS / 8];
	size_t n = 0;

	if (!list || !*list)
		return 0;
	int r = str_to_bitlist(list, mask, MASK_BITS);
	if (r < 0)
		return err_ctx(r, "linux.resources.cpu: \"%s\" for systemd's %s", list, name);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		bytes[i] = (uint8_t)(mask[i * 8 / WORD_BITS] >> (i * 8 % WORD_BITS));
		if (bytes[i])
			n = i + 1;
	}
	r = s->sd_bus_message_open_container(m, 'r', "sv");
	if (r >= 0)
		r = s->sd_bus_message_append_basic(m, 's', name);
	if (r >= 0)
		r = s->sd_bus_message_open_container(m, 'v', "ay");
	if (r >= 0)
		r = s->sd_bus_message_append_array(m, 'y', bytes, n);
	if (r >= 0)
		r = s->sd_bus_message_close_container(m);
	if (r >= 0)
		r = s->sd_bus_message_close_container(m);
	return r < 0 ? err_property(r, name) : 0;
}

/*
 * Adds the property for a CPU quota. systemd keeps whole percents only, so the quota is rounded up,
 * because systemd must not take away what the configuration grants.
 */
int sd_put_quota(struct sdbus *s, sd_bus_message *m, int64_t quota, uint64_t period)
{
	uint64_t per_second = UINT64_MAX;

	if (quota > 0 && period > 0) {
		__uint128_t v = (__uint128_t)(uint64_t)quota * 1000000 / period;
		v = (v + 9999) / 10000 * 10000;
		per_second = v < UINT64_MAX ? (uint64_t)v : UINT64_MAX;
	}
	return put_u64(s, m, "CPUQuotaPerSecUSec", per_second);
}

static int put_quota(struct sdbus *s, sd_bus_message *m, const struct cg_resources *res)
{
	uint64_t period = res->cpu.period.v;
	int r = period ? put_u64(s, m, "CPUQuotaPeriodUSec", period) : 0;

	if (r < 0 || !res->cpu.quota.set || res->cpu.quota.v == 0)
		return r;
	return sd_put_quota(s, m, res->cpu.quota.v, period ? period : PERIOD_DEFAULT);
}

/*
 * Adds CPUWeight=0, which stands for cpu.idle=1 since systemd 252. For older versions of systemd
 * the property is left out, because they refuse 0.
 */
int sd_put_idle(struct sdbus *s, sd_bus_message *m)
{
	char *version = NULL;
	unsigned number = 0;
	int r = s->sd_bus_get_property_string(s->bus, "org.freedesktop.systemd1",
		"/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "Version", NULL,
		&version);

	if (r >= 0)
		number = (unsigned)strtoul(version + (*version == 'v'), NULL, 10);
	free(version);
	return number >= 252 ? put_u64(s, m, "CPUWeight", 0) : 0;
}

static int put_weight(struct sdbus *s, sd_bus_message *m, const struct cg_resources *res)
{
	if (res->cpu.idle.v == 1)
		return sd_put_idle(s, m);
	if (!res->cpu.shares.v)
		return 0;
	return put_u64(s, m, "CPUWeight", cg_weight_from_shares(res->cpu.shares.v));
}

int sd_put_resources(struct sdbus *s, sd_bus_message *m, const struct cg_resources *res)
{
	struct opt_i64 tasks = res->pids_limit, swap = {0};

	if (tasks.set && tasks.v == 0)
		tasks.v = 1; /* 0 becomes 1, because systemd refuses a limit of 0 tasks */
	int r = put_limit(s, m, "MemoryMax", res->memory.limit);
	if (r == 0)
		r = put_limit(s, m, "MemoryLow", res->memory.reservation);
	if (r == 0) {
		r = cg_swap_from_spec(res->memory.limit, res->memory.swap, &swap.v);
		if (r > 0)
			r = put_u64(
				s, m, "MemorySwapMax", swap.v < 0 ? UINT64_MAX : (uint64_t)swap.v);
	}
	if (r == 0)
		r = put_weight(s, m, res);
	if (r == 0)
		r = put_quota(s, m, res);
	if (r == 0)
		r = put_limit(s, m, "TasksMax", tasks);
	if (r == 0)
		r = sd_put_mask(s, m, "AllowedCPUs", res->cpu.cpus);
	if (r == 0)
		r = sd_put_mask(s, m, "AllowedMemoryNodes", res->cpu.mems);
	return r;
}

int sd_property_name(struct arena *a, const char *name, const char **ret, bool *ret_seconds)
{
	size_t len = strlen(name);

	*ret_seconds = false;
	*ret = name;
	if (len < 3 || len > 128 ||
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != len)
		return err_set(EINVAL,
			"annotation org.systemd.property.%s: expected a property name of letters, "
			"such as TimeoutStopUSec",
			name);
	if (len < 4 || !streq(name + len - 3, "Sec") || name[len - 4] < 'a' || name[len - 4] > 'z')
		return 0;
	*ret_seconds = true;
	*ret = arena_printf(a, "%.*sUSec", (int)len - 3, name);
	return *ret ? 0 : -ENOMEM;
}

static int put_gv(struct sdbus *s, sd_bus_message *m, const struct gv *v)
{
	char kind = *v->sig == '(' ? 'r' : *v->sig;
	uint8_t byte = (uint8_t)v->u;
	uint16_t half = (uint16_t)v->u;
	uint32_t full = (uint32_t)v->u;
	int flag = v->u != 0, r;

	switch (kind) {
	case 's':
	case 'o':
	case 'g':
		return s->sd_bus_message_append_basic(m, kind, v->s);
	case 'b':
		return s->sd_bus_message_append_basic(m, kind, &flag);
	case 'y':
		return s->sd_bus_message_append_basic(m, kind, &byte);
	case 'n':
	case 'q':
		return s->sd_bus_message_append_basic(m, kind, &half);
	case 'i':
	case 'u':
		return s->sd_bus_message_append_basic(m, kind, &full);
	case 'x':
	case 't':
		return s->sd_bus_message_append_basic(m, kind, &v->u);
	case 'd':
		return s->sd_bus_message_append_basic(m, kind, &v->d);
	default:
		break;
	}
	/*
	 * Computes the signature of what is inside the value, which sd_bus_message_open_container()
	 * needs: "s" for "as", "st" for "(st)", and the type of the inner value for a variant.
	 */
	char inner[256];
	snprintf(inner, sizeof(inner), "%s", kind == 'v' ? v->first->sig : v->sig + 1);
	if (kind == 'r')
		inner[strlen(inner) - 1] = '\0';
	r = s->sd_bus_message_open_container(m, kind, inner);
	for (const struct gv *e = v->first; e && r >= 0; e = e->next)
		r = put_gv(s, m, e);
	return r < 0 ? r : s->sd_bus_message_close_container(m);
}

/* Converts a number of seconds, whatever its type, to a uint64 of microseconds. */
static int to_microseconds(struct gv *v)
{
	const uint64_t max = UINT64_MAX / 1000000;
	uint64_t seconds;

	switch (*v->sig) {
	case 'd':
		if (!(v->d >= 0 && v->d < (double)max))
			return err_set(EINVAL, "expected seconds, found %g", v->d);
		v->u = (uint64_t)(v->d * 1000000);
		v->sig = "t";
		return 0;
	case 'n':
	case 'i':
	case 'x':
		if (v->i < 0)
			return err_set(EINVAL, "expected seconds, found %" PRId64, v->i);
		seconds = (uint64_t)v->i;
		break;
	case 'y':
	case 'q':
	case 'u':
	case 't':
		seconds = v->u;
		break;
	default:
		return err_set(EINVAL, "expected a number of seconds");
	}
	if (seconds > max && seconds != UINT64_MAX)
		return err_set(ERANGE, "%" PRIu64 " seconds are too many", seconds);
	v->u = seconds == UINT64_MAX ? seconds : seconds * 1000000;
	v->sig = "t";
	return 0;
}

int sd_put_annotations(struct sdbus *s, sd_bus_message *m, const struct cg_options *opt)
{
	_cleanup_arena_ struct arena a = {0};

	for (size_t i = 0; i < opt->nsystemd_properties; i++) {
		const struct cg_unified *p = &opt->systemd_properties[i];
		struct gv variant = {.sig = "v"};
		const char *name;
		bool seconds;
		int r = sd_property_name(&a, p->file, &name, &seconds);
		if (r < 0)
			return r;
		r = gv_parse(&a, p->value, &variant.first);
		if (r == 0 && seconds)
			r = to_microseconds(variant.first);
		if (r < 0)
			return err_ctx(r, "annotation org.systemd.property.%s", p->file);
		r = s->sd_bus_message_open_container(m, 'r', "sv");
		if (r >= 0)
			r = s->sd_bus_message_append_basic(m, 's', name);
		if (r >= 0)
			r = put_gv(s, m, &variant);
		if (r >= 0)
			r = s->sd_bus_message_close_container(m);
		if (r < 0)
			return err_property(r, name);
	}
	return 0;
}
