/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This is the program caisson-registry, which caisson-image executes for the commands that speak
 * with registries.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/log.h"
#include "image/registry_commands.h"
#include "images/oci/http.h"

static const struct {
	const char *name;
	int (*run)(const struct image_command *self, const struct image_globals *g, int argc,
		char **argv);
} functions[] = {
	{"pull", image_cmd_pull},
	{"push", image_cmd_push},
	{"referrers", image_cmd_referrers},
	{"fetch", image_cmd_fetch},
	{"login", image_cmd_login},
	{"logout", image_cmd_logout},
};

static int run(const struct image_globals *g, int n, char **words)
{
	for (const struct image_command *c = image_registry_commands; c->name; c++)
		for (size_t i = 0; streq(c->name, words[0]) && i < ARRAY_SIZE(functions); i++)
			if (streq(functions[i].name, c->name))
				return functions[i].run(c, g, n - 1, words + 1);
	return err_set(EINVAL, "unknown command \"%.100s\"", words[0]);
}

int main(int argc, char **argv)
{
	struct image_globals g = {0};
	bool help;
	int r = 0;

	umask(022);
	signal(SIGPIPE, SIG_IGN);
	fd_survive_size_limit();
	int n = image_parse_globals(&g, argc - 1, argv + 1, &help);
	if (n < 0)
		return program_fail(n);
	if (help || n == 0)
		r = err_set(
			EINVAL, "caisson-registry is executed by `caisson image`: see its --help");
	argv[1 + (n < 0 ? 0 : n)] = NULL;
	if (r >= 0)
		r = http_init_library();
	if (r >= 0)
		r = run(&g, n, argv + 1);
	return r < 0 ? program_fail(r) : r;
}
