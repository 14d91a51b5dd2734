/* SPDX-License-Identifier: Apache-2.0 */
#include <limits.h>
#include <stdio.h>
#include <sys/utsname.h>

#include "base/path.h"
#include "step/step.h"

/* longest host name and longest domain name in bytes (64) */
#define UTS_MAX (sizeof(((struct utsname *)0)->nodename) - 1)

static int uts_error(const char *name)
{
	if (errno == EPERM)
		return err_sys("\"%s\": needs a UTS namespace of the container's own: add "
			       "{\"type\": \"uts\"} to linux.namespaces",
			name);
	if (errno == EINVAL)
		return err_sys("\"%s\" is %zu bytes long: the kernel takes at most %zu", name,
			strlen(name), UTS_MAX);
	return err_sys("\"%s\"", name);
}

int step_hostname(struct step_ctx *c, const struct step *s)
{
	return sethostname(s->text, strlen(s->text)) < 0 ? uts_error(s->text) : 0;
}

int step_domainname(struct step_ctx *c, const struct step *s)
{
	return setdomainname(s->text, strlen(s->text)) < 0 ? uts_error(s->text) : 0;
}

/* Writes the path of the file of the sysctl `key`, below /proc, into ret. */
static int sysctl_path(const char *key, char *ret, size_t size)
{
	if (snprintf(ret, size, "sys/%s", key) >= (int)size)
		return err_set(ENAMETOOLONG, "\"%.64s...\": the name is too long", key);
	if (!spec_sysctl_path(ret + strlen("sys/")))
		return err_set(EINVAL,
			"\"%s\" is not the name of a kernel parameter: expected a name such as "
			"net.core.somaxconn",
			key);
	return 0;
}

int step_sysctl(struct step_ctx *c, const struct step *s)
{
	const char *key = s->pair.key, *value = s->pair.value;
	char path[PATH_MAX];

	int r = sysctl_path(key, path, sizeof(path));
	if (r < 0)
		return r;
	r = path_write_proc(c->proc, path, value);
	if (r >= 0)
		return 0;
	switch (-r) {
	case ENOENT:
		return err_set(ENOENT,
			"\"%s\": the kernel has no such parameter in the container's namespaces: "
			"check the name, and whether the module that has the parameter is loaded",
			key);
	case EINVAL:
	case ERANGE:
		return err_set(-r, "\"%s\": the kernel does not take the value \"%s\"", key, value);
	case EACCES:
	case EPERM:
		return err_set(-r,
			"\"%s\": this parameter cannot be written from the container's namespaces: "
			"add the namespace that the parameter belongs to (ipc, network, uts) to "
			"linux.namespaces",
			key);
	default:
		return err_ctx(r, "\"%s\"", key);
	}
}
