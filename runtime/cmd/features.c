/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements `features`, which prints the JSON that features.md and features-linux.md of the
 * runtime-spec define. The command must print nothing else, not even on standard error, because
 * CRI-O reads both streams as one.
 */
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cmd/cmd.h"

static void put_names(struct json_out *o, const char *key, const char *const *names)
{
	json_out_array(o, key);
	for (; *names; names++)
		json_out_str(o, NULL, *names);
	json_out_end_array(o);
}

static void put_enabled(struct json_out *o, const char *key)
{
	json_out_object(o, key);
	json_out_bool(o, "enabled", true);
	json_out_end_object(o);
}

/*
 * Says whether the kernel knows this seccomp flag, by a call of seccomp(2) without a filter. The
 * call fails with EFAULT if the kernel knows the flag, and with EINVAL if not.
 */
static bool kernel_has_flag(const char *name)
{
	static const struct {
		const char *name;
		unsigned flag;
	} flags[] = {
		{"SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC},
		{"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
		{"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
		{"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
			SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV},
	};

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (streq(flags[i].name, name))
			return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags[i].flag, NULL) <
				       0 &&
			       errno == EFAULT;
	return false;
}

static void put_seccomp(struct json_out *o)
{
	json_out_object(o, "seccomp");
	json_out_bool(o, "enabled", true);
	put_names(o, "actions", spec_known_seccomp_actions());
	put_names(o, "operators", spec_known_seccomp_operators());
	put_names(o, "archs", spec_known_seccomp_archs());
	put_names(o, "knownFlags", spec_known_seccomp_flags());
	json_out_array(o, "supportedFlags");
	for (const char *const *f = spec_known_seccomp_flags(); *f; f++)
		if (kernel_has_flag(*f))
			json_out_str(o, NULL, *f);
	json_out_end_array(o);
	json_out_end_object(o);
}

static void put_linux(struct json_out *o)
{
	json_out_object(o, "linux");
	put_names(o, "namespaces", spec_known_namespaces());
	put_names(o, "capabilities", spec_known_capabilities());
	json_out_object(o, "cgroup");
	json_out_bool(o, "v1", false);
	json_out_bool(o, "v2", true);
	json_out_bool(o, "systemd", true);
	json_out_bool(o, "systemdUser", true);
	json_out_bool(o, "rdma", true);
	json_out_end_object(o);
	put_seccomp(o);
	put_enabled(o, "apparmor");
	put_enabled(o, "selinux");
	json_out_object(o, "intelRdt");
	json_out_bool(o, "enabled", true);
	json_out_bool(o, "schemata", true);
	json_out_bool(o, "monitoring", true);
	json_out_end_object(o);
	json_out_object(o, "memoryPolicy");
	put_names(o, "modes", spec_known_mempolicy_modes());
	put_names(o, "flags", spec_known_mempolicy_flags());
	json_out_end_object(o);
	json_out_object(o, "mountExtensions");
	put_enabled(o, "idmap");
	json_out_end_object(o);
	put_enabled(o, "netDevices");
	json_out_end_object(o);
}

int cmd_features(const struct command *self, const struct globals *g, int argc, char **argv)
{
	static const char *const hooks[] = {"prestart", "createRuntime", "createContainer",
		"startContainer", "poststart", "poststop", NULL};
	static const char *const unsafe[] = {
		"org.systemd.property.", "io.caisson.", "run.oci.", "org.criu.config", NULL};
	const struct option_def defs[] = {{0}};
	struct arguments args = {.max = 0};
	_cleanup_json_out_ struct json_out o = {0};

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = json_out_init(&o, true);
	if (r < 0)
		return r;
	json_out_object(&o, NULL);
	json_out_str(&o, "ociVersionMin", "1.0.0");
	json_out_str(&o, "ociVersionMax", SPEC_VERSION);
	put_names(&o, "hooks", hooks);
	put_names(&o, "mountOptions", spec_known_mount_options());
	put_linux(&o);
	json_out_object(&o, "annotations");
	json_out_str(&o, "io.caisson.version", CAISSON_VERSION);
	json_out_end_object(&o);
	put_names(&o, "potentiallyUnsafeConfigAnnotations", unsafe);
	json_out_end_object(&o);
	return program_print_json(&o);
}
