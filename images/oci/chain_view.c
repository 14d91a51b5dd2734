/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads layers that are unpacked already. This code needs neither an image's documents nor
 * libcrypto, so caisson links it.
 */
#include <stdio.h>

#include "base/overlay.h"
#include "base/sys.h"
#include "images/oci/chain.h"

void chain_erofs_name(const char *layers, char ret[CHAIN_EROFS_SIZE])
{
	snprintf(ret, CHAIN_EROFS_SIZE, "%.*s" CHAIN_EROFS_SUFFIX, (int)strcspn(layers, ":"),
		layers);
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
