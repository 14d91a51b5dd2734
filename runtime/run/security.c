/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/seccomp.h"
#include "run/run.h"

/*
 * The paths in /proc and /sys by which a program could learn about the host or change it. The paths
 * in `masked` are hidden from the container, and those in `read_only` are read-only. docker has the
 * same two lists.
 */
static const char *const masked[] = {"/proc/acpi", "/proc/asound", "/proc/interrupts",
	"/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
	"/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap", NULL};
static const char *const read_only[] = {
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", NULL};

struct security {
	bool no_new_privileges, seccomp_off, show_all;
	const char *seccomp, *apparmor, *label;
};

static int parse_one(const char *text, struct security *s)
{
	size_t len = strcspn(text, "=:");
	const char *value = text[len] ? text + len + 1 : "";

	if (len == 17 && strncmp(text, "no-new-privileges", len) == 0) {
		if (*value && !streq(value, "true") && !streq(value, "false"))
			return err_set(
				EINVAL, "--security-opt %.200s: expected true or false", text);
		s->no_new_privileges = !streq(value, "false");
	} else if (len == 7 && strncmp(text, "seccomp", len) == 0 && *value) {
		s->seccomp_off = streq(value, "unconfined");
		s->seccomp = s->seccomp_off ? NULL : value;
	} else if (len == 8 && strncmp(text, "apparmor", len) == 0 && *value) {
		s->apparmor = streq(value, "unconfined") ? NULL : value;
	} else if (len == 11 && strncmp(text, "systempaths", len) == 0 &&
		   streq(value, "unconfined")) {
		s->show_all = true;
	} else if (len == 5 && strncmp(text, "label", len) == 0 && *value) {
		/* label=disable means that the container gets no SELinux label. */
		s->label = streq(value, "disable") ? NULL : value;
	} else {
		return err_set(EINVAL,
			"--security-opt %.200s: expected no-new-privileges, seccomp=unconfined, "
			"seccomp=FILE, apparmor=PROFILE, label=disable, label=CONTEXT or "
			"systempaths=unconfined",
			text);
	}
	return 0;
}

static int parse(const struct run *r, struct security *ret)
{
	int result = 0;

	*ret = (struct security){0};
	for (size_t i = 0; i < r->o->security_opt.n && result >= 0; i++)
		result = parse_one(r->o->security_opt.v[i], ret);
	return result;
}

int run_put_process_security(struct run *r, struct json_out *o)
{
	struct security s;
	int result = parse(r, &s);

	if (result < 0)
		return result;
	json_out_bool(o, "noNewPrivileges", s.no_new_privileges);
	if (s.apparmor)
		json_out_str(o, "apparmorProfile", s.apparmor);
	if (s.label)
		json_out_str(o, "selinuxLabel", s.label);
	return 0;
}

static void put_strings(struct json_out *o, const char *key, const char *const *v)
{
	json_out_array(o, key);
	for (; *v; v++)
		json_out_str(o, NULL, *v);
	json_out_end_array(o);
}

/*
 * Copies the seccomp profile in the file `path` to linux.seccomp of config.json. caisson checks the
 * profile when it creates the container.
 */
static int put_seccomp_file(struct run *r, struct json_out *o, const char *path)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	struct json *j;
	int result = fd_read_file(AT_FDCWD, path, &text, OCI_DOCUMENT_MAX);

	if (result >= 0)
		result = json_parse(r->arena, strbuf_str(&text), text.len, path, &j);
	if (result < 0)
		return err_ctx(result, "--security-opt seccomp");
	if (j->type != JSON_OBJECT || json_get(j, "archMap"))
		return err_set(EINVAL,
			"--security-opt seccomp=%s: expected an object like linux.seccomp of "
			"config.json; docker's own form (archMap, includes) is not read",
			path);
	json_out_node(o, "seccomp", j);
	return 0;
}

int run_put_security(struct run *r, struct json_out *o)
{
	struct security s;
	int result = parse(r, &s);

	if (result < 0)
		return result;
	if (!s.show_all) {
		put_strings(o, "maskedPaths", masked);
		put_strings(o, "readonlyPaths", read_only);
	}
	if (s.label)
		json_out_str(o, "mountLabel", s.label);
	if (s.seccomp)
		return put_seccomp_file(r, o, s.seccomp);
	if (!s.seccomp_off)
		seccomp_put_default(o, r->capabilities);
	return 0;
}
