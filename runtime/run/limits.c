/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "run/run.h"
#include "spec/spec.h"

#define CAPABILITIES_MAX 64
#define ULIMIT_NAME_MAX 32

/*
 * Returns the name with the prefix CAP_ in capitals: "net_admin" becomes "CAP_NET_ADMIN". "ALL"
 * stays.
 */
static const char *capability_name(struct arena *a, const char *text)
{
	bool prefix = strncasecmp(text, "CAP_", 4) == 0;
	char *name =
		arena_printf(a, "%s%s", prefix || strcasecmp(text, "ALL") == 0 ? "" : "CAP_", text);

	for (char *p = name; p && *p; p++)
		if (*p >= 'a' && *p <= 'z')
			*p = (char)(*p - 'a' + 'A');
	return name;
}

static bool in_list(const char *const *list, const char *name)
{
	for (; *list; list++)
		if (streq(*list, name))
			return true;
	return false;
}

static int read_names(struct run *r, const struct option_list *l, const char *option,
	const char **names, bool *ret_all)
{
	*ret_all = false;
	for (size_t i = 0; i < l->n; i++) {
		names[i] = capability_name(r->arena, l->v[i]);
		if (!names[i])
			return -ENOMEM;
		if (streq(names[i], "ALL"))
			*ret_all = true;
		else if (!in_list(spec_known_capabilities(), names[i]))
			return err_set(EINVAL,
				"%s %.100s: no capability of that name: capabilities(7) lists them",
				option, l->v[i]);
	}
	names[l->n] = NULL;
	return 0;
}

/*
 * Computes the capabilities as docker does: --cap-drop ALL leaves only those of --cap-add,
 * --cap-add ALL leaves all but those of --cap-drop, and a name in both lists is added.
 */
int run_capabilities(struct run *r)
{
	const char *add[ARRAY_SIZE(r->o->cap_add.v) + 1], *drop[ARRAY_SIZE(r->o->cap_drop.v) + 1];
	const char **list = arena_array(r->arena, CAPABILITIES_MAX + 1, sizeof(*list));
	bool add_all, drop_all;
	size_t n = 0;

	if (!list)
		return -ENOMEM;
	int result = read_names(r, &r->o->cap_add, "--cap-add", add, &add_all);
	if (result >= 0)
		result = read_names(r, &r->o->cap_drop, "--cap-drop", drop, &drop_all);
	if (result < 0)
		return result;
	for (const char *const *known = spec_known_capabilities(); *known && n < CAPABILITIES_MAX;
		known++) {
		const char *name = *known;
		bool wanted = add_all || (!drop_all && in_list(bundle_capabilities, name));
		if ((wanted && !in_list(drop, name)) || in_list(add, name))
			list[n++] = name;
	}
	list[n] = NULL;
	r->capabilities = list;
	return 0;
}

static int put_memory(struct run *r, struct json_out *o)
{
	uint64_t bytes;

	if (!r->o->memory)
		return 0;
	if (str_to_size(r->o->memory, &bytes) < 0 || bytes == 0 || bytes > INT64_MAX)
		return err_set(EINVAL, "--memory %.100s: expected a size such as 512m or 2g",
			r->o->memory);
	json_out_object(o, "memory");
	json_out_u64(o, "limit", bytes);
	json_out_end_object(o);
	return 0;
}

int run_parse_cpus(const char *text, int64_t *ret_quota)
{
	char *end;

	double cpus = strtod(text, &end);
	if (*end || !(cpus >= 0.01) || cpus > 100000)
		return err_set(EINVAL,
			"--cpus %.100s: expected a number such as 1.5, at least 0.01", text);
	*ret_quota = (int64_t)(cpus * RUN_CPU_PERIOD);
	return 0;
}

static int put_cpus(struct run *r, struct json_out *o)
{
	int64_t quota;

	if (!r->o->cpus)
		return 0;
	int failed = run_parse_cpus(r->o->cpus, &quota);
	if (failed < 0)
		return failed;
	json_out_object(o, "cpu");
	json_out_u64(o, "period", RUN_CPU_PERIOD);
	json_out_i64(o, "quota", quota);
	json_out_end_object(o);
	return 0;
}

static int put_pids(struct run *r, struct json_out *o)
{
	int64_t n;

	if (!r->o->pids_limit)
		return 0;
	if (str_to_i64(r->o->pids_limit, &n) < 0 || n < -1)
		return err_set(EINVAL, "--pids-limit %.100s: expected a number, or -1 for no limit",
			r->o->pids_limit);
	json_out_object(o, "pids");
	json_out_i64(o, "limit", n == 0 ? -1 : n);
	json_out_end_object(o);
	return 0;
}

struct device {
	const char *host, *path, *access;
	struct stat st;
};

/* Parses a value of --device, "HOST[:PATH][:ACCESS]". ACCESS is some of the letters r, w and m. */
static int parse_device(struct run *r, const char *text, struct device *d)
{
	char *copy = arena_strdup(r->arena, text);
	char *second, *third;

	if (!copy)
		return -ENOMEM;
	*d = (struct device){.host = copy, .path = copy, .access = "rwm"};
	second = strchr(copy, ':');
	if (second) {
		*second++ = '\0';
		third = strchr(second, ':');
		if (third)
			*third++ = '\0';
		bool only_access = !third && *second != '/';
		d->path = only_access ? copy : second;
		d->access = third ? third : only_access ? second : "rwm";
	}
	if (*d->host != '/' || *d->path != '/' || !*d->access ||
		strspn(d->access, "rwm") != strlen(d->access))
		return err_set(EINVAL,
			"--device %.200s: expected HOST[:PATH][:ACCESS], such as "
			"/dev/fuse:/dev/fuse:rw",
			text);
	if (stat(d->host, &d->st) < 0)
		return err_sys("--device %s", d->host);
	if (!S_ISCHR(d->st.st_mode) && !S_ISBLK(d->st.st_mode))
		return err_set(EINVAL, "--device %s is no device", d->host);
	return 0;
}

static void put_device(struct json_out *o, const struct device *d)
{
	json_out_object(o, NULL);
	json_out_str(o, "path", d->path);
	json_out_str(o, "type", S_ISBLK(d->st.st_mode) ? "b" : "c");
	json_out_u64(o, "major", major(d->st.st_rdev));
	json_out_u64(o, "minor", minor(d->st.st_rdev));
	json_out_u64(o, "fileMode", d->st.st_mode & 0777);
	json_out_u64(o, "uid", d->st.st_uid);
	json_out_u64(o, "gid", d->st.st_gid);
	json_out_end_object(o);
}

static void put_rule(struct json_out *o, const struct device *d)
{
	json_out_object(o, NULL);
	json_out_bool(o, "allow", d != NULL);
	if (d) {
		json_out_str(o, "type", S_ISBLK(d->st.st_mode) ? "b" : "c");
		json_out_u64(o, "major", major(d->st.st_rdev));
		json_out_u64(o, "minor", minor(d->st.st_rdev));
	}
	json_out_str(o, "access", d ? d->access : "rwm");
	json_out_end_object(o);
}

int run_put_limits(struct run *r, struct json_out *o)
{
	size_t n = r->o->device.n;
	struct device *devices = arena_array(r->arena, n + 1, sizeof(*devices));
	int result = devices ? 0 : -ENOMEM;

	for (size_t i = 0; i < n && result >= 0; i++)
		result = parse_device(r, r->o->device.v[i], &devices[i]);
	if (result < 0)
		return result;
	if (n) {
		json_out_array(o, "devices");
		for (size_t i = 0; i < n; i++)
			put_device(o, &devices[i]);
		json_out_end_array(o);
	}
	json_out_object(o, "resources");
	/*
	 * An ordinary user's container gets no device rules, because an ordinary user can make no
	 * device nodes and may not load the BPF program that enforces the rules.
	 */
	if (!r->rootless) {
		json_out_array(o, "devices");
		put_rule(o, NULL);
		for (size_t i = 0; i < n; i++)
			put_rule(o, &devices[i]);
		json_out_end_array(o);
	}
	result = put_memory(r, o);
	if (result >= 0)
		result = put_cpus(r, o);
	if (result >= 0)
		result = put_pids(r, o);
	json_out_end_object(o);
	return result;
}

static int parse_rlimit(const char *text, uint64_t *ret)
{
	if (streq(text, "-1") || streq(text, "unlimited")) {
		*ret = UINT64_MAX;
		return 0;
	}
	return str_to_u64(text, ret);
}

/* Writes the limit that a value of --ulimit asks for, such as "nofile=1024[:2048]". */
static int put_ulimit(struct run *r, struct json_out *o, const char *text)
{
	char *copy = arena_strdup(r->arena, text);
	char name[ULIMIT_NAME_MAX];
	uint64_t soft, hard;

	if (!copy)
		return -ENOMEM;
	char *equals = strchr(copy, '=');
	char *colon = equals ? strchr(equals, ':') : NULL;
	if (equals)
		*equals++ = '\0';
	if (colon)
		*colon++ = '\0';
	if (!equals || strlen(copy) > sizeof(name) - sizeof("RLIMIT_") ||
		parse_rlimit(equals, &soft) < 0 || (colon && parse_rlimit(colon, &hard) < 0))
		return err_set(EINVAL,
			"--ulimit %.100s: expected NAME=SOFT[:HARD], such as nofile=1024:4096",
			text);
	snprintf(name, sizeof(name), "RLIMIT_%s", copy);
	for (char *p = name; *p; p++)
		if (*p >= 'a' && *p <= 'z')
			*p = (char)(*p - 'a' + 'A');
	json_out_object(o, NULL);
	json_out_str(o, "type", name);
	json_out_u64(o, "soft", soft);
	json_out_u64(o, "hard", colon ? hard : soft);
	json_out_end_object(o);
	return 0;
}

int run_put_rlimits(struct run *r, struct json_out *o)
{
	int result = 0;

	if (!r->o->ulimit.n)
		return 0;
	json_out_array(o, "rlimits");
	for (size_t i = 0; i < r->o->ulimit.n && result >= 0; i++)
		result = put_ulimit(r, o, r->o->ulimit.v[i]);
	json_out_end_array(o);
	return result;
}
