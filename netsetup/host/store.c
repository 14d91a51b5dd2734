/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads and writes the files below STATE, which host.h lists. A lease is a symbolic link whose text
 * is a record's path.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/dir.h"
#include "netsetup/host/host_internal.h"

#define RECORD_PATH (CONTAINER_KEY_MAX + IFNAMSIZ + 8)
#define RECORD_MAX (1 << 20)

static void record_path(const struct attachment *a, char ret[RECORD_PATH])
{
	snprintf(ret, RECORD_PATH, "%s/%s.json", a->key, a->interface);
}

/* Makes and opens a directory below STATE. The path of the directory has one or two parts. */
static int open_folder(struct host *h, const char *path, bool make)
{
	char parent[NETWORK_NAME_MAX + 32];
	const char *slash = strchr(path, '/');
	int fd;

	if (make && slash) {
		snprintf(parent, sizeof(parent), "%.*s", (int)(slash - path), path);
		if (mkdirat(h->state_dir, parent, 0755) < 0 && errno != EEXIST)
			return err_sys("make the directory %s", parent);
	}
	if (make && mkdirat(h->state_dir, path, 0755) < 0 && errno != EEXIST)
		return err_sys("make the directory %s", path);
	fd = openat(h->state_dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	return fd < 0 ? err_sys("open the directory %s", path) : fd;
}

int store_lease(struct host *h, const char *folder, const char *name, const struct attachment *a)
{
	char record[RECORD_PATH];

	if (host_skips(h, "lease %s/%s", folder, name))
		return 0;
	_cleanup_fd_ int dir = open_folder(h, folder, true);
	if (dir < 0)
		return dir;
	record_path(a, record);
	/*
	 * Removes an old link with the lease's name. The link leads to no record any more, because
	 * the caller has checked that no attachment has the lease.
	 */
	(void)unlinkat(dir, name, 0);
	return symlinkat(record, dir, name) < 0 ? err_sys("make the lease %s/%s", folder, name) : 0;
}

int store_release(struct host *h, const char *folder, const char *name, const struct attachment *a)
{
	char record[RECORD_PATH], found[RECORD_PATH];
	_cleanup_fd_ int dir = open_folder(h, folder, false);
	ssize_t n;

	if (dir < 0)
		return dir == -ENOENT ? 0 : dir;
	record_path(a, record);
	n = readlinkat(dir, name, found, sizeof(found) - 1);
	if (n < 0 || (size_t)n != strlen(record) || memcmp(found, record, (size_t)n) != 0 ||
		host_skips(h, "release %s/%s", folder, name))
		return 0;
	if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		return err_sys("release %s/%s", folder, name);
	/*
	 * Removes the directory of the network's leases, and the directory `leases` above it, if
	 * the removed lease was the last one.
	 */
	if (unlinkat(h->state_dir, folder, AT_REMOVEDIR) == 0)
		(void)unlinkat(h->state_dir, "leases", AT_REMOVEDIR);
	return 0;
}

static bool record_exists(struct host *h, const char *record)
{
	char path[RECORD_PATH + 16];

	snprintf(path, sizeof(path), "containers/%s", record);
	return faccessat(h->state_dir, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int store_each(struct host *h, const char *folder, store_fn *fn, void *arg)
{
	int fd = h->state_dir < 0 ? -ENOENT : open_folder(h, folder, false), r = 0;
	DIR *d = dir_take_fd(fd);
	struct dirent *e;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (!d)
		return err_sys("list the leases of %s", folder);
	while (r == 0 && (e = readdir(d))) {
		char record[RECORD_PATH];
		ssize_t n = readlinkat(dirfd(d), e->d_name, record, sizeof(record) - 1);

		if (n <= 0) /* "." and "..", and files of other programs, are skipped */
			continue;
		record[n] = '\0';
		if (record_exists(h, record))
			r = fn(h, e->d_name, record, arg);
		else if (!h->dry_run)
			(void)unlinkat(dirfd(d), e->d_name, 0);
	}
	closedir(d);
	return r;
}

int store_write_record(struct host *h, const struct attachment *a)
{
	_cleanup_json_out_ struct json_out o = {0};
	char folder[CONTAINER_KEY_MAX + 16], file[IFNAMSIZ + 8];
	const char *text;
	size_t len;

	int r = json_out_init(&o, false);
	if (r < 0)
		return r;
	attachment_json(&o, NULL, a);
	r = json_out_text(&o, &text, &len);
	if (r < 0 || host_skips(h, "attachment %s/%s: write its record", a->key, a->interface))
		return r;
	snprintf(folder, sizeof(folder), "containers/%s", a->key);
	_cleanup_fd_ int dir = open_folder(h, folder, true);
	if (dir < 0)
		return dir;
	snprintf(file, sizeof(file), "%s.json", a->interface);
	return fd_replace_file(dir, file, text, len, 0600);
}

int store_remove_record(struct host *h, const struct attachment *a)
{
	char path[RECORD_PATH + 16];

	if (host_skips(h, "attachment %s/%s: remove its record", a->key, a->interface))
		return 0;
	snprintf(path, sizeof(path), "containers/%s/%s.json", a->key, a->interface);
	if (unlinkat(h->state_dir, path, 0) < 0 && errno != ENOENT)
		return err_sys("remove %s", path);
	snprintf(path, sizeof(path), "containers/%s", a->key);
	if (unlinkat(h->state_dir, path, AT_REMOVEDIR) == 0)
		(void)unlinkat(h->state_dir, "containers", AT_REMOVEDIR);
	return 0;
}

int store_read_record(struct host *h, const char *record, struct attachment *ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	char path[RECORD_PATH + 16];

	if (h->state_dir < 0)
		return -ENOENT;
	snprintf(path, sizeof(path), "containers/%s", record);
	int r = fd_read_file(h->state_dir, path, &text, RECORD_MAX);
	if (r == -ENOENT) {
		err_clear();
		return r;
	}
	return r < 0 ? r : attachment_parse(&h->arena, strbuf_str(&text), text.len, path, ret);
}

/* --- Removing what killed processes have left --- */

/* Removes temporary files, and then the directory if it is empty. */
static int tidy_files(int parent, const char *path)
{
	int fd = openat(parent, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = dir_take_fd(fd);
	struct dirent *e;

	if (!d)
		return fd < 0 && errno == ENOENT ? 0 : err_sys("open the directory %s", path);
	while ((e = readdir(d)))
		if (fd_is_temporary_name(e->d_name))
			(void)unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
	return 0;
}

static int no_visit(struct host *h, const char *name, const char *record, void *arg)
{
	return 0;
}

/*
 * Tidies each directory in `parent`, which holds the records of a container or the leases of a
 * network.
 */
static int tidy_folders(struct host *h, const char *parent, bool leases)
{
	int fd = open_folder(h, parent, false), r = 0;
	DIR *d = dir_take_fd(fd);
	struct dirent *e;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (!d)
		return err_sys("list %s", parent);
	while (r >= 0 && (e = readdir(d))) {
		char path[sizeof(e->d_name) + 16];

		if (e->d_name[0] == '.' || strlen(e->d_name) > CONTAINER_KEY_MAX)
			continue;
		snprintf(path, sizeof(path), "%s/%s", parent, e->d_name);
		r = leases ? store_each(h, path, no_visit, NULL) : tidy_files(h->state_dir, path);
		(void)unlinkat(h->state_dir, path, AT_REMOVEDIR);
	}
	closedir(d);
	(void)unlinkat(h->state_dir, parent, AT_REMOVEDIR);
	return r;
}

int host_tidy(struct host *h)
{
	if (h->dry_run || h->state_dir < 0)
		return 0;
	int r = tidy_files(h->config_dir, ".");
	if (r >= 0)
		r = tidy_folders(h, "containers", false);
	if (r >= 0)
		r = tidy_folders(h, "leases", true);
	if (r >= 0)
		r = store_each(h, "ports", no_visit, NULL);
	(void)unlinkat(h->state_dir, "ports", AT_REMOVEDIR);
	(void)unlinkat(h->state_dir, "names", AT_REMOVEDIR);
	(void)unlinkat(h->state_dir, "members", AT_REMOVEDIR);
	(void)unlinkat(h->state_dir, "pins", AT_REMOVEDIR);
	return r;
}

/* --- Listing attachments --- */

struct found {
	const char *network; /* the network whose attachments are wanted; NULL: all networks */
	struct strbuf list;  /* elements of type struct attachment * */
};

static int add_record(struct host *h, const char *record, struct found *f)
{
	struct attachment *a = arena_alloc(&h->arena, sizeof(*a));
	int r = a ? store_read_record(h, record, a) : -ENOMEM;

	if (r == -ENOENT)
		return 0;
	if (r < 0 || (f->network && !streq(f->network, a->network)))
		return r;
	return strbuf_add(&f->list, &a, sizeof(a));
}

/* Adds the attachments whose records are in the directory of one container to the list. */
static int add_container(struct host *h, const char *key, struct found *f)
{
	char folder[CONTAINER_KEY_MAX + 16], record[RECORD_PATH];
	struct dirent *e;
	int r = 0;

	if (strlen(key) > CONTAINER_KEY_MAX || strchr(key, '/'))
		return 0;
	snprintf(folder, sizeof(folder), "containers/%s", key);
	int fd = open_folder(h, folder, false);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	DIR *d = dir_take_fd(fd);
	if (!d)
		return err_sys("list %s", folder);
	while (r >= 0 && (e = readdir(d))) {
		size_t len = strlen(e->d_name);

		if (len <= 5 || len - 5 >= IFNAMSIZ || !streq(e->d_name + len - 5, ".json"))
			continue;
		snprintf(record, sizeof(record), "%s/%.*s.json", key, (int)(len - 5), e->d_name);
		r = add_record(h, record, f);
	}
	closedir(d);
	return r;
}

static int add_all(struct host *h, struct found *f)
{
	int fd = open_folder(h, "containers", false), r = 0;
	DIR *d = dir_take_fd(fd);
	struct dirent *e;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (!d)
		return err_sys("list the containers");
	while (r >= 0 && (e = readdir(d)))
		if (e->d_name[0] != '.')
			r = add_container(h, e->d_name, f);
	closedir(d);
	return r;
}

/*
 * Returns whether the name of a lease is a MAC address. An IPv6 address cannot be taken for one,
 * because no IPv6 address has exactly six groups as text.
 */
static bool is_mac(const char *name)
{
	size_t colons = 0;

	for (const char *p = name; *p; p++)
		colons += *p == ':';
	return strlen(name) == 17 && colons == 5;
}

/*
 * Adds the attachment of the lease to the list if the name of the lease is a MAC address or a mark
 * (a->host), because exactly one lease of each attachment has such a name. A mark begins with "cn",
 * as no address does.
 */
static int add_lease(struct host *h, const char *name, const char *record, void *arg)
{
	return is_mac(name) || str_starts(name, "cn") ? add_record(h, record, arg) : 0;
}

static int compare(const void *a, const void *b)
{
	const struct attachment *const *x = a, *const *y = b;
	int r = strcmp((*x)->key, (*y)->key);

	return r ? r : strcmp((*x)->interface, (*y)->interface);
}

int attachment_list(struct host *h, const char *key, const char *network,
	const struct attachment ***ret, size_t *ret_n)
{
	struct found f = {.network = network};
	char folder[NETWORK_NAME_MAX + 16];
	int r = 0;

	*ret = NULL;
	*ret_n = 0;
	if (h->state_dir < 0)
		return 0;
	snprintf(folder, sizeof(folder), "leases/%s", network ? network : "");
	if (key)
		r = add_container(h, key, &f);
	else if (network)
		r = store_each(h, folder, add_lease, &f);
	else
		r = add_all(h, &f);
	if (r >= 0 && f.list.len > 0) {
		*ret = arena_alloc(&h->arena, f.list.len);
		if (*ret) {
			memcpy(*ret, f.list.s, f.list.len);
			*ret_n = f.list.len / sizeof(**ret);
			qsort(*ret, *ret_n, sizeof(**ret), compare);
		} else {
			r = -ENOMEM;
		}
	}
	strbuf_release(&f.list);
	return r;
}
