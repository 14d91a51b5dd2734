/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds an image in the store by the name that a user gave, and pulls the image first if the store
 * does not have it.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/libexec.h"
#include "base/process.h"
#include "image/image.h"
#include "image/registry_commands.h"
#include "images/oci/reference.h"

#define NAME_MAX_BYTES 4096 /* most bytes of the name that caisson-registry prints */

/*
 * Looks for the image as it is named, then with the tag "latest" if the name has no tag, and then
 * with the registry docker.io if the name has no registry. Returns -ENOENT without a message if the
 * store has no image of any of these names.
 */
static int find_local(const struct store *s, struct arena *a, const char *name, const char **ret)
{
	const char *names[3] = {name};
	struct reference given, full;
	struct descriptor d;
	const char *tag;
	size_t n = 1;

	int r = reference_parse(a, name, &given);
	if (r == -ENOMEM)
		return r;
	if (r >= 0)
		names[n++] = reference_text(a, &given);
	if (r >= 0 && !given.host) {
		r = reference_at(a, REFERENCE_DOCKER_HOST, &given, &full);
		if (r < 0)
			return r;
		names[n++] = reference_text(a, &full);
	}
	/* a name that reference_parse() refuses is no error here, because it may be a digest */
	err_clear();
	r = -ENOENT;
	for (size_t i = 0; i < n && r == -ENOENT; i++) {
		if (!names[i])
			return -ENOMEM;
		r = image_find(s, a, names[i], &tag, &d);
		*ret = names[i];
	}
	return r;
}

/*
 * Executes `caisson-registry pull` in the child process of pull(). The child's standard output is
 * the pipe `out`, through which pull() reads the name of the pulled image.
 */
static _Noreturn void run_pull(const struct image_globals *g, const struct store *s,
	const char *program, const char *name, const char *platform, int out)
{
	const char *argv[12] = {program, "--store", s->path};
	size_t n = 3;

	if (g->quiet)
		argv[n++] = "--quiet";
	if (g->no_sync)
		argv[n++] = "--no-sync";
	argv[n++] = "pull";
	if (platform) {
		argv[n++] = "--platform";
		argv[n++] = platform;
	}
	argv[n++] = "--";
	argv[n++] = name;
	if (dup2(out, STDOUT_FILENO) >= 0)
		execv(program, (char **)(uintptr_t)argv);
	_exit(127);
}

/*
 * Reads from fd the name that `caisson-registry pull` prints, which is the tag of the pulled image
 * in the store.
 */
static int read_name(int fd, struct arena *a, const char **ret)
{
	char text[NAME_MAX_BYTES];
	size_t len = 0;
	ssize_t n;

	while (len < sizeof(text) - 1 && (n = read(fd, text + len, sizeof(text) - 1 - len)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys("read the name of the pulled image");
		len += (size_t)n;
	}
	text[len] = '\0';
	text[strcspn(text, "\n")] = '\0';
	*ret = arena_strdup(a, text);
	return *ret ? 0 : -ENOMEM;
}

/*
 * Runs `caisson-registry pull` to fetch the image into the store. Progress and errors of
 * caisson-registry go to standard error.
 */
static int pull(const struct image_globals *g, const struct store *s, struct arena *a,
	const char *name, const char *platform, const char **ret)
{
	_cleanup_fd_ int in = -EBADF, out = -EBADF;
	const char *program;
	int ends[2], status = 0;

	int r = libexec_program(a, REGISTRY_PROGRAM, &program);
	if (r < 0)
		return err_ctx(r, "image \"%.200s\" is not in the store %s, and cannot be pulled",
			name, s->path);
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	in = ends[0];
	out = ends[1];
	pid_t pid = fork();
	if (pid < 0)
		return err_sys("fork");
	if (pid == 0)
		run_pull(g, s, program, name, platform, out);
	fd_close(&out);
	r = read_name(in, a, ret);
	int e = process_wait(pid, REGISTRY_PROGRAM, &status);
	if (e < 0)
		return e;
	if (r >= 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || !**ret))
		return err_set(EIO,
			"image \"%.200s\" is not in the store %s, and pulling it failed: see "
			"above, "
			"or import it with `caisson image import`",
			name, s->path);
	return r;
}

int image_get(const struct image_globals *g, const struct store *s, struct arena *a,
	const char *name, const struct platform *platform, struct image *ret)
{
	const char *found = name, *wanted = NULL;

	int r = find_local(s, a, name, &found);
	if (r == -ENOENT) {
		if (platform)
			wanted = arena_printf(a, "%s/%s%s%s", platform->os, platform->architecture,
				platform->variant ? "/" : "",
				platform->variant ? platform->variant : "");
		r = pull(g, s, a, name, wanted, &found);
	}
	return r < 0 ? r : image_open(s, a, found, platform, ret);
}
