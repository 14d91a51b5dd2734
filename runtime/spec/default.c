/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the config.json that the command `caisson spec` prints: the one that runc's users know,
 * updated to the specification 1.3. That config.json has no ambient capabilities, because ambient
 * capabilities take effect only if they are inheritable too.
 */
#include "spec/spec.h"

#include <stdio.h>

#define MAX_STRINGS 8

struct default_mount {
	const char *destination, *type, *source;
	const char *options[MAX_STRINGS];
};

static const struct default_mount mounts[] = {
	{"/proc", "proc", "proc", {NULL}},
	{"/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}},
	{"/dev/pts", "devpts", "devpts",
		{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
	{"/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
	{"/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}},
	{"/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}},
	{"/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"}},
};

/*
 * A container without a network namespace of its own cannot mount a new sysfs, so a rootless
 * container gets the host's /sys as a bind mount.
 */
static const struct default_mount rootless_sys = {
	"/sys", "none", "/sys", {"rbind", "nosuid", "noexec", "nodev", "ro"}};

static const char *const env[] = {
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", NULL};
static const char *const args[] = {"sh", NULL};
static const char *const caps[] = {"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE", NULL};
static const char *const masked_paths[] = {"/proc/acpi", "/proc/asound", "/proc/interrupts",
	"/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
	"/proc/sched_debug", "/sys/firmware", "/sys/devices/virtual/powercap", "/proc/scsi", NULL};
static const char *const readonly_paths[] = {
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", NULL};
static const char *const namespaces[] = {"pid", "network", "ipc", "uts", "mount", "cgroup", NULL};
static const char *const rootless_namespaces[] = {
	"pid", "ipc", "uts", "mount", "cgroup", "user", NULL};

static void put_strings(struct json_out *o, const char *key, const char *const *v)
{
	json_out_array(o, key);
	for (; *v; v++)
		json_out_str(o, NULL, *v);
	json_out_end_array(o);
}

static void put_process(struct json_out *o)
{
	json_out_object(o, "process");
	json_out_bool(o, "terminal", true);
	json_out_object(o, "user");
	json_out_u64(o, "uid", 0);
	json_out_u64(o, "gid", 0);
	json_out_end_object(o);
	put_strings(o, "args", args);
	put_strings(o, "env", env);
	json_out_str(o, "cwd", "/");
	json_out_object(o, "capabilities");
	put_strings(o, "bounding", caps);
	put_strings(o, "effective", caps);
	put_strings(o, "permitted", caps);
	json_out_end_object(o);
	json_out_array(o, "rlimits");
	json_out_object(o, NULL);
	json_out_str(o, "type", "RLIMIT_NOFILE");
	json_out_u64(o, "hard", 1024);
	json_out_u64(o, "soft", 1024);
	json_out_end_object(o);
	json_out_end_array(o);
	json_out_bool(o, "noNewPrivileges", true);
	json_out_end_object(o);
}

static void put_mount(struct json_out *o, const struct default_mount *m, bool rootless)
{
	json_out_object(o, NULL);
	json_out_str(o, "destination", m->destination);
	json_out_str(o, "type", m->type);
	json_out_str(o, "source", m->source);
	if (m->options[0]) {
		json_out_array(o, "options");
		for (size_t i = 0; i < MAX_STRINGS && m->options[i]; i++)
			if (!rootless || !str_starts(m->options[i], "gid="))
				json_out_str(o, NULL, m->options[i]);
		json_out_end_array(o);
	}
	json_out_end_object(o);
}

void spec_write_id_map(struct json_out *o, const char *key, const char *map)
{
	unsigned inside, outside, count;
	int used;

	json_out_array(o, key);
	for (; sscanf(map, "%u %u %u%n", &inside, &outside, &count, &used) == 3; map += used) {
		json_out_object(o, NULL);
		json_out_u64(o, "containerID", inside);
		json_out_u64(o, "hostID", outside);
		json_out_u64(o, "size", count);
		json_out_end_object(o);
	}
	json_out_end_array(o);
}

static void put_resources(struct json_out *o)
{
	json_out_object(o, "resources");
	json_out_array(o, "devices");
	json_out_object(o, NULL);
	json_out_bool(o, "allow", false);
	json_out_str(o, "access", "rwm");
	json_out_end_object(o);
	json_out_end_array(o);
	json_out_end_object(o);
}

static void put_namespaces(struct json_out *o, const char *const *types)
{
	json_out_array(o, "namespaces");
	for (; *types; types++) {
		json_out_object(o, NULL);
		json_out_str(o, "type", *types);
		json_out_end_object(o);
	}
	json_out_end_array(o);
}

int spec_write_default(struct json_out *o, const struct spec_user_maps *maps)
{
	bool rootless = maps;

	json_out_object(o, NULL);
	json_out_str(o, "ociVersion", SPEC_VERSION);
	put_process(o);
	json_out_object(o, "root");
	json_out_str(o, "path", "rootfs");
	json_out_bool(o, "readonly", true);
	json_out_end_object(o);
	json_out_str(o, "hostname", "caisson");
	json_out_array(o, "mounts");
	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
		bool sys = rootless && streq(mounts[i].destination, "/sys");
		put_mount(o, sys ? &rootless_sys : &mounts[i], rootless);
	}
	json_out_end_array(o);
	json_out_object(o, "linux");
	if (rootless) {
		spec_write_id_map(o, "uidMappings", maps->users);
		spec_write_id_map(o, "gidMappings", maps->groups);
	} else {
		put_resources(o);
	}
	put_namespaces(o, rootless ? rootless_namespaces : namespaces);
	put_strings(o, "maskedPaths", masked_paths);
	put_strings(o, "readonlyPaths", readonly_paths);
	json_out_end_object(o);
	json_out_end_object(o);
	return o->failed ? err_set(-o->failed, "cannot write JSON") : 0;
}
