/* SPDX-License-Identifier: Apache-2.0 */
#include "netsetup/host/host_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>

/* Makes a directory and its parents with the mode 0755, and opens the directory. */
static int make_directory(const char *path)
{
	_cleanup_free_ char *copy = strdup(path);
	int fd;

	if (!copy)
		return err_set(ENOMEM, "no memory");
	for (char *p = copy + 1; *p; p++)
		if (*p == '/') {
			*p = '\0';
			if (mkdir(copy, 0755) < 0 && errno != EEXIST)
				return err_sys("make the directory %s", copy);
			*p = '/';
		}
	if (mkdir(copy, 0755) < 0 && errno != EEXIST)
		return err_sys("make the directory %s", copy);
	fd = open(copy, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? err_sys("open the directory %s", copy) : fd;
}

/*
 * Opens a directory, and makes it if `keep` is not set. If `keep` is set and the directory does not
 * exist, returns 0 with *ret < 0.
 */
static int open_directory(const char *path, bool keep, int *ret)
{
	if (!keep) {
		*ret = make_directory(path);
		return *ret < 0 ? *ret : 0;
	}
	*ret = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *ret < 0 && errno != ENOENT ? err_sys("open the directory %s", path) : 0;
}

static int take_lock(struct host *h, int how)
{
	while (flock(h->lock, how) < 0)
		if (errno != EINTR)
			return err_sys("lock the file lock of the state directory");
	return 0;
}

int host_open(struct host *h, const struct host_options *o)
{
	const char *config = o->config ? o->config : HOST_CONFIG;
	const char *state = o->state ? o->state : HOST_STATE;
	bool keep = o->read_only || o->dry_run;

	h->dry_run = o->dry_run;
	int r = open_directory(config, keep, &h->config_dir);
	if (r >= 0)
		r = open_directory(state, keep, &h->state_dir);
	if (r >= 0)
		r = nl_open(&h->nl, -EBADF);
	if (r < 0 || h->state_dir < 0)
		return r;
	h->lock = openat(h->state_dir, "lock",
		keep ? O_RDONLY | O_CLOEXEC : O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (h->lock < 0)
		return keep && errno == ENOENT ? 0 : err_sys("open %s/lock", state);
	return take_lock(h, keep ? LOCK_SH : LOCK_EX);
}

void host_pause(struct host *h)
{
	if (h->lock >= 0)
		(void)flock(h->lock, LOCK_UN);
}

int host_resume(struct host *h)
{
	return h->lock < 0 ? 0 : take_lock(h, LOCK_EX);
}

void host_close(struct host *h)
{
	nl_close(&h->nl);
	fd_close(&h->lock);
	fd_close(&h->state_dir);
	fd_close(&h->config_dir);
	strbuf_release(&h->changes);
	arena_release(&h->arena);
	nft_close(h);
}

bool host_skips(struct host *h, const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	if (!h->dry_run)
		return false;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (strbuf_addf(&h->changes, "%s\n", line) < 0)
		err_clear();
	return true;
}
