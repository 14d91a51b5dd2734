/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gets what a machine boots from elsewhere. caisson-image does the work.
 *
 * If the disk is in a container image, as in KubeVirt's containerdisks (images/oci/image_disk.h),
 * caisson-image pulls the image if that is needed, unpacks it into the store, and reports which
 * disks are in it. If the kernel or the initramfs is on a web server or in an OCI artifact,
 * caisson-image fetches the file into the store.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/libexec.h"
#include "base/process.h"
#include "inside/machine.h"

#define ANSWER_MAX (1u << 20)

/* Runs caisson-image with these words. Appends its output to *out. Returns its exit code. */
static int run_image_tool(struct arena *a, const char *const *words, struct strbuf *out)
{
	const char *program;
	int ends[2], status, r = libexec_program(a, "caisson-image", &program);

	if (r < 0)
		return r;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	_cleanup_fd_ int from = ends[0], to = ends[1];
	pid_t pid = fork();
	if (pid < 0)
		return err_sys("make a process");
	if (pid == 0) {
		if (dup2(to, STDOUT_FILENO) >= 0)
			execv(program, (char *const *)words);
		fprintf(stderr, "caisson: execute %s: %s\n", program, strerror(errno));
		_exit(1);
	}
	fd_close(&to);
	r = fd_read_all(from, out, ANSWER_MAX, program);
	fd_close(&from);
	int e = process_wait(pid, program, &status);
	if (e < 0 || r < 0)
		return e < 0 ? e : r;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* how many words make_words() sets at most, the NULL at the end included */
#define WORDS_MAX 12

/* Makes the argument list of a command of caisson-image, which ends in NULL. */
static void make_words(
	const struct machine_options *o, const char *command, const char *what, const char **words)
{
	size_t n = 0;

	words[n++] = "caisson-image";
	if (o->store) {
		words[n++] = "--store";
		words[n++] = o->store;
	}
	if (o->quiet)
		words[n++] = "--quiet";
	words[n++] = command;
	if (o->platform && !streq(command, "fetch")) {
		words[n++] = "--platform";
		words[n++] = o->platform;
	}
	words[n++] = "--";
	words[n++] = what;
	words[n] = NULL;
}

/*
 * Gets the list of the disks in the image as `caisson image inspect` prints it: an array of {path,
 * file, size}.
 */
static int read_disks(struct arena *a, const struct machine_options *o, const struct json **ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	const char *words[WORDS_MAX];
	struct json *all;

	make_words(o, "inspect", o->image, words);
	int r = run_image_tool(a, words, &text);

	if (r == 0)
		r = json_parse(a, strbuf_str(&text), text.len, "the answer of caisson-image", &all);
	if (r == 0)
		*ret = json_get(all, "disks");
	return r;
}

/*
 * Sets the disk's format to the one that the end of its name says, unless --format is given. The
 * name NAME.img stands for raw as well as for qcow2, and KubeVirt reads the format from the
 * content. caisson does so for these disks, because no guest has written to a disk in an image, and
 * the disk may name no other files (--backing off).
 */
static int choose_format(struct machine_options *o, const char *path, const char *file)
{
	static const char qcow2[4] = "QFI\xfb";
	const char *dot = path ? strrchr(path, '.') : NULL;
	char magic[sizeof(qcow2)] = {0};

	if (o->look.format || !dot || !streq(dot, ".img"))
		return 0;
	_cleanup_fd_ int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || pread(fd, magic, sizeof(magic), 0) < 0)
		return err_sys("--disk image:%s: read %s", o->image, path);
	o->look.format = memcmp(magic, qcow2, sizeof(magic)) == 0 ? "qcow2" : "raw";
	return 0;
}

int machine_find_containerdisk(struct arena *a, struct machine_options *o)
{
	_cleanup_strbuf_ struct strbuf ignored = {0};
	const struct json *disks = NULL;
	const char *words[WORDS_MAX];

	make_words(o, "resolve", o->image, words);
	int r = run_image_tool(a, words, &ignored);
	if (r == 0)
		r = read_disks(a, o, &disks);
	if (r != 0)
		return r;
	if (!disks || !disks->first)
		return err_set(EINVAL,
			"--disk image:%s: it has no disk: expected a file /disk/NAME.qcow2, .raw "
			"or .img in its layers",
			o->image);
	if (disks->count > 1)
		return err_set(EINVAL,
			"--disk image:%s: it has %zu disks, and caisson boots images that have "
			"one: `caisson image inspect %s` lists the files, of which --disk takes "
			"one",
			o->image, (size_t)disks->count, o->image);
	/* Whoever made the image made its disk, so the disk may name no other files of the host. */
	if (!o->look.backing)
		o->look.backing = "off";
	o->disk = json_get_str(disks->first, "file");
	return o->disk ? choose_format(o, json_get_str(disks->first, "path"), o->disk)
		       : err_set(EPROTO, "--disk image:%s: malformed answer of caisson-image",
				 o->image);
}

int machine_fetch(struct arena *a, struct machine_options *o, const char **file)
{
	_cleanup_strbuf_ struct strbuf path = {0};
	const char *words[WORDS_MAX];

	if (!*file || !strstr(*file, "://"))
		return 0;
	make_words(o, "fetch", *file, words);
	int r = run_image_tool(a, words, &path);
	if (r != 0)
		return r;
	*file = arena_strndup(a, strbuf_str(&path), strcspn(strbuf_str(&path), "\n"));
	o->fetched = true;
	return *file ? 0 : -ENOMEM;
}
