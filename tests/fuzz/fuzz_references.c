/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the reader of images' names. Each part of an accepted name must be allowed in a URL's path
 * and in a header, and the full text must be accepted again, with the same parts.
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
	/* The host and the repository must not contain "..", but a tag may. */
	if (strstr(r->repository, "..") || (r->host && strstr(r->host, "..")))
		abort();
	if (strlen(r->repository) > REFERENCE_NAME_MAX + strlen("library/") ||
		r->repository[0] == '/' || (r->tag && strlen(r->tag) > REFERENCE_TAG_MAX))
		abort();
	if (r->host && reference_check_host(r->host) < 0)
		abort();
	/*
	 * The reader adds the prefix "library/" to some names, which may make a long repository
	 * name longer than allowed, so the check leaves out long names.
	 */
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
