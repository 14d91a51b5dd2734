/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the disks of volumes in the pool "qcow2", and reads their sizes, by the programs mkfs.ext4
 * and caisson-disk.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/helper.h"
#include "base/json.h"
#include "images/oci/volumes_internal.h"

#define RAW "disk.raw" /* temporary file in which mkfs.ext4 makes the file system */
#define OUTPUT_MAX 65536

static const char *find_mkfs(void)
{
	static const char *const paths[] = {
		"/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4", "/usr/bin/mkfs.ext4"};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		if (access(paths[i], X_OK) == 0)
			return paths[i];
	return NULL;
}

/* Runs a program. Its standard output is appended to *ret, unless ret is NULL. */
static int run(const char *const *argv, struct strbuf *ret)
{
	_cleanup_helper_streams_ struct helper_streams s = HELPER_STREAMS_INIT;
	_cleanup_strbuf_ struct strbuf errors = {0};
	int status;

	int r = helper_streams_open(&s, "", 0);
	if (r >= 0)
		r = helper_run(&s, argv[0], argv, &status);
	if (r >= 0)
		r = helper_read(&s, 2, &errors, OUTPUT_MAX);
	if (r < 0)
		return r;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return err_set(EIO, "%s: %s", argv[0],
			errors.len ? helper_last_line(&errors) : "it failed");
	return ret ? helper_read(&s, 1, ret, OUTPUT_MAX) : 0;
}

int volume_disk_make(struct arena *a, int dir, const char *path, const struct volume_disk *d)
{
	const char *mkfs = find_mkfs();
	const char *raw = arena_printf(a, "%s/" RAW, path);
	const char *disk = arena_printf(a, "%s/" VOLUME_DISK, path);

	if (!mkfs)
		return err_set(ENOENT, "--pool qcow2: there is no mkfs.ext4, which makes the "
				       "volume's file system: "
				       "install e2fsprogs");
	if (!raw || !disk)
		return -ENOMEM;
	_cleanup_fd_ int fd = openat(dir, RAW, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || d->size > INT64_MAX || ftruncate(fd, (off_t)d->size) < 0)
		return err_sys(
			"make a file of %llu bytes in %s", (unsigned long long)d->size, path);
	int r = run((const char *const[]){mkfs, "-q", "-F", "-m", "0", "-E",
			    "root_owner=0:0,lazy_itable_init=1,nodiscard", raw, NULL},
		NULL);
	if (r >= 0)
		r = run((const char *const[]){d->tool, "convert", "-q", "-f", "raw", "-O", "qcow2",
				raw, disk, NULL},
			NULL);
	if (r >= 0 && unlinkat(dir, RAW, 0) < 0)
		r = err_sys("remove %s", raw);
	return r;
}

int volume_disk_size(struct arena *a, const char *path, const char *tool, uint64_t *ret)
{
	_cleanup_strbuf_ struct strbuf out = {0};
	struct json *info;

	int r = run((const char *const[]){tool, "info", "--force-share", "--output", "json", "-f",
			    "qcow2", path, NULL},
		&out);
	if (r >= 0)
		r = json_parse(a, strbuf_str(&out), out.len, "the disk's size", &info);
	if (r >= 0 && json_get_u64(info, "virtual-size", ret) < 0)
		r = err_set(EBADMSG, "%s: caisson-disk did not say its size", path);
	return r;
}

int volume_find_disk(const struct store *s, struct arena *a, const char *name, const char **ret)
{
	struct volume v;
	int r = volume_read_own(s, a, name, &v);

	*ret = NULL;
	if (r == -ENOENT) {
		err_clear();
		return 0;
	}
	if (r >= 0 && v.disk)
		*ret = v.path;
	return r;
}
