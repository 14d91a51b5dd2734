/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements `caisson image fetch`: gets one file, such as the kernel of a machine, by HTTP or out
 * of an OCI artifact. The file is a blob of the store, so the store checks its digest and has it
 * the next time.
 */
#include <stdio.h>
#include <string.h>

#include "image/registry_options.h"
#include "image/transfer_progress.h"
#include "images/oci/transfer.h"

#define ARTIFACT_PREFIX "oci://"
#define TITLE "org.opencontainers.image.title"
#define REDIRECTS_MAX 5
#define FILE_MAX_BYTES (UINT64_C(4) << 30) /* size of the largest file that is fetched by HTTP */

struct fetching {
	struct registry_arguments registry;
	struct transfer_options options;
	struct transfer_progress progress;
	struct store *store;
	struct arena *arena;
	const char *source; /* as the user wrote it */
	struct digest digest;
};

/* --- by HTTP --- */

static int on_bytes(void *data, const struct http_response *response, const void *bytes, size_t n)
{
	struct blob_writer *w = data;

	if (w->written + n > FILE_MAX_BYTES)
		return err_set(EFBIG, "the file has more than %llu bytes",
			(unsigned long long)FILE_MAX_BYTES);
	return blob_write(w, bytes, n);
}

/*
 * Refuses a file that anyone on the network path could change: without TLS the user has to name the
 * file's digest, unless the server is on this host.
 */
static int check_origin(const struct fetching *f, const char *url, struct http_origin *ret)
{
	int r = http_origin(url, ret);

	if (r < 0 || !ret->plain || *f->digest.text || http_is_loopback(ret->host))
		return r;
	return err_set(EPERM, "without TLS anyone on the way can change the file: use https, or "
			      "name its digest, as in URL@sha256:HEX");
}

/*
 * Gets the URL, and follows redirects. A redirect from https to http needs a digest, too.
 * --insecure and --cert-dir hold only for the server that the user has named, because the user
 * does not know the servers to which it redirects.
 */
static int get_url(struct fetching *f, struct http *h, const char *url, struct blob_writer *w)
{
	struct http_origin named, origin;
	char shown[512];

	for (int i = 0; i <= REDIRECTS_MAX; i++) {
		_cleanup_response_ struct http_response a = {0};
		struct http_request q = {.method = "GET", .url = url, .sink = on_bytes, .data = w};
		int r = check_origin(f, url, &origin);
		http_redact(url, shown, sizeof(shown));
		if (i == 0)
			named = origin;
		bool own = http_same_origin(&origin, &named);
		q.insecure = own && f->registry.insecure;
		h->cert_dir = own ? f->registry.cert_dir : NULL;
		if (r >= 0)
			r = http_do(h, &q, &a);
		if (r < 0)
			return err_ctx(r, "fetch %s", shown);
		if (a.status == 200)
			return 0;
		if (a.status < 300 || a.status > 308 || a.location.len == 0)
			return err_set(a.status == 404 ? ENOENT : EIO,
				"fetch %s: the server answers with status %ld", shown, a.status);
		r = http_resolve(f->arena, url, strbuf_str(&a.location), &url);
		if (r < 0)
			return err_ctx(r, "fetch %s", shown);
	}
	return err_set(ELOOP, "fetch %s: more than %d redirects", shown, REDIRECTS_MAX);
}

static int fetch_url(struct fetching *f, const char *url, struct digest *ret)
{
	const struct digest *expected = *f->digest.text ? &f->digest : NULL;
	_cleanup_blob_ struct blob_writer w = BLOB_WRITER_INIT;
	_cleanup_http_ struct http h = {0};
	_cleanup_fd_ int there = expected ? store_open_blob(f->store, expected, NULL) : -ENOENT;

	/* The store has checked the digest when it got the file. */
	*ret = f->digest;
	if (there >= 0 || there != -ENOENT)
		return there < 0 ? there : 0;
	err_clear();
	int r = blob_begin(f->store, expected, UINT64_MAX, &w);
	if (r == -EBUSY)
		return err_set(EBUSY, "%s: another process is fetching it", f->source);
	/*
	 * The download starts at the first byte, because not every web server can continue an
	 * interrupted download.
	 */
	if (r >= 0)
		r = blob_restart(&w);
	if (r >= 0)
		r = http_init(&h);
	if (r >= 0)
		r = get_url(f, &h, url, &w);
	if (r >= 0)
		r = err_ctx(blob_finish(&w, ret, NULL), "fetch %s", f->source);
	return r;
}

/* --- out of an artifact --- */

static const char *title_of(const struct descriptor *d)
{
	const char *title = json_get_str(d->annotations, TITLE);

	return title ? title : "";
}

/* Finds the file called `title`, or the only file of the artifact if `title` is NULL. */
static int choose_file(const struct fetching *f, const struct document *d, const char *title,
	const struct descriptor **ret)
{
	_cleanup_strbuf_ struct strbuf names = {0};

	*ret = NULL;
	for (size_t i = 0; i < d->nlayers; i++) {
		if (title ? streq(title_of(&d->layers[i]), title) : d->nlayers == 1)
			*ret = &d->layers[i];
		(void)!strbuf_addf(&names, "%s\"%s\"", i ? ", " : "", title_of(&d->layers[i]));
	}
	if (*ret)
		return 0;
	return err_set(ENOENT,
		"%s: expected \"#\" and the name of one of the artifact's files behind the "
		"artifact's name: %s",
		f->source, names.len ? strbuf_str(&names) : "it has none");
}

/* Reads the artifact's manifest and finds the file in it. */
static int find_file(
	struct fetching *f, const char *name, const char *title, const struct descriptor **ret)
{
	struct image img = {0};
	const char *tag;
	int r = image_find(f->store, f->arena, name, &tag, &img.tag);

	if (r >= 0)
		r = image_read_manifest(f->store, f->arena, f->options.platform, &img);
	return r < 0 ? r : choose_file(f, &img.document, title, ret);
}

/*
 * Pulls the artifact. Blobs that the store already has are not fetched again. If the artifact is
 * named by its digest and the store has the file, the registry is not asked at all.
 */
static int fetch_artifact(struct fetching *f, const char *name, struct digest *ret)
{
	const char *hash = strchr(name, '#'), *title = hash ? hash + 1 : NULL;
	const struct descriptor *file = NULL;
	struct transfer_result pulled;
	int r = -ENOENT;

	name = hash ? arena_strndup(f->arena, name, (size_t)(hash - name)) : name;
	if (!name)
		return -ENOMEM;
	if (strchr(name, '@'))
		r = find_file(f, name, title, &file);
	if (r < 0 || store_has_blob(f->store, &file->digest, file->size) <= 0) {
		err_clear();
		r = image_pull(f->store, f->arena, name, &f->options, &pulled);
		transfer_progress_end(&f->progress);
		if (r >= 0)
			r = find_file(f, pulled.name, title, &file);
	}
	if (r >= 0)
		*ret = file->digest;
	return r;
}

/* --- the command --- */

/*
 * Takes the digest off the end of a URL. The "@" behind a user's name in a URL begins no digest,
 * and http_do() refuses such a URL.
 */
static int take_digest(struct fetching *f, const char **url)
{
	const char *at = strrchr(*url, '@');

	if (!at || (!str_starts(at, "@sha256:") && !str_starts(at, "@sha512:")))
		return 0;
	int r = digest_parse(at + 1, "the digest behind \"@\"", &f->digest);
	*url = arena_strndup(f->arena, *url, (size_t)(at - *url));
	return r < 0 ? r : *url ? 0 : -ENOMEM;
}

static int fetch(struct fetching *f, struct digest *ret)
{
	const char *url = f->source;

	if (str_starts(url, ARTIFACT_PREFIX))
		return fetch_artifact(f, url + strlen(ARTIFACT_PREFIX), ret);
	if (!str_starts(url, "https://") && !str_starts(url, "http://"))
		return err_set(EINVAL,
			"%s: expected https://..., http://... or " ARTIFACT_PREFIX "...", url);
	int r = take_digest(f, &url);
	return r < 0 ? r : fetch_url(f, url, ret);
}

int image_cmd_fetch(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_store_ struct store s = STORE_INIT;
	struct fetching f = {.store = &s, .arena = &a};
	struct image_arguments args = {.min = 1, .max = 1};
	struct digest d = {0};
	const struct option_def defs[] = {REGISTRY_OPTIONS(&f.registry), {0}};

	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	f.source = args.v[0];
	r = registry_options_take(&f.registry, &a, &f.options.registry);
	transfer_progress_init(&f.progress, false, g->quiet, "the store");
	f.options.listener = transfer_progress_listener(&f.progress);
	f.options.registry.pausing = f.options.listener.notice;
	f.options.registry.data = &f.progress;
	if (r >= 0)
		r = image_open_store(g, &s);
	if (r >= 0)
		r = fetch(&f, &d);
	transfer_progress_end(&f.progress);
	if (r < 0)
		return r;
	const char *line = arena_printf(&a, "%s/images/blobs/%s/%s\n", s.path,
		digest_algorithm_name(d.algorithm), digest_hex(&d));
	return line ? program_print(line, strlen(line)) : -ENOMEM;
}
