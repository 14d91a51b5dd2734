/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collects the mounts of -v, --mount and --tmpfs, and of the files that a container gets from its
 * bundle.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/path.h"
#include "run/run.h"

#define RESOLV_CONF_MAX (1u << 20)
#define FILES_MAX 3 /* how many files run_write_files() writes at most */

static const char *const propagations[] = {
	"private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"};

static int add_option(struct run_mount *m, const char *option)
{
	if (m->noptions == ARRAY_SIZE(m->options))
		return err_set(E2BIG, "the mount on %s has too many options", m->destination);
	m->options[m->noptions++] = option;
	return 0;
}

static bool has_option(const struct run_mount *m, const char *const *names, size_t n)
{
	for (size_t i = 0; i < m->noptions; i++)
		for (size_t k = 0; k < n; k++)
			if (streq(m->options[i], names[k]))
				return true;
	return false;
}

/*
 * Checks the destination of a mount. `option` is the option that asks for the mount, which the
 * error messages name.
 */
static int check_mount(const struct run_mounts *all, const struct run_mount *m, const char *option)
{
	if (!m->destination || m->destination[0] != '/' || streq(m->destination, "/"))
		return err_set(EINVAL, "%s: a mount on \"%.200s\": expected an absolute path",
			option, m->destination ? m->destination : "");
	for (size_t i = 0; i < all->n; i++)
		if (streq(all->v[i].destination, m->destination))
			return err_set(EINVAL, "%s: there are two mounts on %.200s", option,
				m->destination);
	return 0;
}

static int add_mount(struct run_mounts *all, const struct run_mount *m, const char *option)
{
	int result = check_mount(all, m, option);

	if (result >= 0)
		all->v[all->n++] = *m;
	return result;
}

/*
 * Tells whether the source of a volume is a path of the host. If not, it is the name of a volume.
 */
static bool is_path(const char *source)
{
	return *source == '/' || *source == '.';
}

/*
 * Finds the absolute path of the source of a bind mount. If `create` is set, makes a source that
 * does not exist as a directory.
 */
static int resolve_source(struct run *r, const char *text, bool create, const char **ret)
{
	char real[PATH_MAX];

	if (!is_path(text))
		return err_set(EINVAL,
			"--mount type=bind,source=%.200s: expected a path of the host, which "
			"begins "
			"with / or .; type=volume takes the name of a volume",
			text);
	if (create && mkdir(text, 0755) < 0 && errno != EEXIST)
		return err_sys("-v: create %s", text);
	if (!realpath(text, real))
		return err_sys("the mount's source %s", text);
	*ret = arena_strdup(r->arena, real);
	return *ret ? 0 : -ENOMEM;
}

/*
 * Adds the options of a bind mount. If the source is a volume that is a disk, makes the mount one
 * of the disk's ext4 file system instead.
 */
static int finish_bind(struct run_mount *m)
{
	int result = 0;

	if (m->disk)
		m->type = "ext4";
	else
		result = add_option(m, "rbind");

	if (result >= 0 && !has_option(m, propagations, ARRAY_SIZE(propagations)))
		result = add_option(m, "rprivate");
	return result;
}

static int use_volume(struct run *r, const char *name, struct run_mount *m)
{
	int result = run_use_volume(r, name, m->destination, !m->no_copy, &m->source);

	m->disk = result >= 0 && streq(m->source, SPEC_MOUNT_IMAGE);
	return result;
}

/*
 * Applies one option of a value of -v. Options for SELinux's labels and docker's volumes are
 * accepted without effect.
 */
static int add_volume_option(struct run_mount *m, const char *option)
{
	static const char *const passed[] = {"ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec",
		"exec", "bind", "rbind", "idmap"};
	static const char *const ignored[] = {"z", "Z", "cached", "delegated", "consistent"};

	if (streq(option, "nocopy")) {
		m->no_copy = true;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		if (streq(option, ignored[i]))
			return 0;
	for (size_t i = 0; i < ARRAY_SIZE(passed); i++)
		if (streq(option, passed[i]))
			return add_option(m, option);
	for (size_t i = 0; i < ARRAY_SIZE(propagations); i++)
		if (streq(option, propagations[i]))
			return add_option(m, option);
	return err_set(EINVAL, "-v: unknown option \"%.100s\"", option);
}

static int each_option(
	char *text, struct run_mount *m, int (*f)(struct run_mount *m, const char *option))
{
	char *save;
	int result = 0;

	for (char *p = strtok_r(text, ",", &save); p && result >= 0; p = strtok_r(NULL, ",", &save))
		result = f(m, p);
	return result;
}

/*
 * Parses a value of -v: "SOURCE:DESTINATION[:OPTIONS]" or "DESTINATION". SOURCE is a path or the
 * name of a volume.
 */
static int add_volume(struct run *r, struct run_mounts *all, const char *text)
{
	struct run_mount m = {.type = "bind"};
	char *copy = arena_strdup(r->arena, text);
	int result;

	if (!copy)
		return -ENOMEM;
	char *destination = strchr(copy, ':');
	if (!destination) {
		m.destination = copy;
		result = run_make_volume(r, all->n, m.destination, &m.source);
	} else {
		*destination++ = '\0';
		m.destination = destination;
		char *options = strchr(destination, ':');
		if (options)
			*options++ = '\0';
		result = check_mount(all, &m, "-v");
		if (result >= 0 && options)
			result = each_option(options, &m, add_volume_option);
		if (result >= 0)
			result = is_path(copy) ? resolve_source(r, copy, true, &m.source)
					       : use_volume(r, copy, &m);
	}
	if (result >= 0)
		result = finish_bind(&m);
	return result < 0 ? result : add_mount(all, &m, "-v");
}

static void begin_tmpfs(struct run_mount *m)
{
	static const char *const usual[] = {"nosuid", "nodev", "noexec"};

	m->type = m->source = "tmpfs";
	for (size_t i = 0; i < ARRAY_SIZE(usual); i++)
		m->options[m->noptions++] = usual[i];
}

/*
 * Parses a value of --tmpfs, "DESTINATION[:OPTIONS]". The options are those of tmpfs(5) and of
 * mounts.
 */
static int add_tmpfs(struct run *r, struct run_mounts *all, const char *text)
{
	struct run_mount m = {0};
	char *copy = arena_strdup(r->arena, text);

	if (!copy)
		return -ENOMEM;
	char *options = strchr(copy, ':');
	if (options)
		*options++ = '\0';
	m.destination = copy;
	begin_tmpfs(&m);
	int result = options ? each_option(options, &m, add_option) : 0;
	return result < 0 ? result : add_mount(all, &m, "--tmpfs");
}

/* Holds the words of a value of --mount until the type of the mount is known. */
struct mount_words {
	const char *type, *source, *target, *propagation, *size, *mode;
	bool read_only, no_copy;
};

static int read_word(struct mount_words *w, char *word)
{
	static const struct {
		const char *name;
		size_t offset;
	} names[] = {
		{"type", offsetof(struct mount_words, type)},
		{"source", offsetof(struct mount_words, source)},
		{"src", offsetof(struct mount_words, source)},
		{"target", offsetof(struct mount_words, target)},
		{"destination", offsetof(struct mount_words, target)},
		{"dst", offsetof(struct mount_words, target)},
		{"bind-propagation", offsetof(struct mount_words, propagation)},
		{"tmpfs-size", offsetof(struct mount_words, size)},
		{"tmpfs-mode", offsetof(struct mount_words, mode)},
	};
	char *value = strchr(word, '=');

	if (value)
		*value++ = '\0';
	if (streq(word, "readonly") || streq(word, "ro")) {
		w->read_only = !value || streq(value, "true") || streq(value, "1");
		return 0;
	}
	if (streq(word, "volume-nocopy")) {
		w->no_copy = !value || streq(value, "true") || streq(value, "1");
		return 0;
	}
	for (size_t i = 0; value && i < ARRAY_SIZE(names); i++)
		if (streq(word, names[i].name)) {
			*(const char **)((char *)w + names[i].offset) = value;
			return 0;
		}
	return err_set(EINVAL,
		"--mount: unknown word \"%.100s\": expected type=bind|volume|tmpfs, source=, "
		"target=, readonly, volume-nocopy, bind-propagation=, tmpfs-size= or tmpfs-mode=",
		word);
}

static int add_bind_words(struct run *r, struct run_mount *m, const struct mount_words *w)
{
	m->type = "bind";
	if (!w->source)
		return err_set(EINVAL, "--mount type=bind: source= is missing");
	int result = resolve_source(r, w->source, false, &m->source);
	if (result >= 0 && w->propagation)
		result = add_volume_option(m, w->propagation);
	return result < 0 ? result : finish_bind(m);
}

static int add_volume_words(struct run *r, const struct run_mounts *all, struct run_mount *m,
	const struct mount_words *w)
{
	int result = check_mount(all, m, "--mount");

	m->type = "bind";
	m->no_copy = w->no_copy;
	if (result >= 0)
		result = w->source ? use_volume(r, w->source, m)
				   : run_make_volume(r, all->n, m->destination, &m->source);
	return result < 0 ? result : finish_bind(m);
}

static int add_tmpfs_words(struct run *r, struct run_mount *m, const struct mount_words *w)
{
	int result = 0;

	begin_tmpfs(m);
	if (w->size)
		result = add_option(m, arena_printf(r->arena, "size=%s", w->size));
	if (result >= 0 && w->mode)
		result = add_option(m, arena_printf(r->arena, "mode=%s", w->mode));
	return result;
}

/* Parses a value of --mount: "type=bind,source=DIR,target=DIR[,...]". */
static int add_mount_words(struct run *r, struct run_mounts *all, const char *text)
{
	struct mount_words w = {.type = "volume"};
	struct run_mount m = {0};
	char *copy = arena_strdup(r->arena, text), *save;
	int result = copy ? 0 : -ENOMEM;

	for (char *p = copy ? strtok_r(copy, ",", &save) : NULL; p && result >= 0;
		p = strtok_r(NULL, ",", &save))
		result = read_word(&w, p);
	if (result < 0)
		return result;
	m.destination = w.target;
	if (streq(w.type, "bind")) {
		result = add_bind_words(r, &m, &w);
	} else if (streq(w.type, "tmpfs")) {
		result = add_tmpfs_words(r, &m, &w);
	} else if (streq(w.type, "volume")) {
		result = add_volume_words(r, all, &m, &w);
	} else {
		return err_set(
			EINVAL, "--mount type=%.100s: expected bind, volume or tmpfs", w.type);
	}
	if (result >= 0 && w.read_only)
		result = add_option(&m, "ro");
	return result < 0 ? result : add_mount(all, &m, "--mount");
}

static size_t length_without_slashes(const char *path)
{
	size_t n = strlen(path);

	while (n > 1 && path[n - 1] == '/')
		n--;
	return n;
}

static bool is_taken(const struct run_mounts *all, const char *destination)
{
	size_t len = length_without_slashes(destination);

	for (size_t i = 0; i < all->n; i++)
		if (length_without_slashes(all->v[i].destination) == len &&
			memcmp(all->v[i].destination, destination, len) == 0)
			return true;
	return false;
}

/*
 * Adds the volumes that the image declares, except those on whose destinations the user mounts
 * something else.
 */
static int add_image_volumes(struct run *r, struct run_mounts *all)
{
	const struct image_config *c = &r->image->config;
	int result = 0;

	for (size_t i = 0; i < c->nvolumes && result >= 0; i++) {
		struct run_mount m = {.type = "bind", .destination = c->volumes[i]};
		if (is_taken(all, m.destination))
			continue;
		result = run_make_volume(r, all->n, m.destination, &m.source);
		if (result >= 0)
			result = finish_bind(&m);
		if (result >= 0)
			result = add_mount(all, &m, "a volume of the image");
	}
	return result;
}

/*
 * Adds bind mounts of the files that run_write_files() wrote to the bundle, except those on whose
 * destinations the user mounts something else.
 */
static int add_files(struct run *r, struct run_mounts *all)
{
	static const char *const files[FILES_MAX] = {"hosts", "hostname", "resolv.conf"};
	int result = 0;

	for (size_t i = 0; i < ARRAY_SIZE(files) && result >= 0; i++) {
		struct run_mount m = {.type = "bind"};
		if (faccessat(r->dir_fd, files[i], F_OK, 0) < 0)
			continue;
		m.destination = arena_printf(r->arena, "/etc/%s", files[i]);
		m.source = arena_printf(r->arena, "%s/%s", r->dir, files[i]);
		if (!m.destination || !m.source)
			return -ENOMEM;
		if (is_taken(all, m.destination))
			continue;
		result = finish_bind(&m);
		if (result >= 0)
			result = add_mount(all, &m, "a file of the container");
	}
	return result;
}

static size_t depth(const char *path)
{
	size_t n = 0;

	for (; *path; path++)
		n += path[0] == '/' && path[1] && path[1] != '/';
	return n;
}

/*
 * Sorts the mounts by the depth of their destinations, so that a mount beneath another mount comes
 * after it. Mounts of the same depth keep their order.
 */
static void sort(struct run_mounts *all)
{
	for (size_t i = 1; i < all->n; i++) {
		struct run_mount m = all->v[i];
		size_t k = i;
		for (; k > 0 && depth(all->v[k - 1].destination) > depth(m.destination); k--)
			all->v[k] = all->v[k - 1];
		all->v[k] = m;
	}
}

int run_collect_mounts(struct run *r, struct run_mounts *ret)
{
	size_t max = r->o->volume.n + r->o->mount.n + r->o->tmpfs.n + r->image->config.nvolumes +
		     FILES_MAX;
	int result = 0;

	*ret = (struct run_mounts){.v = arena_array(r->arena, max, sizeof(*ret->v))};
	if (!ret->v)
		return -ENOMEM;
	for (size_t i = 0; i < r->o->volume.n && result >= 0; i++)
		result = add_volume(r, ret, r->o->volume.v[i]);
	for (size_t i = 0; i < r->o->mount.n && result >= 0; i++)
		result = add_mount_words(r, ret, r->o->mount.v[i]);
	for (size_t i = 0; i < r->o->tmpfs.n && result >= 0; i++)
		result = add_tmpfs(r, ret, r->o->tmpfs.v[i]);
	if (result >= 0)
		result = add_image_volumes(r, ret);
	if (result >= 0)
		result = add_files(r, ret);
	sort(ret);
	return result;
}

static int write_file(struct run *r, const char *name, const char *text)
{
	return fd_write_new_file(r->dir_fd, name, text, strlen(text), 0644);
}

int run_write_files(struct run *r)
{
	_cleanup_strbuf_ struct strbuf hosts = {0}, name = {0}, resolv = {0};
	bool network = !run_network_is(r->o, "none");

	int result = strbuf_addf(&hosts,
		"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t%s\n",
		r->hostname);
	if (result >= 0)
		result = strbuf_addf(&name, "%s\n", r->hostname);
	if (result >= 0)
		result = write_file(r, "hostname", strbuf_str(&name));
	/*
	 * If the container joins networks, the files hosts and resolv.conf are not written here.
	 * caisson-net writes them when the container is created, because they depend on its
	 * addresses.
	 */
	if (result < 0 || run_joins(r->o))
		return result;
	result = write_file(r, "hosts", strbuf_str(&hosts));
	if (result < 0 || !network)
		return result;
	/* If the host has no /etc/resolv.conf, no resolv.conf is mounted in the container. */
	if (fd_read_file(AT_FDCWD, "/etc/resolv.conf", &resolv, RESOLV_CONF_MAX) < 0) {
		err_clear();
		return 0;
	}
	return write_file(r, "resolv.conf", strbuf_str(&resolv));
}
