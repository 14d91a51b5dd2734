/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parses mounts[].options (config.md "Linux mount options"). One table lists each option with its
 * effect on struct spec_mount.
 *
 * A later option overrides an earlier one, as in mount(8). An option that only withdraws another
 * option ("suid", "rw") clears the attribute as well, because a bind mount inherits the attributes
 * of its source. The access-time attribute is one field with four values and not separate bits, so
 * mount_setattr(2) wants all of MOUNT_ATTR__ATIME cleared if any of it is set.
 */
#include <sys/mount.h>

#include "spec/parse.h"

enum effect {
	NOTHING,
	/*
	 * The option changes attributes of the mount; in the table OPTIONS, set and clr are then
	 * MOUNT_ATTR_*.
	 */
	ATTR,
	REC_ATTR, /* The option changes attributes of the mount and of all mounts beneath it. */
	/*
	 * The option changes flags of the file system; in the table OPTIONS, set and clr are then
	 * MS_* flags.
	 */
	SUPER,
	PROPAGATION,
	BIND,
	RBIND,
	REMOUNT,
	IDMAP,
	RIDMAP,
	TMPCOPYUP,
	COPY_SYMLINK,
	SRC_NOFOLLOW,
	DEST_NOFOLLOW,
};

#define ATIME MOUNT_ATTR__ATIME

/*
 * All options as X(name, effect, set, clr), sorted by name. "norelatime" has no effect, because
 * relatime is the kernel's default.
 */
#define OPTIONS(X) \
	X("async", SUPER, 0, MS_SYNCHRONOUS) \
	X("atime", ATTR, 0, ATIME) \
	X("bind", BIND, 0, 0) \
	X("copy-symlink", COPY_SYMLINK, 0, 0) \
	X("defaults", NOTHING, 0, 0) \
	X("dest-nofollow", DEST_NOFOLLOW, 0, 0) \
	X("dev", ATTR, 0, MOUNT_ATTR_NODEV) \
	X("diratime", ATTR, 0, MOUNT_ATTR_NODIRATIME) \
	X("dirsync", SUPER, MS_DIRSYNC, 0) \
	X("exec", ATTR, 0, MOUNT_ATTR_NOEXEC) \
	X("idmap", IDMAP, 0, 0) \
	X("iversion", SUPER, MS_I_VERSION, 0) \
	X("lazytime", SUPER, MS_LAZYTIME, 0) \
	X("loud", SUPER, 0, MS_SILENT) \
	X("mand", SUPER, MS_MANDLOCK, 0) \
	X("noatime", ATTR, MOUNT_ATTR_NOATIME, ATIME) \
	X("nodev", ATTR, MOUNT_ATTR_NODEV, 0) \
	X("nodiratime", ATTR, MOUNT_ATTR_NODIRATIME, 0) \
	X("noexec", ATTR, MOUNT_ATTR_NOEXEC, 0) \
	X("noiversion", SUPER, 0, MS_I_VERSION) \
	X("nolazytime", SUPER, 0, MS_LAZYTIME) \
	X("nomand", SUPER, 0, MS_MANDLOCK) \
	X("norelatime", NOTHING, 0, 0) \
	X("nostrictatime", ATTR, 0, ATIME) \
	X("nosuid", ATTR, MOUNT_ATTR_NOSUID, 0) \
	X("nosymfollow", ATTR, MOUNT_ATTR_NOSYMFOLLOW, 0) \
	X("private", PROPAGATION, MS_PRIVATE, 0) \
	X("ratime", REC_ATTR, 0, ATIME) \
	X("rbind", RBIND, 0, 0) \
	X("rdev", REC_ATTR, 0, MOUNT_ATTR_NODEV) \
	X("rdiratime", REC_ATTR, 0, MOUNT_ATTR_NODIRATIME) \
	X("relatime", ATTR, MOUNT_ATTR_RELATIME, ATIME) \
	X("remount", REMOUNT, 0, 0) \
	X("rexec", REC_ATTR, 0, MOUNT_ATTR_NOEXEC) \
	X("ridmap", RIDMAP, 0, 0) \
	X("rnoatime", REC_ATTR, MOUNT_ATTR_NOATIME, ATIME) \
	X("rnodev", REC_ATTR, MOUNT_ATTR_NODEV, 0) \
	X("rnodiratime", REC_ATTR, MOUNT_ATTR_NODIRATIME, 0) \
	X("rnoexec", REC_ATTR, MOUNT_ATTR_NOEXEC, 0) \
	X("rnorelatime", NOTHING, 0, 0) \
	X("rnostrictatime", REC_ATTR, 0, ATIME) \
	X("rnosuid", REC_ATTR, MOUNT_ATTR_NOSUID, 0) \
	X("rnosymfollow", REC_ATTR, MOUNT_ATTR_NOSYMFOLLOW, 0) \
	X("ro", ATTR, MOUNT_ATTR_RDONLY, 0) \
	X("rprivate", PROPAGATION, MS_REC | MS_PRIVATE, 0) \
	X("rrelatime", REC_ATTR, MOUNT_ATTR_RELATIME, ATIME) \
	X("rro", REC_ATTR, MOUNT_ATTR_RDONLY, 0) \
	X("rrw", REC_ATTR, 0, MOUNT_ATTR_RDONLY) \
	X("rshared", PROPAGATION, MS_REC | MS_SHARED, 0) \
	X("rslave", PROPAGATION, MS_REC | MS_SLAVE, 0) \
	X("rstrictatime", REC_ATTR, MOUNT_ATTR_STRICTATIME, ATIME) \
	X("rsuid", REC_ATTR, 0, MOUNT_ATTR_NOSUID) \
	X("rsymfollow", REC_ATTR, 0, MOUNT_ATTR_NOSYMFOLLOW) \
	X("runbindable", PROPAGATION, MS_REC | MS_UNBINDABLE, 0) \
	X("rw", ATTR, 0, MOUNT_ATTR_RDONLY) \
	X("shared", PROPAGATION, MS_SHARED, 0) \
	X("silent", SUPER, MS_SILENT, 0) \
	X("slave", PROPAGATION, MS_SLAVE, 0) \
	X("src-nofollow", SRC_NOFOLLOW, 0, 0) \
	X("strictatime", ATTR, MOUNT_ATTR_STRICTATIME, ATIME) \
	X("suid", ATTR, 0, MOUNT_ATTR_NOSUID) \
	X("symfollow", ATTR, 0, MOUNT_ATTR_NOSYMFOLLOW) \
	X("sync", SUPER, MS_SYNCHRONOUS, 0) \
	X("tmpcopyup", TMPCOPYUP, 0, 0) \
	X("unbindable", PROPAGATION, MS_UNBINDABLE, 0)

static const struct option {
	const char *name;
	enum effect effect;
	uint32_t set, clr;
} options_table[] = {
#define X(name, effect, set, clr) {name, effect, set, clr},
	OPTIONS(X)
#undef X
};

const char *const *spec_known_mount_options(void)
{
	static const char *const names[] = {
#define X(name, effect, set, clr) name,
		OPTIONS(X)
#undef X
			NULL};

	return names;
}

static void change_attr(uint64_t *set, uint64_t *clr, const struct option *o)
{
	*set = (*set & ~(uint64_t)o->clr) | o->set;
	*clr = (*clr & ~(uint64_t)o->set) | o->clr;
}

static void change_super(struct spec_mount *m, const struct option *o)
{
	m->sb_flags = (m->sb_flags & ~o->clr) | o->set;
	m->sb_flags_clr = (m->sb_flags_clr & ~o->set) | o->clr;
}

static void apply_option(struct spec_mount *m, const struct option *o)
{
	switch (o->effect) {
	case NOTHING:
		break;
	case ATTR:
		change_attr(&m->attr_set, &m->attr_clr, o);
		break;
	case REC_ATTR:
		change_attr(&m->rec_attr_set, &m->rec_attr_clr, o);
		break;
	case SUPER:
		change_super(m, o);
		break;
	case PROPAGATION:
		m->propagation = o->set;
		break;
	case RBIND:
		m->rbind = true;
		m->bind = true;
		break;
	case BIND:
		m->bind = true;
		break;
	case REMOUNT:
		m->remount = true;
		break;
	case RIDMAP:
		m->ridmap = true;
		break;
	case IDMAP:
		m->idmap = true;
		break;
	case TMPCOPYUP:
		m->tmpcopyup = true;
		break;
	case COPY_SYMLINK:
		m->copy_symlink = true;
		break;
	case SRC_NOFOLLOW:
		m->src_nofollow = true;
		break;
	case DEST_NOFOLLOW:
		m->dest_nofollow = true;
		break;
	}
}

static const struct option *find_option(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(options_table); i++)
		if (streq(options_table[i].name, name))
			return &options_table[i];
	return NULL;
}

/*
 * Stores the text of crun's mount option "idmap=uids=0-1000-10;gids=0-1000-10" or "ridmap=...".
 * spec_parse_idmaps() parses the text later, because that needs linux.uidMappings and gidMappings,
 * which may not be parsed yet. Returns false if `option` is neither of the two.
 */
static bool take_idmap_option(struct spec_mount *m, const char *option)
{
	bool recursive = option[0] == 'r';

	if (!str_starts(option + recursive, "idmap="))
		return false;
	m->ridmap |= recursive;
	m->idmap |= !recursive;
	option += recursive + strlen("idmap=");
	m->idmap_text = *option ? option : NULL;
	return true;
}

int spec_parse_mount_options(struct arena *a, struct spec_strings options, struct spec_mount *m)
{
	const char **data = arena_array(a, options.n + 1, sizeof(*data));
	size_t ndata = 0;

	if (!data)
		return -ENOMEM;
	for (size_t i = 0; i < options.n; i++) {
		const struct option *o = find_option(options.v[i]);
		if (o)
			apply_option(m, o);
		else if (options.v[i][0] && !take_idmap_option(m, options.v[i]))
			data[ndata++] = options.v[i];
	}
	m->data = (struct spec_strings){.v = data, .n = ndata};
	return 0;
}
