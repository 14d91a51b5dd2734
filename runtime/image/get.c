/* SPDX-License-Identifier: Apache-2.0 */
#include "image/image.h"

/* There is no registry client in this program yet, so nothing is fetched. */
int image_get(const struct image_globals *g, const struct store *s, struct arena *a,
	const char *name, const struct platform *platform, struct image *ret)
{
	const char *tag;
	struct descriptor d;
	int r = image_find(s, a, name, &tag, &d);

	if (r == -ENOENT)
		return err_set(ENOENT,
			"no image \"%.200s\" in the store %s: `caisson image import` copies one "
			"from another tool's form, `caisson image ls` lists those that are there",
			name, s->path);
	return r < 0 ? r : image_open(s, a, name, platform, ret);
}
