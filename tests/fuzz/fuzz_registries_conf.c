/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the reader of registries.conf. A short and a full name are looked up in the file, and each
 * result must name a registry of the right form.
 */
#include <stdlib.h>

#include "images/oci/registries.h"
#include "images/oci/toml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_up(const struct registries *g, struct arena *a, const char *name)
{
	struct reference r;
	struct candidates found;
	struct endpoints endpoints;

	if (reference_parse(a, name, &r) < 0)
		abort();
	err_clear();
	if (registries_candidates(g, a, &r, &found) < 0) {
		if (!*err_msg())
			abort();
		return;
	}
	for (size_t i = 0; i < found.n; i++) {
		if (reference_check_host(found.v[i].host) < 0)
			abort();
		err_clear();
		if (registries_endpoints(g, a, &found.v[i], &endpoints) < 0) {
			if (!*err_msg())
				abort();
			continue;
		}
		if (endpoints.n == 0)
			abort();
		for (size_t e = 0; e < endpoints.n; e++)
			if (reference_check_host(endpoints.v[e].host) < 0)
				abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf text = {0};
	struct registries g = {.n = 1, .paths = {"fuzz"}};
	struct json *root;

	if (strbuf_add(&text, data, size) < 0)
		return 0;
	err_clear();
	if (toml_parse(&a, &text, "fuzz", &root) < 0) {
		if (!*err_msg())
			abort();
		return 0;
	}
	g.files[0] = root;
	look_up(&g, &a, "debian:12");
	look_up(&g, &a,
		"a.example.com/team/x@sha256:"
		"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
	return 0;
}
