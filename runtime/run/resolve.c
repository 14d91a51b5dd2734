/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/wait.h>
#include <unistd.h>

#include "base/libexec.h"
#include "base/process.h"
#include "run/prepare.h"

#define PROGRAM "caisson-image"

struct words {
	const char *v[16];
	size_t n;
};

static void add(struct words *w, const char *word)
{
	w->v[w->n++] = word;
}

static void begin(struct words *w, const struct run_options *o, const struct store *s)
{
	add(w, PROGRAM);
	add(w, "--store");
	add(w, s->path);
	if (o->quiet)
		add(w, "--quiet");
	if (o->debug)
		add(w, "--debug");
}

static void add_image(struct words *w, const struct run_options *o, const char *image)
{
	if (o->platform) {
		add(w, "--platform");
		add(w, o->platform);
	}
	add(w, "--");
	add(w, image);
}

/* Runs caisson-image with these words. Returns 1 if it failed; it has printed why. */
static int run(const struct words *w)
{
	_cleanup_arena_ struct arena a = {0};
	const char *path;
	int status;
	int r = libexec_program(&a, PROGRAM, &path);

	if (r < 0)
		return r;
	if (access(path, X_OK) < 0)
		return err_sys(
			"execute %s (build caisson with OpenSSL, zstd, ISA-L and libarchive, "
			"or set " LIBEXEC_VARIABLE " to the directory it is in)",
			path);
	pid_t pid = fork();
	if (pid == 0) {
		/*
		 * The output of caisson-image goes to standard error, because standard output is
		 * for the output of the container.
		 */
		dup2(STDERR_FILENO, STDOUT_FILENO);
		execv(path, (char *const *)w->v);
		_exit(127);
	}
	if (pid < 0)
		return err_sys("make a process");
	r = process_wait(pid, PROGRAM, &status);
	if (r < 0)
		return r;
	return status == 0 ? 0 : 1;
}

int run_helper_resolve(const struct run_options *o, const struct store *s)
{
	struct words w = {0};

	begin(&w, o, s);
	add(&w, "resolve");
	if (run_uses_erofs(o)) {
		add(&w, "--root-disk");
		add(&w, "erofs");
	}
	add_image(&w, o, o->image);
	return run(&w);
}

int run_helper_unpack(
	const struct run_options *o, const struct store *s, const char *tag, const char *directory)
{
	struct words w = {0};

	begin(&w, o, s);
	add(&w, "unpack");
	add_image(&w, o, tag);
	add(&w, directory);
	return run(&w);
}
