/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/http.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "images/oci/http_internal.h"

#define CONNECT_SECONDS 30L
#define STALL_SECONDS 60
#define HEADER_MAX 8192u /* longest header, in bytes, whose value is kept */

/* One HTTP request while libcurl performs it. */
struct exchange {
	struct http *h;
	const struct http_request *q;
	struct http_response *response;
	uint64_t body_done;
	int failure; /* -errno of a callback that failed and set its message */
};

int http_init_library(void)
{
	return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK
		       ? 0
		       : err_set(EIO, "initialise libcurl");
}

int http_init(struct http *h)
{
	h->curl = curl_easy_init();
	return h->curl ? 0 : err_set(ENOMEM, "out of memory");
}

void http_release(struct http *h)
{
	if (h->curl)
		curl_easy_cleanup(h->curl);
	h->curl = NULL;
}

void http_response_release(struct http_response *r)
{
	strbuf_release(&r->location);
	strbuf_release(&r->link);
	strbuf_release(&r->challenges);
	strbuf_release(&r->text);
}

static void reset_response(struct http_response *r)
{
	http_response_release(r);
	*r = (struct http_response){.length = UINT64_MAX};
}

int http_add_header(struct http_request *q, const char *header)
{
	if (!header)
		return -ENOMEM;
	if (strpbrk(header, "\r\n"))
		return err_set(EINVAL, "a header of a request has a line end in it");
	if (q->nheaders == HTTP_HEADERS_MAX)
		return err_set(E2BIG, "a request has too many headers");
	q->headers[q->nheaders++] = header;
	return 0;
}

static void keep(char *dst, size_t size, const char *value, size_t len)
{
	if (len >= size)
		return;
	memcpy(dst, value, len);
	dst[len] = '\0';
}

static int take_header(struct http_response *r, const char *name, const char *value, size_t len)
{
	uint64_t length;
	char digits[24] = "";

	if (len > HEADER_MAX)
		return 0;
	if (strcasecmp(name, "content-length") == 0) {
		keep(digits, sizeof(digits), value, len);
		r->length = str_to_u64(digits, &length) == 0 ? length : UINT64_MAX;
	} else if (strcasecmp(name, "content-type") == 0) {
		keep(r->content_type, sizeof(r->content_type), value, len);
		r->content_type[strcspn(r->content_type, "; \t")] = '\0';
	} else if (strcasecmp(name, "docker-content-digest") == 0) {
		keep(r->digest, sizeof(r->digest), value, len);
	} else if (strcasecmp(name, "oci-subject") == 0) {
		keep(r->subject, sizeof(r->subject), value, len);
	} else if (strcasecmp(name, "range") == 0) {
		keep(r->range, sizeof(r->range), value, len);
	} else if (strcasecmp(name, "content-range") == 0) {
		keep(r->content_range, sizeof(r->content_range), value, len);
	} else if (strcasecmp(name, "retry-after") == 0) {
		keep(r->retry_after, sizeof(r->retry_after), value, len);
	} else if (strcasecmp(name, "location") == 0) {
		strbuf_reset(&r->location);
		return strbuf_add(&r->location, value, len);
	} else if (strcasecmp(name, "link") == 0) {
		int e = r->link.len && r->link.len + len < HEADER_MAX
				? strbuf_add(&r->link, ", ", 2)
				: 0;
		return e < 0 || r->link.len + len >= HEADER_MAX ? e
								: strbuf_add(&r->link, value, len);
	} else if (strcasecmp(name, "www-authenticate") == 0 &&
		   r->challenges.len + len < HEADER_MAX) {
		int e = strbuf_add(&r->challenges, value, len);
		return e < 0 ? e : strbuf_add(&r->challenges, "\n", 1);
	}
	return 0;
}

static size_t on_header(char *line, size_t size, size_t n, void *data)
{
	struct exchange *x = data;
	char name[64];
	size_t len = size * n, at = 0;

	/*
	 * An answer begins with the line that has the status. What was read before is dropped,
	 * because it belongs to an earlier answer such as "100 Continue".
	 */
	if (len > 5 && memcmp(line, "HTTP/", 5) == 0) {
		reset_response(x->response);
		return len;
	}
	while (at < len && line[at] != ':')
		at++;
	if (at == len || at >= sizeof(name))
		return len;
	memcpy(name, line, at);
	name[at++] = '\0';
	size_t end = len;
	while (at < end && (line[at] == ' ' || line[at] == '\t'))
		at++;
	while (end > at && (line[end - 1] == '\r' || line[end - 1] == '\n' || line[end - 1] == ' '))
		end--;
	x->failure = take_header(x->response, name, line + at, end - at);
	return x->failure < 0 ? 0 : len;
}

static int keep_text(struct exchange *x, const char *bytes, size_t len)
{
	struct strbuf *text = &x->response->text;
	bool fine = x->response->status / 100 == 2;
	size_t max = x->q->text_max ? x->q->text_max : HTTP_TEXT_MAX;

	if (text->len + len <= max)
		return strbuf_add(text, bytes, len);
	/*
	 * Only the beginning of the body of an error answer is kept, because the beginning is
	 * enough for an error message.
	 */
	if (!fine)
		return 0;
	char url[300];
	http_redact(x->q->url, url, sizeof(url));
	return err_set(EFBIG, "%s: the answer has more than %zu bytes", url, max);
}

static size_t on_body(char *bytes, size_t size, size_t n, void *data)
{
	struct exchange *x = data;
	size_t len = size * n;

	if (x->response->status == 0)
		curl_easy_getinfo(x->h->curl, CURLINFO_RESPONSE_CODE, &x->response->status);
	if (x->q->sink && x->response->status / 100 == 2)
		x->failure = x->q->sink(x->q->data, x->response, bytes, len);
	else
		x->failure = keep_text(x, bytes, len);
	return x->failure < 0 ? 0 : len;
}

static size_t on_send(char *buf, size_t size, size_t n, void *data)
{
	struct exchange *x = data;
	const struct http_request *q = x->q;
	size_t len = size * n;
	uint64_t left = q->body_size - x->body_done;

	if (len > left)
		len = (size_t)left;
	if (len == 0)
		return 0;
	ssize_t got = pread(q->body_fd, buf, len, (off_t)(q->body_at + x->body_done));
	if (got <= 0) {
		x->failure = got < 0 ? err_sys("read the file to send")
				     : err_set(EIO, "the file to send has become shorter");
		return CURL_READFUNC_ABORT;
	}
	x->body_done += (uint64_t)got;
	if (q->sent)
		q->sent(q->data, (uint64_t)got);
	return (size_t)got;
}

/*
 * Rewinds the body of a request. libcurl asks for this if the server has closed a kept connection,
 * because libcurl then sends the request again over a new connection.
 */
static int on_seek(void *data, curl_off_t offset, int origin)
{
	struct exchange *x = data;

	if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > x->q->body_size)
		return CURL_SEEKFUNC_CANTSEEK;
	x->body_done = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

static int on_progress(
	void *data, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up_now)
{
	const struct exchange *x = data;

	return x->h->cancel && atomic_load(x->h->cancel);
}

static void set_body(CURL *c, const struct http_request *q, struct exchange *x)
{
	if (q->body) {
		curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(q->body));
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, q->body);
	} else if (q->has_body) {
		curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)q->body_size);
		curl_easy_setopt(c, CURLOPT_READFUNCTION, on_send);
		curl_easy_setopt(c, CURLOPT_READDATA, x);
		curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, on_seek);
		curl_easy_setopt(c, CURLOPT_SEEKDATA, x);
	} else if (!streq(q->method, "GET") && !streq(q->method, "HEAD")) {
		curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE, 0L);
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, "");
	}
	if (streq(q->method, "HEAD"))
		curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
	else
		curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
}

/*
 * Chooses the proxy. libcurl itself reads https_proxy, http_proxy, all_proxy and no_proxy, and the
 * same names in capital letters except HTTP_PROXY, because a client of a CGI program can set that
 * variable. Other engines read HTTP_PROXY too, so this function reads it, except in a CGI program.
 */
static void set_proxy(CURL *c, const struct http_origin *origin)
{
	const char *lower = getenv("http_proxy"), *upper = getenv("HTTP_PROXY");
	bool in_cgi = getenv("REQUEST_METHOD") != NULL;

	curl_easy_setopt(c, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	if (http_is_loopback(origin->host))
		curl_easy_setopt(c, CURLOPT_PROXY, "");
	else if (origin->plain && !(lower && *lower) && upper && *upper && !in_cgi)
		curl_easy_setopt(c, CURLOPT_PROXY, upper);
}

static int set_options(struct http *h, struct exchange *x, const struct http_origin *origin)
{
	const struct http_request *q = x->q;
	CURL *c = h->curl;
	long stall = h->stall_seconds ? h->stall_seconds : STALL_SECONDS;

	curl_easy_reset(c);
	curl_easy_setopt(c, CURLOPT_URL, q->url);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, origin->plain ? "http" : "https");
	curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(c, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, stall);
	curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L << 10);
	curl_easy_setopt(c, CURLOPT_USERAGENT, "caisson/" CAISSON_VERSION);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
	curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(c, CURLOPT_XFERINFODATA, x);
	set_proxy(c, origin);
	set_body(c, q, x);
	return origin->plain ? 0 : http_set_tls(h, q, origin);
}

static int code_of(CURLcode e)
{
	switch (e) {
	case CURLE_COULDNT_CONNECT:
		return ECONNREFUSED;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return EHOSTUNREACH;
	case CURLE_OPERATION_TIMEDOUT:
		return ETIMEDOUT;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
		return EKEYREJECTED;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_ISSUER_ERROR:
		return EPROTO;
	case CURLE_OUT_OF_MEMORY:
		return ENOMEM;
	case CURLE_URL_MALFORMAT:
	case CURLE_LOGIN_DENIED:
	case CURLE_UNSUPPORTED_PROTOCOL:
		return EINVAL;
	default:
		return EPIPE;
	}
}

static int failed(struct exchange *x, CURLcode e, const char *detail)
{
	char url[300], line[300];
	long proxy_status = 0;

	if (x->failure < 0)
		return x->failure;
	if (x->h->cancel && atomic_load(x->h->cancel))
		return err_set(ECANCELED, "another transfer has failed");
	http_redact(x->q->url, url, sizeof(url));
	const char *text = *detail ? detail : curl_easy_strerror(e);
	str_clean(line, sizeof(line), text, strlen(text));
	curl_easy_getinfo(x->h->curl, CURLINFO_HTTP_CONNECTCODE, &proxy_status);
	if (proxy_status / 100 == 4)
		return err_set(EACCES,
			"%s %s: the proxy refuses the connection, with status %ld: https_proxy "
			"names the "
			"proxy, as http://[USER:PASSWORD@]HOST:PORT, and no_proxy the hosts that "
			"need none",
			x->q->method, url, proxy_status);
	const char *hint = "";
	int code = code_of(e);
	if (e == CURLE_PEER_FAILED_VERIFICATION) {
		hint = http_has_cas(x->h->curl)
			       ? " (put its CA into certs.d, see caisson-image(1))"
			       : " (this machine has no file of CAs: install the package "
				 "ca-certificates, "
				 "or put the registry's CA into certs.d, see caisson-image(1))";
	} else if (strstr(line, "certificate required") || strstr(line, "bad certificate") ||
		   strstr(line, "alert unknown ca")) {
		/*
		 * The code EKEYREJECTED makes the caller give up instead of trying again, because
		 * the server has refused this client's certificate by a TLS alert and would do so
		 * again.
		 */
		code = EKEYREJECTED;
		hint = " (it wants a client's certificate that it knows: put one into certs.d, see "
		       "caisson-image(1))";
	}
	return err_set(code, "%s %s: %s%s", x->q->method, url, line, hint);
}

int http_do(struct http *h, const struct http_request *q, struct http_response *ret)
{
	struct exchange x = {.h = h, .q = q, .response = ret};
	struct curl_slist *headers = NULL;
	struct http_origin origin;
	char detail[CURL_ERROR_SIZE] = "";
	int r = http_origin(q->url, &origin);

	reset_response(ret);
	if (r >= 0)
		r = set_options(h, &x, &origin);
	/*
	 * The empty header "Expect:" keeps libcurl from sending "Expect: 100-continue", because
	 * some servers never answer a request with that header.
	 */
	headers = curl_slist_append(headers, "Expect:");
	for (size_t i = 0; i < q->nheaders && headers; i++)
		headers = curl_slist_append(headers, q->headers[i]);
	if (r >= 0 && !headers)
		r = err_set(ENOMEM, "out of memory");
	if (r >= 0) {
		curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, headers);
		curl_easy_setopt(h->curl, CURLOPT_ERRORBUFFER, detail);
		CURLcode e = curl_easy_perform(h->curl);
		curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &ret->status);
		if (e != CURLE_OK || x.failure < 0)
			r = failed(&x, e, detail);
		curl_easy_setopt(h->curl, CURLOPT_ERRORBUFFER, NULL);
		curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, NULL);
	}
	curl_slist_free_all(headers);
	return r;
}
