/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes file systems by fsopen(2), fsconfig(2) and fsmount(2). Each option is set by a call of its
 * own, so that the kernel can name the option that it refuses.
 *
 * fsconfig(2) takes values of up to 255 bytes and has no way to escape a comma. If a value needs
 * more (overlay's lowerdir), mount(2) is used instead: it mounts the file system on a directory of
 * a tmpfs, and caisson makes a detached copy of this mount. The tmpfs is attached only for the time
 * of these two calls.
 */
#include "step/new_fs.h"

#include <stdio.h>

#include "base/fd.h"

/* longest value of fsconfig(2) in bytes; the kernel's limit is 256 with the NUL */
#define FSCONFIG_MAX 255
/* longest options for mount(2) in bytes, because the kernel reads one page of options */
#define OPTIONS_MAX 4096

/*
 * Reads the messages that the kernel left in the fsopen(2) context, such as "e tmpfs: Bad value for
 * 'size'".
 */
static void read_fs_log(int fs, char *ret, size_t size)
{
	ssize_t n;
	size_t len = 0;
	char line[256];

	ret[0] = '\0';
	while ((n = read(fs, line, sizeof(line) - 1)) > 0 && len + 3 < size) {
		line[n] = '\0';
		line[strcspn(line, "\n")] = '\0';
		const char *text = n > 2 && line[1] == ' ' ? line + 2 : line;
		int r = snprintf(ret + len, size - len, "%s%s", len ? "; " : ": ", text);
		len += r > 0 ? (size_t)r : 0;
	}
}

static bool is_mapped(const struct spec_id_maps *maps, uint64_t id)
{
	for (size_t i = 0; i < maps->n; i++)
		if (id >= maps->v[i].container_id && id - maps->v[i].container_id < maps->v[i].size)
			return true;
	return false;
}

/*
 * Returns the mount option, such as "gid=5", whose id the user namespace does not map, or NULL if
 * all ids are mapped. If the kernel refuses a mount with EINVAL, such an option is the usual
 * reason.
 */
static const char *unmapped_id(const struct new_fs *f)
{
	uint64_t id;

	if (!f->s->mount.userns)
		return NULL;
	for (size_t i = 0; i < f->m->data.n; i++) {
		const char *o = f->m->data.v[i];
		bool gid = str_starts(o, "gid=");
		if (!gid && !str_starts(o, "uid="))
			continue;
		const struct spec_id_maps *maps = gid ? &f->s->mount.gid : &f->s->mount.uid;
		if (str_to_u64(o + 4, &id) >= 0 && maps->n && !is_mapped(maps, id))
			return o;
	}
	return NULL;
}

/*
 * Reports that the file system could not be made. option is the mount option that the kernel
 * refused, or NULL if it refused the file system itself. fs is the fsopen(2) context, or -EBADF.
 */
static int fs_failed(const struct new_fs *f, int fs, const char *option)
{
	int code = errno;
	char log[512] = "";
	const char *id;

	if (fs >= 0)
		read_fs_log(fs, log, sizeof(log));
	if (code == EINVAL && (id = unmapped_id(f)))
		return err_set(code,
			"options: %s does not accept \"%s\": this id is not mapped in the "
			"container's "
			"user namespace: leave the option out, or map the id (linux.%cidMappings)",
			f->type, id, id[0]);
	if (option)
		return err_set(code, "options: %s does not accept \"%s\": %s%s", f->type, option,
			err_text(code), log);
	if (code == ENODEV)
		return err_set(
			code, "type: the kernel knows no file system \"%s\"%s", f->type, log);
	if (code == EPERM && streq(f->type, "proc"))
		return err_set(code,
			"a new proc file system is not permitted here: this takes a pid namespace "
			"of the container's own (linux.namespaces) and an outer /proc in which "
			"nothing is masked: without them, bind-mount /proc%s",
			log);
	if (code == EPERM && f->s->mount.userns)
		return err_set(code,
			"mount %s: not permitted in a user namespace: the kernel lets only the "
			"host's root mount this file system, or it belongs to a namespace that the "
			"container does not own%s",
			f->type, log);
	return err_set(code, "mount %s (%s): %s%s", f->type, f->source, err_text(code), log);
}

/*
 * Calls fn for each option in a comma-separated list. Commas within double quotes do not separate,
 * and fn gets the option without its quotes.
 */
static int each_option(struct spec_strings data, int (*fn)(void *arg, char *option), void *arg)
{
	char option[OPTIONS_MAX];

	for (size_t i = 0; i < data.n; i++) {
		const char *p = data.v[i];
		bool quoted = false;
		size_t len = 0;
		for (;; p++) {
			if (*p && (*p != ',' || quoted)) {
				if (*p == '"')
					quoted = !quoted;
				else if (len + 1 < sizeof(option))
					option[len++] = *p;
				continue;
			}
			option[len] = '\0';
			int r = len ? fn(arg, option) : 0;
			if (r < 0)
				return r;
			if (!*p)
				break;
			len = 0;
		}
	}
	return 0;
}

struct fs_config {
	const struct new_fs *f;
	int fs;
};

/*
 * Says whether the mount option applies to the host's whole cgroup hierarchy. Such an option is
 * ignored, because the mount of one container must not change the whole hierarchy.
 */
static bool is_cgroup_root_option(const char *o)
{
	return streq(o, "nsdelegate") || streq(o, "favordynmods") ||
	       streq(o, "memory_localevents") || streq(o, "memory_recursiveprot") ||
	       streq(o, "memory_hugetlb_accounting") || streq(o, "pids_localevents");
}

static int set_option(void *arg, char *option)
{
	const struct fs_config *cf = arg;
	char *value = strchr(option, '=');
	int r;

	if (streq(cf->f->type, "cgroup2") && is_cgroup_root_option(option))
		return 0;
	if (value) {
		*value = '\0';
		r = fsconfig(cf->fs, FSCONFIG_SET_STRING, option, value + 1, 0);
		*value = '=';
	} else {
		r = fsconfig(cf->fs, FSCONFIG_SET_FLAG, option, NULL, 0);
	}
	return r < 0 ? fs_failed(cf->f, cf->fs, option) : 0;
}

static int set_flags(const struct fs_config *cf, const struct spec_mount *m, bool clear)
{
	static const struct {
		uint32_t flag;
		const char *set, *clr;
	} flags[] = {
		{MS_SYNCHRONOUS, "sync", "async"},
		{MS_DIRSYNC, "dirsync", NULL},
		{MS_LAZYTIME, "lazytime", "nolazytime"},
		{MS_MANDLOCK, "mand", "nomand"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		bool set = m->sb_flags & flags[i].flag;
		bool clr = clear && (m->sb_flags_clr & flags[i].flag);
		const char *name = set ? flags[i].set : clr ? flags[i].clr : NULL;
		if (name && fsconfig(cf->fs, FSCONFIG_SET_FLAG, name, NULL, 0) < 0)
			return fs_failed(cf->f, cf->fs, name);
	}
	return 0;
}

static int configure_fs(const struct fs_config *cf)
{
	const struct new_fs *f = cf->f;
	char mode[sizeof(f->mode)];

	if (f->source && fsconfig(cf->fs, FSCONFIG_SET_STRING, "source", f->source, 0) < 0)
		return fs_failed(f, cf->fs, NULL);
	int r = set_flags(cf, f->m, false);
	if (r >= 0 && f->ro && fsconfig(cf->fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0)
		r = fs_failed(f, cf->fs, "ro");
	if (r >= 0 && f->label && fsconfig(cf->fs, FSCONFIG_SET_STRING, "context", f->label, 0) < 0)
		r = fs_failed(f, cf->fs, "context");
	if (r >= 0 && f->mode[0])
		r = set_option((void *)cf, strcpy(mode, f->mode));
	return r < 0 ? r : each_option(f->m->data, set_option, (void *)cf);
}

/*
 * Returns the attributes that fsmount(2) sets on the new mount; mnt_new_fs() sets the other
 * attributes afterwards.
 */
static uint64_t first_attrs(const struct new_fs *f)
{
	uint64_t attrs = f->m->attr_set & FSMOUNT_ATTRS;

	/*
	 * A tmpfs and /dev become read-only only at the step PIVOT (mount.c), because other steps
	 * before it make files in them.
	 */
	if (streq(f->type, "tmpfs") || streq(f->t->path, "/dev"))
		attrs &= ~(uint64_t)MOUNT_ATTR_RDONLY;
	return attrs;
}

int new_fs_by_fsopen(const struct new_fs *f)
{
	_cleanup_fd_ int fs = fsopen(f->type, FSOPEN_CLOEXEC);
	struct fs_config cf = {.f = f, .fs = fs};

	if (fs < 0)
		return fs_failed(f, -EBADF, NULL);
	int r = configure_fs(&cf);
	if (r < 0)
		return r;
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return fs_failed(f, fs, NULL);
	int tree = fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)first_attrs(f));
	return tree < 0 ? fs_failed(f, fs, NULL) : tree;
}

/*
 * Says whether mount(2) has to be used for this file system, because fsconfig(2) cannot carry its
 * source or its options.
 */
static bool needs_mount2(const struct new_fs *f)
{
	if ((f->source && strlen(f->source) > FSCONFIG_MAX) || (f->m->sb_flags & MS_I_VERSION))
		return true;
	for (size_t i = 0; i < f->m->data.n; i++)
		if (strlen(f->m->data.v[i]) > FSCONFIG_MAX || strchr(f->m->data.v[i], '\\'))
			return true;
	return false;
}

static int mount2_options(const struct new_fs *f, struct strbuf *ret)
{
	int r = 0;

	if (f->label)
		r = strbuf_addf(ret, "context=\"%s\"", f->label);
	if (r >= 0 && f->mode[0])
		r = strbuf_addf(ret, "%s%s", ret->len ? "," : "", f->mode);
	for (size_t i = 0; i < f->m->data.n && r >= 0; i++)
		r = strbuf_addf(ret, "%s%s", ret->len ? "," : "", f->m->data.v[i]);
	if (r >= 0 && ret->len >= OPTIONS_MAX)
		return err_set(E2BIG,
			"options: they are %zu bytes long: the kernel takes less than %d", ret->len,
			OPTIONS_MAX);
	return r;
}

/*
 * Mounts the file system by mount(2) on a directory of `stage`, a tmpfs that is attached for the
 * moment, and returns a detached copy of the new mount.
 */
static int mount2_on_stage(const struct new_fs *f, int stage)
{
	unsigned long flags = f->m->sb_flags | (f->ro ? MS_RDONLY : 0);
	_cleanup_strbuf_ struct strbuf options = {0};
	struct mount_attr attr = {.attr_set = first_attrs(f), .attr_clr = MOUNT_ATTR__ATIME};

	int r = mount2_options(f, &options);
	if (r < 0)
		return r;
	if (mkdirat(stage, "m", 0700) < 0 || fchdir(stage) < 0)
		return err_sys("make a directory to mount on");
	if (mount(f->source ? f->source : "none", "m", f->type, flags, strbuf_str(&options)) < 0)
		return fs_failed(f, -EBADF, NULL);
	_cleanup_fd_ int tree = open_tree(stage, "m", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return err_sys("copy the mount of %s", f->type);
	if (mnt_setattr(tree, false, &attr) < 0)
		return err_sys("options: set the mount's flags");
	return take_fd(&tree);
}

static int make_by_mount2(const struct new_fs *f)
{
	_cleanup_fd_ int cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);

	if (cwd < 0 || fs < 0 || fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return err_sys("make a tmpfs to mount %s on", f->type);
	_cleanup_fd_ int stage = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	if (stage < 0 || mnt_attach(stage, f->t->fd) < 0)
		return err_sys("make a tmpfs to mount %s on", f->type);
	_cleanup_fd_ int tree = mount2_on_stage(f, stage);
	/*
	 * The tmpfs `stage` is unmounted even after a failure, and with it the file system that is
	 * mounted on its directory "m".
	 */
	if (fchdir(stage) < 0 || umount2(".", MNT_DETACH) < 0 || fchdir(cwd) < 0)
		return err_sys("unmount the tmpfs that %s was mounted on", f->type);
	return take_fd(&tree);
}

int new_fs_make(const struct new_fs *f)
{
	return needs_mount2(f) ? make_by_mount2(f) : new_fs_by_fsopen(f);
}

int mnt_reconfigure(int fd, const struct spec_mount *m)
{
	struct step s = {.mount = {.mount = m}};
	struct plan plan = {0};
	struct step_ctx c = {.plan = &plan};
	struct new_fs f = {.c = &c, .s = &s, .m = m, .type = m->type ? m->type : "remount"};

	if (!m->data.n && !m->sb_flags && !m->sb_flags_clr)
		return 0;
	_cleanup_fd_ int fs = fspick(fd, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH);
	if (fs < 0)
		return err_sys("options: remount");
	struct fs_config cf = {.f = &f, .fs = fs};
	int r = set_flags(&cf, m, true);
	if (r >= 0)
		r = each_option(m->data, set_option, &cf);
	if (r >= 0 && fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0)
		r = fs_failed(&f, fs, NULL);
	return r;
}
