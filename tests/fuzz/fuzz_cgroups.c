/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the parsers of systemd annotations, linux.cgroupsPath and mountinfo. The first byte
 * chooses the parser that gets the rest of the input.
 */
#include <stdlib.h>

#include "cgroups/cg_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_free_ char *text = size ? strndup((const char *)data + 1, size - 1) : NULL;
	const char *out = NULL;
	struct cgroup cg = {0};
	struct gv *v = NULL;
	size_t len;
	int r = 0;

	if (!text)
		return 0;
	switch (data[0] % 6) {
	case 0:
		r = gv_parse(&a, text, &v);
		if (r == 0 && (!v || !v->sig || !*v->sig))
			abort();
		break;
	case 1:
		r = cg_expand_slice(&a, text, &out);
		if (r == 0 && out[0] != '/')
			abort();
		break;
	case 2:
		r = cg_clean_path(&a, text, &out);
		if (r == 0 && (out[0] != '/' || strstr(out, "/../")))
			abort();
		break;
	case 3:
		r = cg_scope_names(
			&a, &(struct cg_options){.id = "id", .cgroups_path = text}, false, &cg);
		if (r == 0 && (!cg.scope || strchr(cg.scope, '/') || strchr(cg.slice, '/')))
			abort();
		break;
	case 4:
		r = cg_mount_from_text(&a, text, &out);
		if (r == 0)
			r = cg_v1_holder(&a, text, "memory", &out);
		break;
	default:
		r = cg_check_unified(text, &len);
		if (r == 0 && (len == 0 || text[len] != '.'))
			abort();
	}
	return 0;
}
