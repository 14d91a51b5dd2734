/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists the packages of an operating system. dpkg and apk have text files as databases. The
 * database of rpm has several binary forms, so the host's rpm(8) reads it, if the host has this
 * program.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/path.h"
#include "inside/inside.h"

#define DATABASE_MAX (256u << 20)
#define RPM_COPY "/tmp/rpm" /* directory in the guest to which the database of rpm is copied */

struct package {
	const char *name, *epoch, *version, *release, *arch;
	size_t name_len, epoch_len, version_len, release_len, arch_len;
};

/*
 * Says whether the disk has this file. The function does not read the file, because a database that
 * cannot be read is there all the same.
 */
static bool has(const struct inside_guest *g, const char *path)
{
	_cleanup_fd_ int fd = path_open(g->root, path, O_PATH);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* Returns the directory of the disk's rpm database, or NULL if the disk has none. */
static const char *rpm_directory(const struct inside_guest *g)
{
	static const char *const rpm[][2] = {{"/usr/lib/sysimage/rpm", "rpmdb.sqlite"},
		{"/usr/lib/sysimage/rpm", "Packages.db"}, {"/var/lib/rpm", "rpmdb.sqlite"},
		{"/var/lib/rpm", "Packages.db"}, {"/var/lib/rpm", "Packages"}};
	const char *found = NULL;
	char path[64];

	for (size_t i = 0; i < ARRAY_SIZE(rpm) && !found; i++) {
		snprintf(path, sizeof(path), "%s/%s", rpm[i][0], rpm[i][1]);
		if (has(g, path))
			found = rpm[i][0];
	}
	err_clear();
	return found;
}

const char *packages_format(const struct inside_guest *g)
{
	const char *found = has(g, "/var/lib/dpkg/status")    ? "deb"
			    : has(g, "/lib/apk/db/installed") ? "apk"
			    : rpm_directory(g)                ? "rpm"
							      : NULL;

	err_clear();
	return found;
}

static void put_text(struct json_out *o, const char *key, const char *text, size_t len)
{
	_cleanup_free_ char *copy = strndup(text ? text : "", len);
	char *clean = malloc(4 * len + 1);

	/*
	 * The text is cleaned, because JSON has to be UTF-8, and the database of a hostile disk may
	 * contain any bytes.
	 */
	if (copy && clean) {
		str_clean(clean, 4 * len + 1, copy, len);
		json_out_str(o, key, clean);
	}
	free(clean);
}

static void put_package(struct json_out *o, const struct package *p)
{
	json_out_object(o, NULL);
	put_text(o, "name", p->name, p->name_len);
	if (p->epoch_len)
		put_text(o, "epoch", p->epoch, p->epoch_len);
	put_text(o, "version", p->version, p->version_len);
	put_text(o, "release", p->release, p->release_len);
	put_text(o, "arch", p->arch, p->arch_len);
	json_out_end_object(o);
}

/* Splits a package's version into its parts: [EPOCH:]VERSION[-RELEASE]. */
static void split_version(struct package *p, const char *text, size_t len)
{
	const char *colon = memchr(text, ':', len);

	if (colon) {
		p->epoch = text;
		p->epoch_len = (size_t)(colon - text);
		len -= p->epoch_len + 1;
		text = colon + 1;
	}
	const char *dash = memrchr(text, '-', len);
	p->version = text;
	p->version_len = dash ? (size_t)(dash - text) : len;
	if (dash) {
		p->release = dash + 1;
		p->release_len = len - p->version_len - 1;
	}
}

struct paragraph {
	const char *name, *version, *arch, *status;
	size_t name_len, version_len, arch_len, status_len;
};

/*
 * Stores the value of a line of a package database, "Key: value" of dpkg or "K:value" of apk, if
 * its key is a known one.
 */
static void take_line(struct paragraph *p, const char *line, size_t len)
{
	const struct {
		const char *key;
		const char **text;
		size_t *len;
	} keys[] = {{"Package: ", &p->name, &p->name_len}, {"P:", &p->name, &p->name_len},
		{"Version: ", &p->version, &p->version_len}, {"V:", &p->version, &p->version_len},
		{"Architecture: ", &p->arch, &p->arch_len}, {"A:", &p->arch, &p->arch_len},
		{"Status: ", &p->status, &p->status_len}};

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		size_t n = strlen(keys[i].key);
		if (len < n || strncmp(line, keys[i].key, n) != 0)
			continue;
		*keys[i].text = line + n;
		*keys[i].len = len - n;
	}
}

static bool is_installed(const struct paragraph *p, bool deb)
{
	static const char installed[] = " installed";
	const size_t n = sizeof(installed) - 1;

	if (!p->name || !p->version)
		return false;
	return !deb || (p->status && p->status_len >= n &&
			       strncmp(p->status + p->status_len - n, installed, n) == 0);
}

/*
 * Writes the packages of a database of dpkg or apk, in which each package is a paragraph that an
 * empty line ends. Returns their number.
 */
static uint64_t put_paragraphs(struct json_out *o, const char *text, bool deb)
{
	struct paragraph p = {0};
	uint64_t count = 0;

	for (const char *line = text;; line++) {
		size_t len = strcspn(line, "\n");
		if (len > 0) {
			take_line(&p, line, len);
		} else {
			struct package k = {.name = p.name,
				.name_len = p.name_len,
				.arch = p.arch,
				.arch_len = p.arch_len};
			if (is_installed(&p, deb)) {
				split_version(&k, p.version, p.version_len);
				put_package(o, &k);
				count++;
			}
			p = (struct paragraph){0};
		}
		line += len;
		if (!*line && !len)
			return count;
		if (!*line)
			line--;
	}
}

static int make_file(const char *path, const struct strbuf *text)
{
	_cleanup_fd_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_sys("create %s", path);
	int r = fd_write_all(fd, strbuf_str(text), text->len);
	return r < 0 ? err_set(-r, "write %s: %s", path, strerror(-r)) : 0;
}

/*
 * Copies the database of rpm into the guest's memory. If there is no log beside a database, SQLite
 * makes one when it opens the database, and that fails on a disk that is mounted read-only.
 */
static int copy_rpm(const struct inside_guest *g)
{
	static const char *const names[] = {
		"rpmdb.sqlite", "rpmdb.sqlite-wal", "Packages.db", "Index.db", "Packages"};
	const char *directory = rpm_directory(g);
	char path[64], copy[64];
	int r = 0;

	/* The copy of another system of this disk may be there. */
	(void)unlink(RPM_COPY "/rpmdb.sqlite-shm");
	if (mkdir(RPM_COPY, 0700) < 0 && errno != EEXIST)
		return err_sys("create " RPM_COPY);
	for (size_t i = 0; i < ARRAY_SIZE(names) && r >= 0; i++) {
		_cleanup_strbuf_ struct strbuf text = {0};

		snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
		snprintf(copy, sizeof(copy), RPM_COPY "/%s", names[i]);
		(void)unlink(copy);
		r = system_read(g, path, &text, DATABASE_MAX);
		if (r >= 0)
			r = make_file(copy, &text);
		else if (r == -ENOENT)
			r = 0;
	}
	if (r >= 0)
		err_clear();
	return r;
}

/*
 * Writes the packages of a database of rpm. Returns 0, -errno, or above 0 if there is no rpm that
 * reads the database.
 */
static int put_rpm(struct inside_guest *g, struct json_out *o, uint64_t *ret)
{
	const char *const argv[] = {"rpm", "--dbpath", RPM_COPY, "-qa", "--qf",
		"%{NAME}\t%|EPOCH?{%{EPOCH}}:{}|\t%{VERSION}\t%{RELEASE}\t%{ARCH}\n", NULL};
	_cleanup_strbuf_ struct strbuf out = {0};

	int r = copy_rpm(g);
	if (r >= 0)
		r = guest_run(argv, &out);
	if (r != 0)
		return r;
	for (const char *line = strbuf_str(&out); *line; line++) {
		const char *field[5] = {line};
		size_t len[5] = {0}, i = 0;
		for (;; line++) {
			if (*line != '\t' && *line != '\n' && *line)
				continue;
			len[i] = (size_t)(line - field[i]);
			if (*line != '\t' || i == 4)
				break;
			field[++i] = line + 1;
		}
		if (i == 4) {
			put_package(o, &(struct package){field[0], field[1], field[2], field[3],
					       field[4], len[0], len[1], len[2], len[3], len[4]});
			++*ret;
		}
		if (!*line)
			break;
	}
	return 0;
}

int packages_write(struct inside_guest *g, struct json_out *o, uint64_t *ret)
{
	const char *format = packages_format(g);
	_cleanup_strbuf_ struct strbuf text = {0};
	int r;

	*ret = 0;
	if (!format)
		return 0;
	json_out_str(o, "package_format", format);
	json_out_array(o, "packages");
	if (streq(format, "rpm")) {
		r = put_rpm(g, o, ret);
	} else {
		bool deb = streq(format, "deb");
		r = system_read(g, deb ? "/var/lib/dpkg/status" : "/lib/apk/db/installed", &text,
			DATABASE_MAX);
		if (r >= 0)
			*ret = put_paragraphs(o, strbuf_str(&text), deb);
	}
	json_out_end_array(o);
	/* The rest of what is known of the disk is told although its list of packages is not. */
	if (r != 0)
		json_out_str(o, "packages_problem",
			r < 0 ? err_msg()
			      : "the host has no rpm that reads the database: install rpm");
	else if (!*ret && streq(format, "rpm"))
		json_out_str(o, "packages_problem",
			"the host's rpm found no package, and may not know the form of the "
			"database: expected a version of rpm that does");
	err_clear();
	return 0;
}
