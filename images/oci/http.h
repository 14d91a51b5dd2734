/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP by libcurl: one request at a time, without redirects, cookies, .netrc or anything else that
 * sends what the caller did not ask for. Proxies are those of the usual variables (https_proxy,
 * no_proxy), but never for this machine's own addresses.
 *
 * Messages name a URL without its query, because queries hold signatures of storage servers.
 *
 * A struct http belongs to one thread; http_init_library() comes first, in the first thread.
 */
#pragma once
#include <stdatomic.h>

#include "base/arena.h"
#include "images/oci/digest.h"

#define HTTP_HEADERS_MAX 16
#define HTTP_TEXT_MAX (64u << 10) /* bytes of an answer that nobody takes, as of an error */

/* Where credentials may go: the scheme, the host and the port must be the same. */
struct http_origin {
	bool plain; /* http */
	char host[256];
	unsigned port;
};

struct http {
	void *curl;
	const char *cert_dir;      /* NULL: the certs.d directories */
	const atomic_bool *cancel; /* once true, requests fail with -ECANCELED; may be NULL */
	int stall_seconds;         /* how long nothing may come; 0: 60 */
	char dir[4096];            /* the directory of certificates of the last request */
};

struct http_response {
	long status;
	uint64_t length; /* Content-Length; UINT64_MAX: not said */
	/* headers, "" where absent */
	char content_type[128], digest[DIGEST_TEXT_SIZE], range[64], content_range[64];
	char retry_after[64], subject[DIGEST_TEXT_SIZE];
	struct strbuf location, link;
	struct strbuf challenges; /* the values of WWW-Authenticate, a line each */
	struct strbuf text;       /* the body, if no sink took it */
};

struct http_request {
	const char *method, *url;
	bool insecure; /* the certificate is not checked */
	const char *headers[HTTP_HEADERS_MAX];
	size_t nheaders;
	/* what is sent: a text, or body_size bytes of a file from body_at on */
	const char *body;
	int body_fd;
	uint64_t body_at, body_size;
	bool has_body;
	/*
	 * Takes the body of an answer whose status is 2xx, piece by piece; the response's headers
	 * are complete before the first one. NULL: the text is kept in the response, up to text_max
	 * bytes.
	 */
	int (*sink)(void *data, const struct http_response *response, const void *bytes, size_t n);
	void (*sent)(void *data, uint64_t bytes); /* of the file; may be NULL */
	void *data;
	size_t text_max; /* 0: HTTP_TEXT_MAX */
};

int http_init_library(void) must_check;
int http_init(struct http *h) must_check;
void http_release(struct http *h);
#define _cleanup_http_ __attribute__((cleanup(http_release), unused))

void http_response_release(struct http_response *r);
#define _cleanup_response_ __attribute__((cleanup(http_response_release), unused))

/*
 * 0: there is an answer, of whatever status. -EPROTO: the server does not speak TLS.
 * -EKEYREJECTED: nobody vouches for its certificate. -ECONNREFUSED, -EHOSTUNREACH, -ETIMEDOUT,
 * -EPIPE: the server was not reached, or the connection was cut; these may be tried again. Others:
 * what the sink returned.
 */
int http_do(struct http *h, const struct http_request *q, struct http_response *ret) must_check;

/* Adds "NAME: VALUE". The text must live until the request is done. */
int http_add_header(struct http_request *q, const char *header) must_check;

/* The origin of an absolute URL of http or https. -EINVAL: it is none. */
int http_origin(const char *url, struct http_origin *ret) must_check;
bool http_same_origin(const struct http_origin *a, const struct http_origin *b);
/* Whether the host is this machine's own: localhost, 127.0.0.0/8, ::1. */
bool http_is_loopback(const char *host);

/* The absolute URL that `location` means in an answer from `base`. */
int http_resolve(struct arena *a, const char *base, const char *location, const char **ret)
	must_check;

/* The URL without query, user and fragment, for messages. */
void http_redact(const char *url, char *buf, size_t size);

/* Adds the text as a part of a query. */
int http_escape(struct strbuf *b, const char *text) must_check;
