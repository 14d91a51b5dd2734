/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads layers that are unpacked already. This code needs neither an image's documents nor
 * libcrypto, so caisson links it.
 */
#include <linux/limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/overlay.h"
#include "base/sys.h"
#include "images/oci/chain.h"

static int copy_xattr(int from, int to, const char *name)
{
	_cleanup_free_ char *value = malloc(XATTR_SIZE_MAX);

	if (!value)
		return err_set(ENOMEM, "out of memory");
	ssize_t n = fgetxattr(from, name, value, XATTR_SIZE_MAX);
	if (n < 0)
		return err_sys("read the extended attribute %s of a layer", name);
	if (fsetxattr(to, name, value, (size_t)n, 0) < 0)
		return err_sys("set the extended attribute %s of a layer", name);
	return 0;
}

static int copy_xattrs(int from, int to)
{
	_cleanup_free_ char *names = malloc(XATTR_LIST_MAX);
	int r = 0;

	if (!names)
		return err_set(ENOMEM, "out of memory");
	ssize_t n = flistxattr(from, names, XATTR_LIST_MAX);
	if (n < 0)
		return errno == EOPNOTSUPP ? 0 : err_sys("read the extended attributes of a layer");
	for (const char *p = names; p < names + n && r >= 0; p += strlen(p) + 1)
		/*
		 * Two kinds of attributes are left out: those of overlayfs, because they describe
		 * one layer and not the merged tree, and the SELinux label, because the kernel sets
		 * it.
		 */
		if (!strstr(p, ".overlay.") && !streq(p, "security.selinux"))
			r = copy_xattr(from, to, p);
	return r;
}

int chain_copy_root(int lower, int upper)
{
	struct stat st;

	if (fstat(lower, &st) < 0)
		return err_sys("look at a layer");
	if (fchown(upper, st.st_uid, st.st_gid) < 0 || fchmod(upper, st.st_mode & 07777) < 0)
		return err_sys("set the owner and mode of a layer's root");
	int r = copy_xattrs(lower, upper);
	const struct timespec times[2] = {st.st_atim, st.st_mtim};
	if (r >= 0 && futimens(upper, times) < 0)
		r = err_sys("set the time of a layer's root");
	return r;
}

int chain_open_view(const struct store *s, const char *layers)
{
	_cleanup_strbuf_ struct strbuf dir = {0};
	struct overlay o = {.lower = layers, .userxattr = sys_in_userns()};

	if (!strchr(layers, ':')) {
		int fd = openat(s->layers, layers, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		return fd < 0 ? err_sys("open %s/layers/%s", s->path, layers) : fd;
	}
	int r = strbuf_addf(&dir, "%s/layers", s->path);
	o.dir = strbuf_str(&dir);
	return r < 0 ? r : overlay_mount(&o);
}
