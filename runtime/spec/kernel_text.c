/* SPDX-License-Identifier: Apache-2.0 */
/* Turns parts of config.json into the text that the kernel's files in /proc take. */
#include "spec/spec.h"

int spec_id_maps_text(const struct spec_id_maps *maps, struct strbuf *out)
{
	for (size_t i = 0; i < maps->n; i++) {
		const struct spec_id_map *m = &maps->v[i];
		int r = strbuf_addf(out, "%u %u %u\n", m->container_id, m->host_id, m->size);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * Returns whether the path has only components of ordinary characters, of which none is empty, "."
 * or "..", because other components could lead out of /proc/sys.
 */
static bool is_path(const char *path)
{
	for (const char *s = path;; s++) {
		size_t n = strcspn(s, "/");
		if (n == 0 || (n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.'))
			return false;
		for (size_t i = 0; i < n; i++)
			if ((unsigned char)s[i] <= ' ' || s[i] == 0x7f)
				return false;
		s += n;
		if (!*s)
			return true;
	}
}

bool spec_sysctl_path(char *name)
{
	bool dots = name[strcspn(name, "./")] == '.';

	for (char *s = name; dots && *s; s++)
		*s = *s == '.' ? '/' : *s == '/' ? '.' : *s;
	return is_path(name);
}
