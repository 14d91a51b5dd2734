/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <unistd.h>

#include "cmd.h"
#include "fd.h"

int cmd_spec(const struct command *self, const struct globals *g, int argc, char **argv)
{
	const char *bundle = ".";
	bool rootless = false;
	const struct option_def defs[] = {
		{"bundle", 'b', OPTION_STRING, &bundle, "DIR",
			"where to write it (default: this directory)"},
		{"rootless", 0, OPTION_FLAG, &rootless, NULL,
			"for an ordinary user: a user namespace, the host's network"},
		{0},
	};
	struct arguments args = {.max = 0};
	_cleanup_json_out_ struct json_out o = {0};
	const char *text;
	size_t len;

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = json_out_init(&o, true);
	if (r >= 0)
		r = spec_write_default(&o, rootless, geteuid(), getegid());
	if (r >= 0)
		r = json_out_text(&o, &text, &len);
	if (r < 0)
		return r;
	_cleanup_fd_ int dir = open(bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_sys("--bundle %s", bundle);
	_cleanup_fd_ int fd =
		openat(dir, "config.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 && errno == EEXIST)
		return err_set(EEXIST, "%s/config.json exists: remove it first", bundle);
	if (fd < 0)
		return err_sys("create %s/config.json", bundle);
	r = fd_write_all(fd, text, len);
	if (r < 0) {
		errno = -r;
		r = err_sys("write %s/config.json", bundle);
		unlinkat(dir, "config.json", 0);
	}
	return r;
}
