/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the directory that contains all containers' state directories, and checks whether it can be
 * trusted.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/sys.h"
#include "launch/container.h"

/* directory of all state directories for an ordinary user without XDG_RUNTIME_DIR; %u is the uid */
#define TMP_ROOT "/tmp/caisson-%u"

bool container_in_userns(void)
{
	return sys_in_userns();
}

/*
 * Returns whether caisson acts for an ordinary user, who may be root of a user namespace. Rootless
 * podman runs caisson as root of a user namespace. To caisson, root in a container with a user
 * namespace looks the same, but such a container has a /run and a systemd of its own. Only the
 * environment tells these two cases apart, and runc decides by the same rule.
 */
bool container_for_user(void)
{
	const char *runtime_dir = getenv("XDG_RUNTIME_DIR"), *user = getenv("USER");

	if (geteuid() != 0)
		return true;
	return runtime_dir && *runtime_dir && (!user || !streq(user, "root")) &&
	       container_in_userns();
}

int container_root(struct arena *a, const char *option, const char **ret)
{
	const char *runtime_dir = getenv("XDG_RUNTIME_DIR");
	char *path;

	if (option && *option) {
		*ret = option;
		return 0;
	}
	if (!container_for_user() || (runtime_dir && streq(runtime_dir, "/run")))
		path = arena_strdup(a, "/run/caisson");
	else if (runtime_dir && *runtime_dir)
		path = arena_printf(a, "%s/caisson", runtime_dir);
	else
		path = arena_printf(a, TMP_ROOT, geteuid());
	*ret = path;
	return path ? 0 : -ENOMEM;
}

static int make_root(const char *root)
{
	char path[4096];

	if (strlen(root) >= sizeof(path))
		return err_set(ENAMETOOLONG, "--root %s: %s", root, strerror(ENAMETOOLONG));
	for (size_t i = 1; root[i - 1]; i++) {
		if (root[i] && root[i] != '/')
			continue;
		memcpy(path, root, i);
		path[i] = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return err_sys("--root %s", root);
	}
	return 0;
}

static bool is_tmp_root(const char *root)
{
	char path[64];

	snprintf(path, sizeof(path), TMP_ROOT, geteuid());
	return streq(path, root);
}

/*
 * Refuses a directory of state directories that another user could change, because whoever can
 * write to it could put a config.json there whose hooks caisson would run. The default directory in
 * /tmp may have been made by another user, so no other user may even read it. An ordinary user may
 * use a directory that root owns, because root could change every directory anyway.
 */
static int check_root(int fd, const char *root)
{
	static const char remedy[] = "choose another directory by --root or XDG_RUNTIME_DIR";
	struct stat st;
	uid_t user = geteuid();

	if (fstat(fd, &st) < 0)
		return err_sys("--root %s", root);
	bool tmp = is_tmp_root(root);
	if (st.st_uid != user && (tmp || st.st_uid != 0))
		return err_set(EPERM,
			"--root %s: the state directory belongs to user %u, expected %u: %s", root,
			st.st_uid, user, remedy);
	mode_t bad = tmp ? 077 : st.st_gid == getegid() ? S_IWOTH : S_IWGRP | S_IWOTH;
	if (st.st_mode & bad)
		return err_set(EPERM,
			"--root %s: the state directory has mode %04o, so that other users can %s "
			"it: `chmod 700` it, or %s",
			root, st.st_mode & 07777, st.st_mode & 022 ? "change" : "read", remedy);
	return 0;
}

/*
 * If the directory of all state directories is the default in /tmp, it is opened without following
 * a symbolic link, because another user may have made the link.
 */
int container_open_root(const char *root, bool create)
{
	int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | (is_tmp_root(root) ? O_NOFOLLOW : 0);

	_cleanup_fd_ int fd = open(root, flags);
	if (fd < 0 && errno == ENOENT) {
		int r = create ? make_root(root) : -ENOENT;
		if (r < 0)
			return r;
		fd = open(root, flags);
	}
	if (fd < 0 && is_tmp_root(root) && (errno == ENOTDIR || errno == ELOOP || errno == EACCES))
		return err_set(EPERM,
			"--root %s: expected a directory of this user's own, found %s: choose "
			"another one by --root or XDG_RUNTIME_DIR",
			root,
			errno == EACCES ? "one of another user" : "a symbolic link or a file");
	if (fd < 0)
		return err_sys("--root %s", root);
	int r = check_root(fd, root);
	return r < 0 ? r : take_fd(&fd);
}

/*
 * Says whether an entry of the directory of all state directories can be a container's. The
 * runtime's own entries (".seccomp") begin with a dot, with which no container's ID begins.
 */
static int may_be_container(const struct dirent *e)
{
	return e->d_name[0] != '.' && (e->d_type == DT_DIR || e->d_type == DT_UNKNOWN);
}

int container_each(const char *root, container_fn *f, void *data)
{
	struct dirent **names;
	_cleanup_fd_ int dir = container_open_root(root, false);

	if (dir < 0)
		return dir == -ENOENT ? 0 : dir;
	int r = 0, n = scandirat(dir, ".", &names, may_be_container, alphasort);
	if (n < 0)
		return err_sys("--root %s", root);
	for (int i = 0; i < n; i++) {
		if (r >= 0)
			r = f(data, dir, names[i]->d_name);
		free(names[i]);
	}
	free(names);
	return r;
}
