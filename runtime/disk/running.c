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

/* Sets *ret to the id of the container that has the file as vm.image, or to NULL. */
static int find_user(const char *root, const char *path, char **ret)
{
	struct stat st;
	int r = 0;

	*ret = NULL;
	if (stat(path, &st) < 0)
		return err_sys("%s", path);
	DIR *d = opendir(root);
	if (!d)
		return errno == ENOENT ? 0 : err_sys("list %s", root);
	for (struct dirent *e; r == 0 && (e = readdir(d));) {
		r = e->d_name[0] == '.' ? 0 : uses_file(dirfd(d), e->d_name, &st);
		if (r > 0 && !(*ret = strdup(e->d_name)))
			r = -ENOMEM;
	}
	closedir(d);
	return r < 0 ? r : 0;
}

int tool_resize_running(const char *path, uint64_t size)
{
	const char *runtime = getenv(RUNTIME_VARIABLE), *root = getenv(STATE_VARIABLE);
	_cleanup_helper_streams_ struct helper_streams s = HELPER_STREAMS_INIT;
	_cleanup_strbuf_ struct strbuf errors = {0};
	_cleanup_free_ char *id = NULL;
	char text[32];
	int status;

	int r = runtime && root ? find_user(root, path, &id) : 0;
	if (r < 0 || !id)
		return r;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)size);
	r = helper_streams_open(&s, "", 0);
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
	return err_set(EIO, "%s is used by container \"%s\": %s", path, id,
		errors.len ? helper_last_line(&errors) : "caisson update failed");
}
