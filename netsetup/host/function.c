/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds virtual functions (SR-IOV) in sysfs. The interfaces of the functions of eth0 are
 *
 *	/sys/class/net/eth0/device/virtfn0/net/NAME
 *	/sys/class/net/eth0/device/virtfn1/net/NAME
 *
 * sysfs shows only the interfaces of the host's network namespace. So NAME is missing if a
 * container has the function, or if the function is given to a virtual machine by vfio.
 */
#include <dirent.h>
#include <stdio.h>

#include "netsetup/host/host_internal.h"

/*
 * most functions of one interface that are looked at; PCI allows 65535, the largest cards have 256
 */
#define FUNCTIONS_MAX 1024
#define SYSFS_PATH 128

/*
 * Reads the name of the function's interface. Returns -ENOENT without a message if the function has
 * no interface.
 */
static int read_function(const char *parent, unsigned i, char ret[IFNAMSIZ])
{
	char path[SYSFS_PATH];
	struct dirent *e;
	int r = -ENOENT;
	DIR *d;

	snprintf(path, sizeof(path), "/sys/class/net/%s/device/virtfn%u/net", parent, i);
	d = opendir(path);
	if (!d)
		return errno == ENOENT ? -ENOENT : err_sys("open %s", path);
	while (r == -ENOENT && (e = readdir(d)))
		if (e->d_name[0] != '.' && strlen(e->d_name) < IFNAMSIZ) {
			memcpy(ret, e->d_name, strlen(e->d_name) + 1);
			r = 0;
		}
	closedir(d);
	return r;
}

int function_pick(const char *parent, char ret[IFNAMSIZ])
{
	char path[SYSFS_PATH];
	unsigned i;

	for (i = 0; i < FUNCTIONS_MAX; i++) {
		int r;

		snprintf(path, sizeof(path), "/sys/class/net/%s/device/virtfn%u", parent, i);
		if (access(path, F_OK) < 0)
			break;
		r = read_function(parent, i, ret);
		if (r != -ENOENT)
			return r;
	}
	if (i == 0)
		return err_set(ENODEV,
			"interface %s has no virtual functions: write how many it shall have to "
			"/sys/class/net/%s/device/sriov_numvfs",
			parent, parent);
	return err_set(EBUSY,
		"interface %s: all its %u virtual functions are used: detach a container, or make "
		"more (/sys/class/net/%s/device/sriov_numvfs)",
		parent, i, parent);
}
