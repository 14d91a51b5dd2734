/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps a network namespace while an interface of the host is in it.
 *
 * When a namespace ends, the kernel removes the virtual interfaces in it. Some time later it brings
 * the physical ones back to the host, without their addresses. So a bind mount of the namespace,
 * STATE/pins/MARK, keeps the namespace until caisson has moved the interface back.
 */
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "netsetup/host/host_internal.h"

#define PIN_NAME_MAX (IFNAMSIZ + 8)
#define PIN_PATH_MAX (PIN_NAME_MAX + 40)

static void pin_name(const struct attachment *a, char ret[PIN_NAME_MAX])
{
	snprintf(ret, PIN_NAME_MAX, "pins/%s", a->host);
}

int pin_make(struct host *h, const struct attachment *a, int netns)
{
	char name[PIN_NAME_MAX], path[PIN_PATH_MAX], from[40];

	pin_name(a, name);
	if (mkdirat(h->state_dir, "pins", 0755) < 0 && errno != EEXIST)
		return err_sys("make the directory pins");
	_cleanup_fd_ int fd =
		openat(h->state_dir, name, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	if (fd < 0)
		return err_sys("make %s", name);
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", h->state_dir, name);
	snprintf(from, sizeof(from), "/proc/self/fd/%d", netns);
	if (mount(from, path, NULL, MS_BIND, NULL) < 0)
		return err_sys("mount the network namespace %s on %s", a->netns, name);
	return 0;
}

int pin_open(struct host *h, const struct attachment *a)
{
	char name[PIN_NAME_MAX];

	pin_name(a, name);
	_cleanup_fd_ int fd = openat(h->state_dir, name, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET ? take_fd(&fd) : -ENODEV;
}

int pin_remove(struct host *h, const struct attachment *a)
{
	char name[PIN_NAME_MAX], path[PIN_PATH_MAX];

	pin_name(a, name);
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", h->state_dir, name);
	/* EINVAL means that a process was killed before it mounted the namespace. */
	if (umount2(path, MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT)
		return err_sys("unmount %s", name);
	if (unlinkat(h->state_dir, name, 0) < 0 && errno != ENOENT)
		return err_sys("remove %s", name);
	(void)unlinkat(h->state_dir, "pins", AT_REMOVEDIR);
	return 0;
}
