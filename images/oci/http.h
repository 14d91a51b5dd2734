/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Speaks HTTP by libcurl: one request at a time. The code follows no redirects, and uses no cookies
 * and no .netrc, because these would send what the caller did not ask for. Proxies are those of the
 * usual variables (https_proxy, http_proxy, all_proxy, no_proxy, and the same in capital letters),
 * but are never used for this machine's own addresses.
 *
 * Messages name a URL without its query, because queries hold signatures of storage servers.
 *
 * A struct http belongs to one thread. The first thread calls http_init_library() before any other
 * function.
 */
#pragma once
#include <stdatomic.h>

#include "base/arena.h"
#include "images/oci/digest.h"

#define HTTP_HEADERS_MAX 16
/* how many bytes of a body are kept if the request has no sink, such as the body of an error */
#define HTTP_TEXT_MAX (64u << 10)

/*
 * A server to which credentials may be sent. Two URLs have the same origin if scheme, host and port
 * are the same.
 */
struct http_origin {
	bool plain; /* the scheme is http and not https */
	char host[256];
	unsigned port;
};

struct http {
	void *curl;
	const char *cert_dir; /* directory of certificates; NULL: the usual certs.d directories */
	/* all requests fail with -ECANCELED once *cancel becomes true; may be NULL */
	const atomic_bool *cancel;
	/* how long, in seconds, a request may get no bytes before it fails; 0: 60 */
	int stall_seconds;
	char dir[4096]; /* directory from which the last request took its certificates */
};

struct http_response {
	long status;
	uint64_t length; /* value of Content-Length; UINT64_MAX: the answer has no such header */
	/*
	 * values of the headers Content-Type, Docker-Content-Digest and others; "" if the answer
	 * does not have the header
	 */
	char content_type[128], digest[DIGEST_TEXT_SIZE], range[64], content_range[64];
	char retry_after[64], subject[DIGEST_TEXT_SIZE];
	struct strbuf location, link;
	struct strbuf challenges; /* values of WWW-Authenticate, one on each line */
	struct strbuf text;       /* the body of the answer, if the request has no sink */
};

struct http_request {
	const char *method, *url;
	bool insecure; /* accept any certificate of the server */
	const char *headers[HTTP_HEADERS_MAX];
	size_t nheaders;
	/* body to send: a text, or body_size bytes of a file from the offset body_at */
	const char *body;
	int body_fd;
	uint64_t body_at, body_size;
	bool has_body;
	/*
	 * Takes the body of an answer whose status is 2xx, piece by piece. The members of *response
	 * for the headers are set before the first call. If sink is NULL, up to text_max bytes of
	 * the body are kept in the response.
	 */
	int (*sink)(void *data, const struct http_response *response, const void *bytes, size_t n);
	/* called with the number of bytes of the file that were sent so far; may be NULL */
	void (*sent)(void *data, uint64_t bytes);
	void *data;
	size_t text_max; /* how many bytes of the body are kept at most; 0: HTTP_TEXT_MAX */
};

int http_init_library(void) must_check;
int http_init(struct http *h) must_check;
void http_release(struct http *h);
#define _cleanup_http_ __attribute__((cleanup(http_release), unused))

void http_response_release(struct http_response *r);
#define _cleanup_response_ __attribute__((cleanup(http_response_release), unused))

/*
 * Does a request. Returns 0 if an answer came, whatever the answer's status is.
 *
 * Returns -EPROTO if the server does not speak TLS, and -EKEYREJECTED if no known CA has signed the
 * server's certificate, if the certificates of certs.d cannot be used, or if the server wants
 * another certificate of the client. Returns -ECONNREFUSED, -EHOSTUNREACH, -ETIMEDOUT or -EPIPE if
 * the server was not reached or the connection was cut; the caller may try again. Returns -EACCES
 * if a proxy refuses the connection. Any other error is that of the sink.
 */
int http_do(struct http *h, const struct http_request *q, struct http_response *ret) must_check;

/* Adds a header, a text "NAME: VALUE". The text must stay valid until the request is done. */
int http_add_header(struct http_request *q, const char *header) must_check;

/*
 * Takes the origin from an absolute URL of http or https. Returns -EINVAL if the text is no such
 * URL.
 */
int http_origin(const char *url, struct http_origin *ret) must_check;
bool http_same_origin(const struct http_origin *a, const struct http_origin *b);
/* Returns whether the host is this machine itself: localhost, 127.0.0.0/8 or ::1. */
bool http_is_loopback(const char *host);

/*
 * Makes *ret the absolute URL of `location`, which came in the answer to a request for the URL
 * `base`.
 */
int http_resolve(struct arena *a, const char *base, const char *location, const char **ret)
	must_check;

/* Writes the URL without query, user and fragment to buf, for messages. */
void http_redact(const char *url, char *buf, size_t size);

/*
 * Reads a range of bytes in the form of Content-Range ("bytes 5-9/10", or "*" in place of the size)
 * or in that of the answers to uploads ("0-9" or "bytes=0-9"). *ret_size is UINT64_MAX if the text
 * names no size. Returns -EINVAL, without a message, if the text is no such range.
 */
int http_parse_range(const char *text, uint64_t *ret_from, uint64_t *ret_to, uint64_t *ret_size)
	must_check;

/*
 * Finds the URL reference of the header Link (RFC 8288) whose relation is "next". *ret is NULL if
 * the header has no such reference or is malformed.
 */
int http_find_next(struct arena *a, const char *link, const char **ret) must_check;

/* Appends the text to a URL's query, with %XX in place of special characters. */
int http_escape(struct strbuf *b, const char *text) must_check;
