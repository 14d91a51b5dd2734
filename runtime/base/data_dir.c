/* SPDX-License-Identifier: Apache-2.0 */
#include "base/data_dir.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int data_dir_find(char *buf, size_t size)
{
	if (geteuid() != 0)
		return data_dir_of_user(buf, size);
	return snprintf(buf, size, "/var/lib/caisson") >= (int)size
		       ? err_set(ENAMETOOLONG, "no room for the path of the directory")
		       : 0;
}

int data_dir_of_user(char *buf, size_t size)
{
	const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	int n;

	if (data && *data == '/')
		n = snprintf(buf, size, "%s/caisson", data);
	else if (home && *home == '/')
		n = snprintf(buf, size, "%s/.local/share/caisson", home);
	else
		return err_set(EINVAL, "neither HOME nor XDG_DATA_HOME is an absolute path");
	return n >= (int)size ? err_set(ENAMETOOLONG, "HOME or XDG_DATA_HOME is too long") : 0;
}

int data_dir_make(const char *path)
{
	char prefix[PATH_MAX];
	size_t len = strlen(path);

	if (len == 0 || len >= sizeof(prefix))
		return err_set(ENAMETOOLONG, "the path of the directory is empty or too long");
	for (size_t i = 1; i <= len; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(prefix, path, i);
		prefix[i] = '\0';
		if (mkdir(prefix, 0700) < 0 && errno != EEXIST)
			return err_sys("create %s", prefix);
	}
	return 0;
}
