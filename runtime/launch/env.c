/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/env.h"

#include <stdlib.h>
#include <unistd.h>

/*
 * LISTEN_FDS is only valid for the process whose pid is in LISTEN_PID (sd_listen_fds(3)). If
 * LISTEN_PID names another process or is missing, LISTEN_FDS is a leftover of an ancestor whose
 * descriptors are closed by now. conmon sets LISTEN_PID to the runtime's pid. Some callers set it
 * to 1, which means the container's first process.
 */
int launch_listen_fds(void)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	uint64_t n, p;

	if (!pid || !fds || str_to_u64(fds, &n) < 0 || n > 4096)
		return 0;
	if (str_to_u64(pid, &p) < 0 || (p != (uint64_t)getpid() && p != 1))
		return 0;
	return (int)n;
}

/*
 * The container's session keyring has the name that runc gives it, so that tools which look for
 * runc's name find the keyring.
 */
const char *launch_keyring(struct container *c)
{
	return arena_printf(&c->arena, "_ses.%s", c->id);
}

static bool is_var(const char *entry, const char *name)
{
	size_t len = strlen(name);

	return strncmp(entry, name, len) == 0 && entry[len] == '=';
}

int launch_env(struct arena *a, const struct spec_process *p, const struct plan_env *env,
	char *const **ret)
{
	static const char *const replaced[] = {
		"NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"};
	int listen_fds = launch_listen_fds();
	const char *names = getenv("LISTEN_FDNAMES");
	size_t n = 0;

	*ret = NULL;
	if (!p || (!listen_fds && !env->notify_dir))
		return 0;
	char **out = arena_array(a, p->env.n + ARRAY_SIZE(replaced) + 1, sizeof(*out));
	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < p->env.n; i++) {
		bool drop = false;
		for (size_t k = 0; k < ARRAY_SIZE(replaced); k++)
			drop |= is_var(p->env.v[i], replaced[k]) &&
				(k == 0 ? env->notify_dir != NULL : listen_fds > 0);
		if (!drop)
			out[n++] = (char *)p->env.v[i];
	}
	if (env->notify_dir)
		out[n++] = arena_strdup(a, "NOTIFY_SOCKET=" PLAN_NOTIFY_SOCKET);
	if (listen_fds) {
		out[n++] = arena_printf(a, "LISTEN_FDS=%d", listen_fds);
		out[n++] = arena_strdup(a, "LISTEN_PID=1");
		if (names)
			out[n++] = arena_printf(a, "LISTEN_FDNAMES=%s", names);
	}
	for (size_t i = 0; i < n; i++)
		if (!out[i])
			return -ENOMEM;
	*ret = out;
	return 0;
}
