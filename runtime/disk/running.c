/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the microVM that runs with an image, and lets its monitor resize the disk, because nobody
 * else may write to an image that a machine uses.
 */
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/dir.h"
#include "base/helper.h"
#include "base/libexec.h"
#include "disk/tool.h"

#define CONFIG_MAX (16U << 20)

/* Says whether vm.image of the container `id`, whose state is below `root`, is the file *st. */
static int uses_file(int root, const char *id, const struct stat *st)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf text = {0};
	struct json *config;
	struct stat theirs;
	char name[NAME_MAX + 16];

	snprintf(name, sizeof(name), "%s/config.json", id);
	_cleanup_fd_ int fd = openat(root, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : err_sys("open %s", name);
	int r = fd_read_all(fd, &text, CONFIG_MAX, name);
	if (r >= 0)
		r = json_parse(&a, strbuf_str(&text), text.len, name, &config);
	if (r < 0)
		return r;
	const char *path = json_get_str(json_get(json_get(config, "vm"), "image"), "path");
	return path && stat(path, &theirs) == 0 && theirs.st_dev == st->st_dev &&
	       theirs.st_ino == st->st_ino;
}

/*
 * Lets the container `id` resize its disk. Returns 1 if it has done so, or 0 and appends the reason
 * to *why if not.
 */
static int update(const char *root, const char *id, uint64_t size, struct strbuf *why)
{
	_cleanup_helper_streams_ struct helper_streams s = HELPER_STREAMS_INIT;
	_cleanup_strbuf_ struct strbuf errors = {0};
	const char *runtime = getenv(RUNTIME_VARIABLE);
	char text[32];
	int status;

	snprintf(text, sizeof(text), "%llu", (unsigned long long)size);
	int r = helper_streams_open(&s, "", 0);
	if (r >= 0)
		r = helper_run(&s, runtime,
			(const char *const[]){
				runtime, "--root", root, "update", "--disk-size", text, id, NULL},
			&status);
	if (r >= 0)
		r = helper_read(&s, 2, &errors, ERR_MAX);
	if (r < 0)
		return r;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 1;
	r = strbuf_addf(why, "%s by container \"%s\": %s", why->len ? "; and" : " is used", id,
		errors.len ? helper_last_line(&errors) : "caisson update failed");
	return r < 0 ? r : 0;
}

int tool_resize_running(const char *path, uint64_t size)
{
	const char *root = getenv(STATE_VARIABLE);
	_cleanup_strbuf_ struct strbuf why = {0};
	struct stat st;
	int r = 0;

	if (!getenv(RUNTIME_VARIABLE) || !root)
		return 0;
	if (stat(path, &st) < 0)
		return err_sys("%s", path);
	DIR *d = opendir(root);
	if (!d)
		return errno == ENOENT ? 0 : err_sys("list %s", root);
	/* A container that does not run may have the image too, so one after the other is asked. */
	for (struct dirent *e; r == 0 && (e = readdir(d));) {
		r = e->d_name[0] == '.' ? 0 : uses_file(dirfd(d), e->d_name, &st);
		if (r > 0)
			r = update(root, e->d_name, size, &why);
	}
	closedir(d);
	if (r == 0 && why.len)
		return err_set(EIO, "%s%s", path, strbuf_str(&why));
	return r;
}
