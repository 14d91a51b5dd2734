/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer: any text as a name of an image. What is accepted can be part of a URL's path and of a
 * header, and its full text is accepted again, with the same parts.
 */
#include <stdlib.h>

#include "images/oci/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool same(const char *a, const char *b)
{
	return a && b ? streq(a, b) : a == b;
}

static void check(struct arena *a, const struct reference *r)
{
	struct reference again;
	const char *text = reference_text(a, r);

	if (!text || strpbrk(text, " \t\r\n?#%\\") || strstr(text, "//"))
		abort();
	/* A tag may have two dots. */
	if (strstr(r->repository, "..") || (r->host && strstr(r->host, "..")))
		abort();
	if (strlen(r->repository) > REFERENCE_NAME_MAX + strlen("library/") ||
		r->repository[0] == '/' || (r->tag && strlen(r->tag) > REFERENCE_TAG_MAX))
		abort();
	if (r->host && reference_check_host(r->host) < 0)
		abort();
	/* "library/" may make it too long. */
	if (strlen(r->repository) > REFERENCE_NAME_MAX - 20)
		return;
	if (reference_parse(a, text, &again) < 0 || !same(again.host, r->host) ||
		!same(again.repository, r->repository) || !digest_equal(&again.digest, &r->digest))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena a = {0};
	struct reference r;
	const char *text = arena_strndup(&a, (const char *)data, size);

	err_clear();
	if (!text)
		return 0;
	if (reference_parse(&a, text, &r) >= 0)
		check(&a, &r);
	else if (!*err_msg())
		abort();
	return 0;
}
