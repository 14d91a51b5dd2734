/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/sys.h"
#include "launch/checkpoint.h"
#include "launch/criu_common.h"
#include "launch/criu_mounts.h"
#include "launch/criu_rpc.h"

#define LINK_TEXT 4096

/* --- the standard streams --- */

/* Reads the number of the mount that an open file of the process is on. */
static int read_mount_id(pid_t pid, int fd, unsigned *ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", pid, fd);
	int r = fd_read_file(AT_FDCWD, path, &text, LINK_TEXT);
	const char *line = r < 0 ? NULL : strstr(strbuf_str(&text), "mnt_id:");
	if (r >= 0 && (!line || sscanf(line, "mnt_id: %u", ret) != 1))
		r = err_set(EPROTO, "%s has no mnt_id", path);
	return r;
}

/*
 * Says whether the mount is in the mount namespace of the process. A standard stream is often a
 * file of the host, such as /dev/null or a log, and its mount is not in that namespace.
 */
static int is_mounted_inside(pid_t pid, unsigned mount)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	char path[64], start[16];

	snprintf(path, sizeof(path), "/proc/%d/mountinfo", pid);
	int r = fd_read_file(AT_FDCWD, path, &text, CRIU_MOUNTINFO_MAX);
	if (r < 0)
		return r;
	int len = snprintf(start, sizeof(start), "\n%u ", mount);
	return strncmp(strbuf_str(&text), start + 1, (size_t)len - 1) == 0 ||
	       strstr(strbuf_str(&text), start) != NULL;
}

/*
 * Finds CRIU's name for a standard stream of the container's first process, and tells CRIU which
 * files are the host's.
 */
static int name_stream(struct container *c, int fd, const char **ret, struct criu_message *opts)
{
	char path[64], link[LINK_TEXT];
	struct stat st;
	unsigned mount;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", c->pid, fd);
	ssize_t len = readlink(path, link, sizeof(link) - 1);
	if (len < 0 && errno == ENOENT) {
		*ret = ""; /* the program has closed this stream */
		return 0;
	}
	if (len < 0 || stat(path, &st) < 0)
		return err_sys("look at the standard streams of process %d", c->pid);
	link[len] = '\0';
	*ret = arena_strdup(&c->arena, link);
	if (!*ret)
		return -ENOMEM;
	if (str_starts(link, "pipe:") || str_starts(link, "socket:"))
		return 0;
	int r = read_mount_id(c->pid, fd, &mount);
	if (r >= 0)
		r = is_mounted_inside(c->pid, mount);
	if (r != 0)
		return r < 0 ? r : 0;
	*ret = arena_printf(&c->arena, "file[%x:%" PRIx64 "]", mount, (uint64_t)st.st_ino);
	if (!*ret)
		return -ENOMEM;
	criu_put_text(opts, CRIU_EXTERNAL, *ret);
	return 0;
}

static int write_streams(int image, const char *const *names)
{
	_cleanup_json_out_ struct json_out o = {0};
	const char *text;
	size_t len;

	int r = json_out_init(&o, false);
	if (r < 0)
		return r;
	json_out_array(&o, NULL);
	for (int i = 0; i < CRIU_STREAMS; i++)
		json_out_str(&o, NULL, names[i]);
	json_out_end_array(&o);
	r = json_out_text(&o, &text, &len);
	if (r >= 0)
		r = fd_replace_file(image, CRIU_STREAMS_FILE, text, len, 0600);
	return r < 0 ? err_ctx(r, "--image-path: " CRIU_STREAMS_FILE) : 0;
}

static int put_streams(struct container *c, int image, struct criu_message *opts)
{
	const char *names[CRIU_STREAMS];

	for (int i = 0; i < CRIU_STREAMS; i++) {
		int r = name_stream(c, i, &names[i], opts);
		if (r < 0)
			return r;
	}
	return write_streams(image, names);
}

/* --- the request --- */

/*
 * Tells CRIU which existing namespaces the container has joined by path, so that CRIU saves only a
 * name for each of them.
 */
static int put_namespaces(struct container *c, const struct spec *s, struct criu_message *opts)
{
	char path[64];
	struct stat st;

	for (size_t i = 0; i < CRIU_EXTERNAL_NS; i++) {
		const struct criu_ns *n = &criu_external_ns[i];
		if (!s->ns[n->type].path)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/ns/%s", c->pid, n->file);
		if (stat(path, &st) < 0)
			return err_sys("look at %s", path);
		const char *text = arena_printf(
			&c->arena, "%s[%" PRIu64 "]:%s", n->file, (uint64_t)st.st_ino, n->key);
		if (!text)
			return -ENOMEM;
		criu_put_text(opts, CRIU_EXTERNAL, text);
	}
	return 0;
}

/* Refuses what CRIU cannot restore, so that the user learns of it before the container ends. */
static int check_spec(const struct spec *s)
{
	static const enum spec_ns types[] = {
		SPEC_NS_USER, SPEC_NS_MOUNT, SPEC_NS_CGROUP, SPEC_NS_TIME};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (s->ns[types[i]].path)
			return err_set(ENOTSUP,
				"linux.namespaces[%zu].path: CRIU cannot restore a container that "
				"joins "
				"a %s namespace",
				s->ns[types[i]].index, plan_ns_name(types[i]));
	for (size_t i = 0; i < s->nmounts; i++)
		if (s->mounts[i].idmap || s->mounts[i].ridmap || s->mounts[i].uid_mappings.n)
			return err_set(ENOTSUP,
				"mounts[%zu]: CRIU cannot restore an idmapped mount: %s", i,
				s->mounts[i].destination);
	return 0;
}

/*
 * Tells CRIU where the memory goes, and which configuration file to read. *ret_file becomes a
 * descriptor that criu must inherit, or stays as it is.
 */
static int put_page_server(const struct criu_options *o, const struct spec *s,
	struct criu_message *opts, int *ret_file)
{
	const char *text = o->page_server, *colon = text ? strrchr(text, ':') : NULL;
	char address[256];
	uint64_t port;

	if (!text)
		return criu_put_config(s, NULL, opts, ret_file);
	size_t len = colon ? (size_t)(colon - text) : 0;
	/* The brackets of [ADDRESS]:PORT set an IPv6 address apart from the port. */
	bool brackets = len > 2 && text[0] == '[' && text[len - 1] == ']';
	if (len == 0 || len >= sizeof(address) || str_to_u64(colon + 1, &port) < 0 || !port ||
		port > UINT16_MAX)
		return err_set(EINVAL, "--page-server %.300s: expected ADDRESS:PORT", text);
	memcpy(address, text + brackets, len - 2 * brackets);
	address[len - 2 * brackets] = '\0';
	criu_put_numbered(opts, CRIU_PAGE_SERVER, address, port);
	return criu_put_config(s, o->lazy_pages ? address : NULL, opts, ret_file);
}

static int put_parent(const struct criu_options *o, int image, struct criu_message *opts)
{
	struct stat st;

	if (!o->parent_path)
		return 0;
	if (o->parent_path[0] == '/')
		return err_set(EINVAL, "--parent-path %s: expected a path relative to --image-path",
			o->parent_path);
	if (fstatat(image, o->parent_path, &st, 0) < 0)
		return err_sys("--parent-path %s, relative to --image-path", o->parent_path);
	if (!S_ISDIR(st.st_mode))
		return err_set(ENOTDIR, "--parent-path %s: expected a directory", o->parent_path);
	criu_put_text(opts, CRIU_PARENT_IMG, o->parent_path);
	return 0;
}

static int put_dump(struct container *c, const struct spec *s, const struct checkpoint_options *o,
	int image, struct criu_message *opts)
{
	const struct criu_options *k = &o->criu;

	int r = check_spec(s);
	if (r >= 0)
		r = criu_put_common(k, "dump.log", opts);
	criu_put_number(opts, CRIU_IMAGES_DIR_FD, (uint64_t)image);
	criu_put_number(opts, CRIU_PID, (uint64_t)c->pid);
	criu_put_text(opts, CRIU_ROOT, c->rootfs);
	criu_put_flag(opts, CRIU_LEAVE_RUNNING, o->leave_running);
	criu_put_flag(opts, CRIU_TCP_SKIP_IN_FLIGHT, k->tcp_skip_in_flight);
	/* CRIU says by a notification when the pages can be fetched. */
	criu_put_flag(opts, CRIU_NOTIFY_SCRIPTS, k->lazy_pages);
	criu_put_flag(opts, CRIU_TRACK_MEM, k->pre_dump || k->parent_path);
	if (r >= 0 && c->cgroup.path) {
		const char *dir = arena_printf(&c->arena, "%s%s", c->cgroup.mount, c->cgroup.path);
		r = dir ? 0 : -ENOMEM;
		criu_put_text(opts, CRIU_FREEZE_CGROUP, dir);
	}
	if (r >= 0)
		r = put_parent(k, image, opts);
	if (r >= 0)
		r = put_namespaces(c, s, opts);
	if (r >= 0)
		r = criu_name_mounts(c, s, opts);
	return r < 0 ? r : put_streams(c, image, opts);
}

/* Tells the caller, by --status-fd, that CRIU is ready to give pages away. */
static int notified(void *data, const struct criu_reply *n, int fd)
{
	const struct criu_options *o = data;
	(void)fd;

	if (!streq(n->script, "status-ready") || o->status_fd < 0)
		return 0;
	int r = fd_write_all(o->status_fd, "", 1);
	return r < 0 ? err_set(-r, "--status-fd %d: %s", o->status_fd, strerror(-r)) : 0;
}

int criu_checkpoint(struct container *c, const struct checkpoint_options *o, int image)
{
	const struct criu_options *k = &o->criu;
	_cleanup_criu_message_ struct criu_message opts = {0};
	_cleanup_criu_ struct criu criu = CRIU_INIT;

	if (geteuid() != 0 || sys_in_userns())
		return err_set(EPERM,
			"criu needs root: only root can checkpoint a container in namespaces (an "
			"ordinary user can use --isolation vm)");
	_cleanup_fd_ int work = criu_open_work(k, image);
	if (work < 0)
		return work;
	_cleanup_fd_ int config = -EBADF;
	const struct spec *s;
	criu_put_number(&opts, CRIU_WORK_DIR_FD, (uint64_t)work);
	int r = container_spec(c, &s);
	if (r >= 0)
		r = put_dump(c, s, o, image, &opts);
	if (r >= 0)
		r = put_page_server(k, s, &opts, &config);
	const int files[] = {image, work, config};
	const struct criu_start start = {.inherited = files, .ninherited = ARRAY_SIZE(files)};
	if (r >= 0)
		r = criu_start(&start, &criu);
	if (r >= 0)
		r = criu_call(
			&criu, k->pre_dump ? CRIU_PRE_DUMP : CRIU_DUMP, &opts, notified, (void *)k);
	/* A restore takes a directory with this file for a whole checkpoint. */
	if (r < 0)
		unlinkat(image, CRIU_STREAMS_FILE, 0);
	return criu_with_log(r, criu_work_path(k, o->image_path), "dump.log");
}
