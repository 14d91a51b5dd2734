/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks linux.sysctl. A sysctl may be set for a container only if a namespace of the container
 * holds the sysctl, because otherwise setting it would change the host. The list of such sysctls is
 * that of runc, which follows the kernel.
 */
#include "spec/parse.h"

/*
 * Each sysctl that a container may set, with the type of namespace that holds the sysctl. A name
 * that ends in a dot stands for all sysctls below it.
 */
static const struct {
	const char *name;
	enum spec_ns ns;
	const char *ns_name;
} namespaced[] = {
	{"kernel.msgmax", SPEC_NS_IPC, "an ipc"},
	{"kernel.msgmnb", SPEC_NS_IPC, "an ipc"},
	{"kernel.msgmni", SPEC_NS_IPC, "an ipc"},
	{"kernel.sem", SPEC_NS_IPC, "an ipc"},
	{"kernel.shm_rmid_forced", SPEC_NS_IPC, "an ipc"},
	{"kernel.shmall", SPEC_NS_IPC, "an ipc"},
	{"kernel.shmmax", SPEC_NS_IPC, "an ipc"},
	{"kernel.shmmni", SPEC_NS_IPC, "an ipc"},
	{"fs.mqueue.", SPEC_NS_IPC, "an ipc"},
	{"net.", SPEC_NS_NETWORK, "a network"},
	{"kernel.domainname", SPEC_NS_UTS, "a uts"},
	{"kernel.hostname", SPEC_NS_UTS, "a uts"},
	{"user.", SPEC_NS_USER, "a user"},
};

/*
 * Returns a copy of a sysctl's name, turned into a path below /proc/sys. *ret_valid, if ret_valid
 * is not NULL, says whether the name is valid.
 */
static char *sysctl_path(struct arena *a, const char *name, bool *ret_valid)
{
	char *path = arena_strdup(a, name);
	bool valid = path && spec_sysctl_path(path);

	if (ret_valid)
		*ret_valid = valid;
	return path;
}

/*
 * Returns whether `path` (with slashes) is the sysctl `name` (with dots), or lies below `name` if
 * that ends in a dot.
 */
static bool is_or_below(const char *path, const char *name)
{
	for (; *name; name++, path++)
		if (*path != (*name == '.' ? '/' : *name))
			return false;
	return !*path || path[-1] == '/';
}

static int check_sysctl_name(struct parser *p, const struct spec *s, const char *name)
{
	bool valid;
	char *path = sysctl_path(p->arena, name, &valid);

	if (!path)
		return -ENOMEM;
	if (!valid)
		return parse_error_at(p, "sysctl",
			"expected names such as \"net.ipv4.ip_forward\", found \"%.80s\"", name);
	for (size_t i = 0; i < ARRAY_SIZE(namespaced); i++) {
		if (!is_or_below(path, namespaced[i].name))
			continue;
		if (s->ns[namespaced[i].ns].set)
			return 0;
		return parse_error_at(p, "sysctl",
			"\"%.80s\" is not allowed without %s namespace in linux.namespaces: it "
			"would change the host's",
			name, namespaced[i].ns_name);
	}
	return parse_error_at(p, "sysctl",
		"\"%.80s\" is not allowed: it is not in a separate kernel namespace, so it would "
		"change the host's",
		name);
}

int spec_check_sysctl(struct parser *p, const struct spec *s)
{
	for (size_t i = 0; i < s->sysctl.n; i++) {
		int r = check_sysctl_name(p, s, s->sysctl.v[i].key);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * Checks that linux.sysctl and the properties hostname and domainname ask for the same values,
 * because the kernel has only one host name and one domain name. kernel.hostname is refused if the
 * property hostname is not set, as with runc and crun.
 */
int spec_check_uts_sysctl(struct parser *p, const struct spec *s)
{
	for (size_t i = 0; i < s->sysctl.n; i++) {
		const struct spec_pair *v = &s->sysctl.v[i];
		char *path = sysctl_path(p->arena, v->key, NULL);
		if (!path)
			return -ENOMEM;
		if (streq(path, "kernel/hostname") &&
			(!s->hostname || !streq(s->hostname, v->value)))
			return parse_error(p,
				"linux.sysctl: kernel.hostname is not allowed here: use the "
				"property hostname, which is \"%.80s\"",
				s->hostname ? s->hostname : "");
		if (streq(path, "kernel/domainname") && s->domainname &&
			!streq(s->domainname, v->value))
			return parse_error(p,
				"linux.sysctl: expected \"%.80s\" for kernel.domainname, because "
				"the property domainname says so, found \"%.80s\"",
				s->domainname, v->value);
	}
	return 0;
}

bool spec_sysctl_is_of(struct arena *a, const char *key, enum spec_ns ns)
{
	const char *path = sysctl_path(a, key, NULL);

	for (size_t k = 0; path && k < ARRAY_SIZE(namespaced); k++)
		if (namespaced[k].ns == ns && is_or_below(path, namespaced[k].name))
			return true;
	return false;
}

const char *spec_sysctl_of(struct arena *a, const struct spec *s, enum spec_ns ns)
{
	for (size_t i = 0; i < s->sysctl.n; i++)
		if (spec_sysctl_is_of(a, s->sysctl.v[i].key, ns))
			return s->sysctl.v[i].key;
	return NULL;
}
