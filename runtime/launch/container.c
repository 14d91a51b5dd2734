/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/container.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fd.h"
#include "base/sys.h"
#include "base/user.h"

/* the annotation of `caisson state` that says why a machine is paused */
#define PAUSED "io.caisson.vm.paused"
/* annotation that lists what was attached while the container ran */
#define ATTACHED "io.caisson.attached"
/* annotation that says whether caisson's agent in a machine answers */
#define AGENT "io.caisson.vm.agent"

#define STATE_MAX ((size_t)4 * 1024 * 1024)
#define ID_MAX NAME_MAX /* longest container ID in bytes: the ID is the name of a directory */

const char *container_status_name(enum container_status s)
{
	static const char *const names[] = {"creating", "created", "running", "paused", "stopped"};

	return names[s];
}

int container_check_id(const char *id)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+.-";

	if (!*id)
		return err_set(EINVAL, "container id cannot be empty");
	if (id[0] == '.' || id[0] == '-' || id[strspn(id, allowed)] || strlen(id) > ID_MAX)
		return err_set(EINVAL,
			"invalid container ID format: \"%.64s\": use letters, digits and _+.- "
			"only, not \".\" or \"-\" first, at most %d",
			id, ID_MAX);
	return 0;
}

static int no_such_container(const char *id)
{
	return err_set(ENOENT, "container does not exist: \"%s\"", id);
}

/*
 * Says whether the state directory of a container was deleted while caisson held it open. Such a
 * directory belongs to no container any more.
 */
static bool is_deleted(int dir)
{
	struct stat st;

	return fstat(dir, &st) < 0 || st.st_nlink == 0;
}

int container_lock(struct container *c)
{
	while (flock(c->dir, LOCK_EX) < 0)
		if (errno != EINTR)
			return err_sys("lock the container's state directory");
	c->locked = true;
	return is_deleted(c->dir) ? no_such_container(c->id) : 0;
}

int container_new(struct container *c, const char *root, const char *id)
{
	int r = container_check_id(id);

	if (r < 0)
		return r;
	c->root_dir = container_open_root(root, true);
	if (c->root_dir < 0)
		return c->root_dir;
	if (mkdirat(c->root_dir, id, 0700) < 0) {
		if (errno == EEXIST)
			return err_set(
				EEXIST, "container with given ID already exists: \"%s\"", id);
		return err_sys("create state directory %s/%s", root, id);
	}
	c->dir = openat(c->root_dir, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (c->dir < 0) {
		r = err_sys("open the new state directory of \"%s\"", id);
		unlinkat(c->root_dir, id, AT_REMOVEDIR);
		return r;
	}
	c->id = arena_strdup(&c->arena, id);
	c->owner = geteuid();
	r = c->id ? container_lock(c) : -ENOMEM;
	/*
	 * Before this process has locked the new state directory, the directory looks like one that
	 * a killed `create` left behind. Therefore a `delete` of the same ID may have removed it,
	 * and the lock fails with ENOENT.
	 */
	if (r == -ENOENT)
		return err_set(
			EAGAIN, "container \"%s\" was deleted while it was being created", id);
	return r;
}

static const char *copy_member(struct arena *a, const struct json *j, const char *key)
{
	const char *s = json_get_str(j, key);

	return s ? arena_strdup(a, s) : NULL;
}

/*
 * Reads a file of the state directory into the arena. caisson's commands always replace such a file
 * as a whole, so its size cannot change after it is opened.
 */
static int read_text(
	struct container *c, const char *name, size_t max, const char **ret, size_t *ret_len)
{
	struct stat st;
	_cleanup_fd_ int fd = openat(c->dir, name, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys("open %s", name);
	if ((uint64_t)st.st_size > max)
		return err_set(EFBIG, "%s is larger than the %zu bytes allowed", name, max);
	char *text = arena_alloc(&c->arena, (size_t)st.st_size + 1);
	if (!text)
		return -ENOMEM;
	ssize_t n = read(fd, text, (size_t)st.st_size);
	if (n < 0)
		return err_sys("read %s", name);
	text[n] = '\0';
	*ret = text;
	*ret_len = (size_t)n;
	return 0;
}

int container_read_state(struct container *c)
{
	const char *text;
	size_t len;
	struct json *j;
	int64_t pid, owner = 0;

	int r = read_text(c, "state.json", STATE_MAX, &text, &len);
	/*
	 * If state.json is missing, either the container was deleted, or a `create` was killed
	 * before it had done anything that needs undoing.
	 */
	if (r == -ENOENT)
		return is_deleted(c->dir) ? no_such_container(c->id) : 0;
	if (r >= 0)
		r = json_parse(&c->arena, text, len, "state.json", &j);
	if (r < 0)
		return err_ctx(r, "container \"%s\"", c->id);
	c->bundle = copy_member(&c->arena, j, "bundle");
	c->rootfs = copy_member(&c->arena, j, "rootfs");
	c->created = copy_member(&c->arena, j, "created");
	c->oci_version = copy_member(&c->arena, j, "ociVersion");
	c->pid_file = copy_member(&c->arena, j, "pidFile");
	c->annotations = json_get(j, "annotations");
	c->no_new_keyring = json_get_true(j, "noNewKeyring");
	const char *isolation = json_get_str(j, "isolation");
	c->vm = isolation && streq(isolation, "vm");
	c->remove_bundle = json_get_true(j, "removeBundle");
	c->has_rdt = json_get_true(j, "intelRdt");
	c->has_networks = json_get_true(j, "networks");
	c->has_poststart = json_get_true(j, "poststart");
	c->has_poststop = json_get_true(j, "poststop");
	if (!c->bundle || json_get_i64(j, "pid", &pid) < 0 ||
		json_get_u64(j, "startTime", &c->start_time) < 0 ||
		json_get_i64(j, "owner", &owner) < 0 || pid < 0 || pid > INT32_MAX || owner < 0 ||
		owner > UINT32_MAX ||
		(!c->vm && (json_get_u64(j, "initDevice", &c->init_dev) < 0 ||
				   json_get_u64(j, "initInode", &c->init_ino) < 0)))
		return err_set(EINVAL,
			"container \"%s\": state.json is damaged: `caisson delete --force %s`",
			c->id, c->id);
	if (c->annotations && c->annotations->type != JSON_OBJECT)
		c->annotations = NULL;
	c->pid = (pid_t)pid;
	c->owner = (uint32_t)owner;
	return cg_from_state(&c->arena, json_get(j, "cgroup"), &c->cgroup);
}

int container_open(struct container *c, const char *root, const char *id, bool lock)
{
	int r = container_check_id(id);

	if (r < 0)
		return r;
	c->root_dir = container_open_root(root, false);
	if (c->root_dir == -ENOENT)
		return no_such_container(id);
	if (c->root_dir < 0)
		return c->root_dir;
	c->id = arena_strdup(&c->arena, id);
	if (!c->id)
		return -ENOMEM;
	c->dir = openat(c->root_dir, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (c->dir < 0)
		return errno == ENOENT ? no_such_container(id)
				       : err_sys("open state directory %s/%s", root, id);
	r = lock ? container_lock(c) : 0;
	return r < 0 ? r : container_read_state(c);
}

void container_close(struct container *c)
{
	fd_close(&c->dir);
	fd_close(&c->root_dir);
	arena_release(&c->arena);
}

static void put_state_file(const struct container *c, struct json_out *o)
{
	json_out_object(o, NULL);
	json_out_str(o, "ociVersion", c->oci_version);
	json_out_str(o, "id", c->id);
	json_out_i64(o, "pid", c->pid);
	json_out_u64(o, "startTime", c->start_time);
	json_out_u64(o, "initDevice", c->init_dev);
	json_out_u64(o, "initInode", c->init_ino);
	json_out_str(o, "bundle", c->bundle);
	json_out_str(o, "rootfs", c->rootfs);
	json_out_str(o, "created", c->created);
	json_out_i64(o, "owner", c->owner);
	if (c->pid_file)
		json_out_str(o, "pidFile", c->pid_file);
	if (c->remove_bundle)
		json_out_bool(o, "removeBundle", true);
	if (c->has_networks)
		json_out_bool(o, "networks", true);
	json_out_bool(o, "poststart", c->has_poststart);
	json_out_bool(o, "poststop", c->has_poststop);
	json_out_bool(o, "intelRdt", c->has_rdt);
	json_out_bool(o, "noNewKeyring", c->no_new_keyring);
	json_out_str(o, "isolation", c->vm ? "vm" : "ns");
	if (c->annotations)
		json_out_node(o, "annotations", c->annotations);
	json_out_object(o, "cgroup");
	cg_to_state(&c->cgroup, o);
	json_out_end_object(o);
	json_out_end_object(o);
}

int container_prepare_save(struct container *c)
{
	_cleanup_json_out_ struct json_out o = {0};
	char name[FD_TMP_MAX];
	const char *text;
	size_t len;

	int r = json_out_init(&o, false);
	if (r < 0)
		return r;
	put_state_file(c, &o);
	r = json_out_text(&o, &text, &len);
	if (r < 0)
		return r;
	_cleanup_fd_ int fd = fd_open_temporary(c->dir, "state.json", 0600, name);
	if (fd < 0)
		return fd;
	r = fd_write_all(fd, text, len);
	if (r < 0)
		return err_set(-r, "write state.json: %s", strerror(-r));
	c->prepared = arena_strdup(&c->arena, name);
	return c->prepared ? 0 : -ENOMEM;
}

int container_save(struct container *c)
{
	int r = c->prepared ? 0 : container_prepare_save(c);

	if (r >= 0 && renameat(c->dir, c->prepared, c->dir, "state.json") < 0)
		r = err_sys("rename %s to state.json", c->prepared);
	c->prepared = NULL;
	return r;
}

int container_spec(struct container *c, const struct spec **ret)
{
	const char *text;
	size_t len;

	if (!c->spec) {
		int r = read_text(c, "config.json", SPEC_MAX_SIZE, &text, &len);
		if (r < 0)
			return err_ctx(r, "container \"%s\"", c->id);
		r = spec_parse(&c->arena, text, len, "config.json", &c->spec);
		if (r < 0)
			return r;
	}
	*ret = c->spec;
	return 0;
}

/*
 * Writes the annotations of config.json, and those that say why the container's machine is paused
 * and what was attached while the container ran.
 */
static void put_annotations(const struct container *c, struct json_out *o)
{
	json_out_object(o, "annotations");
	for (const struct json *j = c->annotations ? c->annotations->first : NULL; j; j = j->next)
		if ((!c->disk_error || !streq(j->key, PAUSED)) &&
			(!c->attached || !streq(j->key, ATTACHED)) &&
			(!c->agent || !streq(j->key, AGENT)))
			json_out_node(o, j->key, j);
	if (c->attached)
		json_out_str(o, ATTACHED, c->attached);
	if (c->agent)
		json_out_str(o, AGENT, c->agent);
	if (c->disk_error)
		json_out_str(o, PAUSED, c->disk_error);
	json_out_end_object(o);
}

void container_put_state(
	const struct container *c, const char *status, pid_t pid, struct json_out *o)
{
	_cleanup_user_names_ struct user_names names = {0};

	json_out_object(o, NULL);
	json_out_str(o, "ociVersion", c->oci_version ? c->oci_version : SPEC_VERSION);
	json_out_str(o, "id", c->id);
	json_out_str(o, "status", status);
	/*
	 * The OCI specification requires the member "pid" for the states created and running, and
	 * allows it for other states.
	 */
	json_out_i64(o, "pid", pid);
	json_out_str(o, "bundle", c->bundle ? c->bundle : "");
	if (c->rootfs)
		json_out_str(o, "rootfs", c->rootfs);
	if (c->created)
		json_out_str(o, "created", c->created);
	json_out_str(o, "owner", user_name_or_number(&names, c->owner));
	if (c->disk_error || c->attached || c->agent || (c->annotations && c->annotations->count))
		put_annotations(c, o);
	json_out_end_object(o);
}

int container_state_json(
	const struct container *c, const char *status, pid_t pid, struct strbuf *ret)
{
	_cleanup_json_out_ struct json_out o = {0};
	const char *text;
	size_t len;

	int r = json_out_init(&o, false);
	if (r < 0)
		return r;
	container_put_state(c, status, pid, &o);
	r = json_out_text(&o, &text, &len);
	return r < 0 ? r : strbuf_add(ret, text, len);
}

/*
 * Removes the temporary files of commands that were killed while they replaced a file of the state
 * directory.
 */
static int remove_temporary_files(int dir)
{
	struct dirent *e;
	int r = 0, again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = again < 0 ? NULL : fdopendir(again);

	if (!d) {
		fd_close(&again);
		return err_sys("list the state directory");
	}
	while ((e = readdir(d)))
		if (fd_is_temporary_name(e->d_name) && unlinkat(dir, e->d_name, 0) < 0 &&
			errno != ENOENT)
			r = err_sys("remove %s", e->d_name);
	closedir(d);
	return r;
}

int container_remove(struct container *c)
{
	static const char *const files[] = {"config.json", "start.fifo", "result.fifo",
		CONTAINER_STARTED, "start.sock", "start.lock", "vm.sock", CONTAINER_FROZEN,
		CONTAINER_DISK_ERROR, CONTAINER_HOSTS, CONTAINER_RESOLV_CONF, CONTAINER_ATTACHED,
		"state.json"};

	if ((unlinkat(c->dir, "notify/notify.sock", 0) < 0 && errno != ENOENT) ||
		(unlinkat(c->dir, "notify", AT_REMOVEDIR) < 0 && errno != ENOENT))
		return err_sys("remove notify of container \"%s\"", c->id);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (unlinkat(c->dir, files[i], 0) < 0 && errno != ENOENT)
			return err_sys("remove %s of container \"%s\"", files[i], c->id);
	if (unlinkat(c->root_dir, c->id, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	/*
	 * Temporary files that a killed command has left in the state directory are rare, so they
	 * are only searched for if rmdir(2) has failed.
	 */
	int r = errno == ENOTEMPTY ? remove_temporary_files(c->dir) : 0;
	if (r < 0)
		return err_ctx(r, "container \"%s\"", c->id);
	if (unlinkat(c->root_dir, c->id, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return err_sys("remove the state directory of container \"%s\"", c->id);
	return 0;
}
