/* SPDX-License-Identifier: Apache-2.0 */
/* Implements the commands ls, cat, df and shell in the guest. */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "base/path.h"
#include "inside/inside.h"

#define BUFFER (256u << 10)
#define DEPTH_MAX 256

static int flush(void)
{
	return fflush(stdout) == 0 && !ferror(stdout) ? 0 : err_sys("write to standard output");
}

/*
 * Prints the name of a file. On a terminal, control characters in the name are replaced, because a
 * hostile disk could otherwise control the terminal.
 */
static void put_name(const struct inside_guest *g, const char *name)
{
	for (const char *p = name; *p; p++)
		putchar(g->options.quote && ((unsigned char)*p < ' ' || *p == 127) ? '?' : *p);
}

static void mode_text(mode_t mode, char text[11])
{
	const char *bits = "rwxrwxrwx";

	text[0] = S_ISDIR(mode)    ? 'd'
		  : S_ISLNK(mode)  ? 'l'
		  : S_ISCHR(mode)  ? 'c'
		  : S_ISBLK(mode)  ? 'b'
		  : S_ISFIFO(mode) ? 'p'
		  : S_ISSOCK(mode) ? 's'
				   : '-';
	for (int i = 0; i < 9; i++)
		text[1 + i] = mode & (0400u >> i) ? bits[i] : '-';
	if (mode & S_ISUID)
		text[3] = text[3] == 'x' ? 's' : 'S';
	if (mode & S_ISGID)
		text[6] = text[6] == 'x' ? 's' : 'S';
	if (mode & S_ISVTX)
		text[9] = text[9] == 'x' ? 't' : 'T';
	text[10] = '\0';
}

static void put_long(const struct inside_guest *g, int dir, const char *name, const char *shown,
	const struct stat *st)
{
	char mode[11], when[32], size[32], target[PATH_MAX];
	struct tm t;

	mode_text(st->st_mode, mode);
	if (!gmtime_r(&st->st_mtime, &t) || !strftime(when, sizeof(when), "%F %T", &t))
		snprintf(when, sizeof(when), "%lld", (long long)st->st_mtime);
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
		snprintf(size, sizeof(size), "%u,%u", major(st->st_rdev), minor(st->st_rdev));
	else
		snprintf(size, sizeof(size), "%lld", (long long)st->st_size);
	printf("%s %3lu %5u %5u %10s %s ", mode, (unsigned long)st->st_nlink, st->st_uid,
		st->st_gid, size, when);
	put_name(g, shown);
	if (S_ISLNK(st->st_mode)) {
		ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);
		target[n < 0 ? 0 : n] = '\0';
		printf(" -> ");
		put_name(g, target);
	}
}

static int put_file(const struct inside_guest *g, int dir, const char *name, const char *shown)
{
	struct stat st;

	if (g->options.is_long) {
		if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return err_sys("look at %s", shown);
		put_long(g, dir, name, shown, &st);
	} else {
		put_name(g, shown);
	}
	putchar('\n');
	return 0;
}

static int list_dir(const struct inside_guest *g, int dir, const char *path, unsigned depth);

static int list_entry(
	const struct inside_guest *g, int dir, const char *name, const char *path, unsigned depth)
{
	char shown[PATH_MAX];
	struct stat st;

	if (snprintf(shown, sizeof(shown), "%s%s%s", path, *path ? "/" : "", name) >=
		(int)sizeof(shown))
		return err_set(ENAMETOOLONG, "%.500s/...: the name is too long", path);
	int r = put_file(g, dir, name, shown);
	if (r < 0 || !g->options.recursive)
		return r;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys("look at %s", shown);
	if (!S_ISDIR(st.st_mode))
		return 0;
	_cleanup_fd_ int below = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return below < 0 ? err_sys("open %s", shown) : list_dir(g, below, shown, depth + 1);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int list_dir(const struct inside_guest *g, int dir, const char *path, unsigned depth)
{
	struct dirent **list;
	int r = 0;

	if (depth > DEPTH_MAX)
		return err_set(
			ELOOP, "%.500s: more than %d directories in each other", path, DEPTH_MAX);
	int n = scandirat(dir, ".", &list, NULL, by_name);
	if (n < 0)
		return err_sys("read the directory %s", path);
	for (int i = 0; i < n; i++) {
		const char *name = list[i]->d_name;
		if (r >= 0 && !streq(name, ".") && !streq(name, ".."))
			r = list_entry(g, dir, name, g->options.recursive ? path : "", depth);
		free(list[i]);
	}
	free(list);
	return r;
}

static int list_path(const struct inside_guest *g, const char *path, bool head)
{
	struct stat st;

	_cleanup_fd_ int fd = path_open(g->root, path, O_PATH);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return err_sys("look at %s", path);
	if (!S_ISDIR(st.st_mode)) {
		if (g->options.is_long)
			put_long(g, fd, "", path, &st);
		else
			put_name(g, path);
		putchar('\n');
		return 0;
	}
	_cleanup_fd_ int dir = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_sys("open %s", path);
	if (head)
		printf("%s:\n", path);
	return list_dir(g, dir, "", 0);
}

int guest_ls(struct inside_guest *g, int argc, char **argv)
{
	static char top[] = "/", *tops[] = {top};
	int r = mounts_make(g);

	if (argc == 0) {
		argc = 1;
		argv = tops;
	}
	for (int i = 0; i < argc && r >= 0; i++) {
		r = list_path(g, argv[i], argc > 1);
		if (i + 1 < argc && argc > 1)
			putchar('\n');
	}
	return r < 0 ? r : flush();
}

static int print_file(const struct inside_guest *g, const char *path, char *buffer)
{
	struct stat st;
	ssize_t n;
	int r = 0;

	/*
	 * The file is opened with O_NONBLOCK, because it may be a FIFO, and opening a FIFO without
	 * a writer would wait forever.
	 */
	_cleanup_fd_ int fd = path_open(g->root, path, O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(EINVAL, "%s: expected a file", path);
	while (r >= 0 && (n = read(fd, buffer, BUFFER)) != 0) {
		if (n < 0)
			return err_sys("read %s", path);
		r = fd_write_all(STDOUT_FILENO, buffer, (size_t)n);
	}
	return r < 0 ? err_set(-r, "write to standard output: %s", err_text(-r)) : 0;
}

int guest_cat(struct inside_guest *g, int argc, char **argv)
{
	_cleanup_free_ char *buffer = malloc(BUFFER);
	int r = mounts_make(g);

	if (!buffer)
		return err_set(ENOMEM, "out of memory");
	for (int i = 0; i < argc && r >= 0; i++)
		r = print_file(g, argv[i], buffer);
	return r;
}

/* --- the command df --- */

static void size_text(const struct inside_guest *g, uint64_t bytes, char text[24])
{
	static const char units[] = "KMGTPE";
	double v = (double)bytes / 1024;
	size_t i = 0;

	if (!g->options.human) {
		snprintf(text, 24, "%llu", (unsigned long long)(bytes + 1023) / 1024);
		return;
	}
	for (; v >= 1000 && units[i + 1]; i++)
		v /= 1024;
	snprintf(text, 24, v < 10 ? "%.1f%c" : "%.0f%c", v, units[i]);
}

static unsigned percent(uint64_t used, uint64_t all)
{
	/* The percentage is rounded up, as df(1) does it. */
	return all ? (unsigned)((used * 100 + all - 1) / all) : 0;
}

static void put_usage(const struct inside_guest *g, const struct device *d, const struct statvfs *s)
{
	char size[24], used_text[24], free_text[24];
	uint64_t used = s->f_blocks - s->f_bfree;

	if (g->options.inodes) {
		uint64_t n = s->f_files - s->f_ffree;
		printf("%-24s %12llu %12llu %12llu %4u%%\n", d->usual_path,
			(unsigned long long)s->f_files, (unsigned long long)n,
			(unsigned long long)s->f_ffree, percent(n, s->f_files));
		return;
	}
	size_text(g, s->f_blocks * s->f_frsize, size);
	size_text(g, used * s->f_frsize, used_text);
	size_text(g, s->f_bavail * s->f_frsize, free_text);
	printf("%-24s %12s %12s %12s %4u%%\n", d->usual_path, size, used_text, free_text,
		percent(used, used + s->f_bavail));
}

static void put_usage_json(struct json_out *o, const struct device *d, const struct statvfs *s)
{
	json_out_object(o, NULL);
	json_out_str(o, "device", d->usual_path);
	json_out_str(o, "type", d->type);
	json_out_str(o, "label", d->label);
	json_out_str(o, "uuid", d->uuid);
	json_out_u64(o, "size", s->f_blocks * s->f_frsize);
	json_out_u64(o, "used", (s->f_blocks - s->f_bfree) * s->f_frsize);
	json_out_u64(o, "available", s->f_bavail * s->f_frsize);
	json_out_u64(o, "inodes", s->f_files);
	json_out_u64(o, "inodes_free", s->f_ffree);
	json_out_end_object(o);
}

/*
 * Adds the usage of one file system to the output. If the file system cannot be mounted, prints a
 * warning instead. Returns 1 if it was added, else 0.
 */
static int add_usage(struct inside_guest *g, const struct device *d, struct json_out *o)
{
	struct statvfs s;
	int r = mounts_try(g, d, NULL);

	if (r >= 0 && fstatvfs(g->root, &s) < 0)
		r = err_sys("%s", d->name);
	if (r < 0) {
		fd_say(STDERR_FILENO, "caisson disk", err_msg());
		err_clear();
		mounts_clear(g);
		return 0;
	}
	if (g->options.json)
		put_usage_json(o, d, &s);
	else
		put_usage(g, d, &s);
	mounts_clear(g);
	return 1;
}

int guest_df(struct inside_guest *g, int argc, char **argv)
{
	_cleanup_json_out_ struct json_out o = {0};
	const char *text;
	size_t len;
	unsigned n = 0;

	int r = json_out_init(&o, true);
	if (r < 0)
		return r;
	json_out_array(&o, NULL);
	if (!g->options.json)
		printf("%-24s %12s %12s %12s %5s\n", "Filesystem",
			g->options.inodes  ? "Inodes"
			: g->options.human ? "Size"
					   : "1K-blocks",
			g->options.inodes ? "IUsed" : "Used",
			g->options.inodes ? "IFree" : "Available",
			g->options.inodes ? "IUse%" : "Use%");
	for (size_t i = 0; i < g->ndevices; i++)
		if (device_has_files(&g->devices[i]))
			n += (unsigned)add_usage(g, &g->devices[i], &o);
	json_out_end_array(&o);
	if (n == 0)
		return mounts_err_list(g, "found nothing on the disk that can be mounted: %s");
	if (g->options.json) {
		r = json_out_text(&o, &text, &len);
		if (r >= 0)
			r = fd_write_all(STDOUT_FILENO, text, len);
		return r;
	}
	return flush();
}

/* --- the command shell --- */

int guest_shell(struct inside_guest *g, int argc, char **argv)
{
	static const char *const shells[] = {"/bin/bash", "/bin/sh"};
	/*
	 * If nothing can be mounted, the shell starts all the same, because the user may want the
	 * shell to find out why.
	 */
	int r = mounts_make(g);

	if (r < 0)
		fd_say(STDERR_FILENO, "caisson disk", err_msg());
	fd_close(&g->root);
	/*
	 * All drivers are loaded before the shell starts, because the guest's kernel finds no
	 * modprobe(8) that it could run when a program needs a driver.
	 */
	r = devices_load_all(g);
	if (r < 0)
		return r;
	mounts_load_all(g);
	if (chdir(SYSROOT) < 0)
		return err_sys("enter " SYSROOT);
	setenv("PS1", "disk:\\w# ", 1);
	if (argc > 0)
		return guest_wait(argv);
	for (size_t i = 0; i < ARRAY_SIZE(shells); i++)
		if (access(shells[i], X_OK) == 0) {
			char *words[] = {(char *)shells[i], NULL};
			return guest_wait(words);
		}
	return err_set(ENOENT, "the host has no shell");
}
