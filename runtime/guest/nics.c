/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes the network devices from their driver before a template of the machine is made, and gives
 * them back afterwards. The driver reads a device's address, MTU and features when it gets the
 * device, and each machine that starts from the template has values of its own.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "guest/setup.h"

#define DRIVER "/sys/bus/virtio/drivers/virtio_net"

static int tell_driver(int driver, const char *file, const char *device)
{
	int r = fd_write_file(driver, file, device);

	return r < 0 ? err_ctx(r, DRIVER) : 0;
}

int nics_release(struct nics *n)
{
	DIR *d = opendir(DRIVER);
	int r = 0;

	*n = (struct nics){0};
	if (!d)
		return errno == ENOENT ? 0 : err_sys("open " DRIVER);
	for (struct dirent *e; r >= 0 && n->count < NICS_MAX && (e = readdir(d));) {
		if (!str_starts(e->d_name, "virtio") || strlen(e->d_name) >= sizeof(n->names[0]))
			continue;
		strcpy(n->names[n->count++], e->d_name);
	}
	for (size_t i = 0; r >= 0 && i < n->count; i++)
		r = tell_driver(dirfd(d), "unbind", n->names[i]);
	closedir(d);
	return r;
}

int nics_take(struct nics *n)
{
	_cleanup_fd_ int driver =
		n->count ? open(DRIVER, O_PATH | O_DIRECTORY | O_CLOEXEC) : -EBADF;
	int r = n->count && driver < 0 ? err_sys("open " DRIVER) : 0;

	for (size_t i = 0; driver >= 0 && i < n->count; i++)
		if (tell_driver(driver, "bind", n->names[i]) < 0)
			r = -EIO;
	n->count = 0;
	return r;
}
