/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the readers of a registry's answers: the header WWW-Authenticate, the answer of a token
 * server, and a URL, a range and a Link in headers. Accepted values must be allowed in a header, a
 * redacted URL must have no query, a range must lie within its size, and a link must be a part of
 * the header.
 */
#include <stdlib.h>

#include "images/oci/challenge.h"
#include "images/oci/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_url(struct arena *a, const char *text)
{
	char redacted[300];
	const char *url;
	struct http_origin o;

	http_redact(text, redacted, sizeof(redacted));
	const char *query = strchr(redacted, '?');
	/*
	 * For a long URL http_redact() fills its buffer, so that only the beginning of "?..." fits
	 * at the end.
	 */
	if ((query && !str_starts("?...", query)) || strchr(redacted, '#'))
		abort();
	if (http_resolve(a, "https://registry.example.com/v2/a/blobs/x", text, &url) >= 0 &&
		http_origin(url, &o) >= 0 && (!*o.host || o.port > 65535))
		abort();
}

static void fuzz_headers(struct arena *a, const char *text)
{
	uint64_t from, to, size;
	const char *next;

	if (http_parse_range(text, &from, &to, &size) >= 0 && (from > to || to >= size))
		abort();
	if (http_find_next(a, text, &next) >= 0 && next &&
		(!strstr(text, next) || strchr(next, '>')))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf bytes = {0};
	struct challenge c;
	struct token t;
	const char *text = arena_strndup(&a, (const char *)data, size);

	if (!text || strbuf_add(&bytes, data, size) < 0)
		return 0;
	err_clear();
	if (challenge_parse(&a, text, &c) >= 0) {
		if (c.kind == CHALLENGE_BEARER && !c.realm)
			abort();
	} else if (!*err_msg()) {
		abort();
	}
	err_clear();
	if (token_parse(&a, &bytes, "fuzz", &t) >= 0) {
		if (!*t.text || strpbrk(t.text, " \r\n") || t.seconds < 0 || t.seconds > 3600)
			abort();
	} else if (!*err_msg()) {
		abort();
	}
	fuzz_url(&a, text);
	fuzz_headers(&a, text);
	return 0;
}
