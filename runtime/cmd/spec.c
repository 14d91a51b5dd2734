/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"
#include "cmd/cmd.h"

/*
 * Creates config.json in the bundle. The file must not exist yet. If --file names another file,
 * that file is replaced, as in runc and crun.
 */
static int create_config(int dir, const char *bundle, const char *file)
{
	const char *name = file ? file : "config.json";
	int fd =
		openat(dir, name, O_WRONLY | O_CREAT | (file ? O_TRUNC : O_EXCL) | O_CLOEXEC, 0644);

	if (fd >= 0)
		return fd;
	if (errno == EEXIST)
		return err_set(
			EEXIST, "File %s exists. Remove it first (in the bundle %s)", name, bundle);
	return err_sys("create %s in %s", name, bundle);
}

int cmd_spec(const struct command *self, const struct globals *g, int argc, char **argv)
{
	const char *bundle = ".", *file = NULL;
	bool rootless = false;
	const struct option_def defs[] = {
		{"bundle", 'b', OPTION_STRING, &bundle, "DIR",
			"where to write it (default: this directory)"},
		{"file", 'f', OPTION_STRING, &file, "FILE",
			"file to write or replace there (default: config.json, never replaced)"},
		{"rootless", 0, OPTION_FLAG, &rootless, NULL,
			"for an ordinary user: a user namespace, the host's network"},
		{0},
	};
	struct arguments args = {.max = 0};
	char users[32], groups[32];
	_cleanup_json_out_ struct json_out o = {0};
	const char *text;
	size_t len;

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	snprintf(users, sizeof(users), "0 %u 1\n", geteuid());
	snprintf(groups, sizeof(groups), "0 %u 1\n", getegid());
	r = json_out_init(&o, true);
	if (r >= 0)
		r = spec_write_default(
			&o, rootless ? &(struct spec_user_maps){users, groups} : NULL);
	if (r >= 0)
		r = json_out_text(&o, &text, &len);
	if (r < 0)
		return r;
	_cleanup_fd_ int dir = open(bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_sys("--bundle %s", bundle);
	_cleanup_fd_ int fd = create_config(dir, bundle, file);
	if (fd < 0)
		return fd;
	r = fd_write_all(fd, text, len);
	if (r < 0) {
		errno = -r;
		r = err_sys("write %s in %s", file ? file : "config.json", bundle);
		if (!file)
			unlinkat(dir, "config.json", 0);
	}
	return r;
}
