/* SPDX-License-Identifier: Apache-2.0 */
/* Opens for appending the files to which hooks write, as crun does. */
#include "launch/hook_output.h"

#include "base/fd.h"

static const char *const annotations[] = {"run.oci.hooks.stdout", "run.oci.hooks.stderr"};

void hook_output_close(struct hook_output *o)
{
	fd_close(&o->fd[0]);
	fd_close(&o->fd[1]);
}

int hook_output_open(struct hook_output *o, const struct spec *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(annotations); i++) {
		const char *path = spec_annotation(s, annotations[i]);

		if (!path)
			continue;
		if (path[0] != '/')
			return err_set(EINVAL,
				"annotation %s: expected an absolute path, found \"%s\"",
				annotations[i], path);
		_cleanup_fd_ int fd = open(path,
			O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
		/*
		 * O_NONBLOCK was set so that opening a FIFO without a reader would not wait. It is
		 * cleared now, because the hook's writes may wait.
		 */
		if (fd >= 0 && fcntl(fd, F_SETFL, O_APPEND) < 0)
			return err_sys("annotation %s: fcntl", annotations[i]);
		/*
		 * The file's descriptor is moved to 3 or above, because 0 to 2 will be the hook's
		 * own standard streams. The descriptor can be below 3 if caisson was started with a
		 * closed standard stream.
		 */
		o->fd[i] = fd < 0 ? -errno : fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (o->fd[i] < 0)
			return err_sys("annotation %s: open %s", annotations[i], path);
	}
	return 0;
}
