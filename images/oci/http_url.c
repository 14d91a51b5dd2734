/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes URLs apart with libcurl's own parser, so that caisson checks the very host to which libcurl
 * connects.
 */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>

#include "images/oci/http.h"

static void free_url(CURLU **u)
{
	curl_url_cleanup(*u);
}

static void free_part(char **s)
{
	curl_free(*s);
}
#define _cleanup_url_ __attribute__((cleanup(free_url), unused))
#define _cleanup_part_ __attribute__((cleanup(free_part), unused))

int http_origin(const char *url, struct http_origin *ret)
{
	_cleanup_url_ CURLU *u = curl_url();
	_cleanup_part_ char *scheme = NULL, *host = NULL, *port = NULL;
	char redacted[200];
	uint64_t number;

	*ret = (struct http_origin){0};
	http_redact(url, redacted, sizeof(redacted));
	if (!u || curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK ||
		curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
		curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
		curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK)
		return err_set(EINVAL, "\"%s\" is no URL", redacted);
	ret->plain = strcasecmp(scheme, "http") == 0;
	if (!ret->plain && strcasecmp(scheme, "https") != 0)
		return err_set(EINVAL, "\"%s\": expected a URL of http or https", redacted);
	if (strlen(host) >= sizeof(ret->host) || str_to_u64(port, &number) < 0)
		return err_set(EINVAL, "\"%s\": its host is too long", redacted);
	for (size_t i = 0; host[i]; i++)
		ret->host[i] = host[i] >= 'A' && host[i] <= 'Z' ? (char)(host[i] + 32) : host[i];
	ret->port = (unsigned)number;
	return 0;
}

bool http_same_origin(const struct http_origin *a, const struct http_origin *b)
{
	return a->plain == b->plain && a->port == b->port && streq(a->host, b->host);
}

bool http_is_loopback(const char *host)
{
	char plain[256];
	struct in_addr v4;
	struct in6_addr v6;
	size_t len = strlen(host);
	bool brackets = len > 2 && host[0] == '[' && host[len - 1] == ']';

	if (len >= sizeof(plain))
		return false;
	memcpy(plain, host + brackets, len - 2 * brackets);
	plain[len - 2 * brackets] = '\0';
	if (strcasecmp(plain, "localhost") == 0)
		return true;
	if (inet_pton(AF_INET, plain, &v4) == 1)
		return (ntohl(v4.s_addr) >> 24) == 127;
	return inet_pton(AF_INET6, plain, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

int http_resolve(struct arena *a, const char *base, const char *location, const char **ret)
{
	_cleanup_url_ CURLU *u = curl_url();
	_cleanup_part_ char *whole = NULL;
	char redacted[200];

	if (!u || curl_url_set(u, CURLUPART_URL, base, 0) != CURLUE_OK ||
		curl_url_set(u, CURLUPART_URL, location, 0) != CURLUE_OK ||
		curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0) != CURLUE_OK ||
		curl_url_get(u, CURLUPART_URL, &whole, 0) != CURLUE_OK) {
		http_redact(location, redacted, sizeof(redacted));
		return err_set(EPROTO, "an answer leads to \"%s\", which is no URL", redacted);
	}
	*ret = arena_strdup(a, whole);
	return *ret ? 0 : -ENOMEM;
}

void http_redact(const char *url, char *buf, size_t size)
{
	const char *start = strstr(url, "://");
	size_t authority = start ? (size_t)(start - url) + 3 : 0, len = strcspn(url, "?#");
	const char *at = NULL;

	/*
	 * The part of the URL before "@" is skipped, because a URL may have USER:PASSWORD@ in front
	 * of the host.
	 */
	for (size_t i = authority; i < len && url[i] != '/'; i++)
		if (url[i] == '@')
			at = url + i + 1;
	if (at)
		snprintf(buf, size, "%.*s%.*s%s", (int)authority, url,
			(int)(len - (size_t)(at - url)), at, url[len] ? "?..." : "");
	else
		snprintf(buf, size, "%.*s%s", (int)len, url, url[len] ? "?..." : "");
}

int http_escape(struct strbuf *b, const char *text)
{
	_cleanup_part_ char *escaped = curl_easy_escape(NULL, text, (int)strlen(text));

	return escaped ? strbuf_add(b, escaped, strlen(escaped)) : err_set(ENOMEM, "out of memory");
}
