/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves the blobs of an image in several threads.
 *
 * Theory of operation: the blobs are a list, from which each thread takes one after another. Each
 * thread has a connection of its own. The first failure stops the other threads, through the
 * registry's `cancel`, and the user sees the message of this failure.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "images/oci/policy.h"
#include "images/oci/transfer_internal.h"

struct crew {
	struct registry *g;
	const struct work_list *list;
	const struct transfer_listener *listener;
	work_fn *fn;
	void *data;
	/*
	 * guards the members that follow, and makes sure that one thread at a time calls the
	 * listener
	 */
	pthread_mutex_t lock;
	size_t next;
	int result;
	char message[ERR_MAX];
};

/* What a thread of the transfer knows of the blob that it moves. */
struct worker {
	struct crew *crew;
	size_t index;
};

int work_add(struct work_list *l, const struct descriptor *d)
{
	for (size_t i = 0; i < l->n; i++)
		if (digest_equal(&l->v[i].d.digest, &d->digest)) {
			if (l->v[i].d.size == d->size)
				return 0;
			return err_set(EINVAL, "%s is given with two sizes", d->digest.text);
		}
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 32;
		struct work *v = arena_array(l->a, cap, sizeof(*v));
		if (!v)
			return -ENOMEM;
		if (l->n)
			memcpy(v, l->v, l->n * sizeof(*v));
		l->v = v;
		l->cap = cap;
	}
	l->v[l->n++] = (struct work){.d = {.media_type = "", .digest = d->digest, .size = d->size}};
	return 0;
}

static void tell(struct crew *c, size_t index, enum transfer_state state)
{
	if (c->listener->blob)
		c->listener->blob(c->listener->data, index, &c->list->v[index].d, state);
}

static void on_bytes(void *data, uint64_t done)
{
	struct worker *w = data;
	struct crew *c = w->crew;

	pthread_mutex_lock(&c->lock);
	if (c->listener->bytes)
		c->listener->bytes(c->listener->data, w->index, done);
	pthread_mutex_unlock(&c->lock);
}

static bool take_next(struct crew *c, size_t *ret)
{
	pthread_mutex_lock(&c->lock);
	bool any = c->result >= 0 && c->next < c->list->n;
	if (any) {
		*ret = c->next++;
		tell(c, *ret, TRANSFER_BEGUN);
	}
	pthread_mutex_unlock(&c->lock);
	return any;
}

static void report(struct crew *c, size_t index, int r)
{
	pthread_mutex_lock(&c->lock);
	if (r >= 0) {
		tell(c, index, r > 0 ? TRANSFER_PRESENT : TRANSFER_DONE);
	} else if (c->result >= 0) {
		c->result = r;
		snprintf(c->message, sizeof(c->message), "%s", err_msg());
		atomic_store(&c->g->cancel, true);
	}
	pthread_mutex_unlock(&c->lock);
}

static void *run(void *data)
{
	struct crew *c = data;
	struct worker w = {.crew = c};
	const struct transfer_events events = {on_bytes, &w};
	_cleanup_http_ struct http h = {0};
	int r = registry_handle(c->g, &h);

	if (r < 0)
		report(c, 0, r);
	while (take_next(c, &w.index))
		report(c, w.index, c->fn(c->data, &h, &c->list->v[w.index], &events));
	return NULL;
}

int work_run(struct registry *g, const struct work_list *l, const struct transfer_options *o,
	work_fn *fn, void *data)
{
	struct crew c = {.g = g, .list = l, .listener = &o->listener, .fn = fn, .data = data};
	pthread_t threads[TRANSFER_JOBS_MAX];
	unsigned want = o->jobs ? o->jobs : TRANSFER_JOBS, n = 0;
	uint64_t bytes = 0;

	for (size_t i = 0; i < l->n; i++)
		bytes += l->v[i].d.size;
	if (o->listener.plan)
		o->listener.plan(o->listener.data, l->n, bytes);
	pthread_mutex_init(&c.lock, NULL);
	/* One thread fewer than wanted is started, because the calling thread also works. */
	while (n + 1 < want && n + 1 < l->n && n < TRANSFER_JOBS_MAX) {
		if (pthread_create(&threads[n], NULL, run, &c) != 0)
			break;
		n++;
	}
	run(&c);
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	pthread_mutex_destroy(&c.lock);
	return c.result < 0 ? err_set(-c.result, "%s", c.message) : 0;
}

static void transfer_notice(const struct transfer_options *o, const char *fmt, ...)
	printf_like(2, 3);
static void transfer_notice(const struct transfer_options *o, const char *fmt, ...)
{
	char text[1024];
	va_list args;

	if (!o->listener.notice)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	o->listener.notice(o->listener.data, text);
}

static const char *wanted(const struct reference *r)
{
	return *r->digest.text ? r->digest.text : r->tag ? r->tag : "latest";
}

static int try_endpoint(const struct endpoint *e, const struct transfer_options *o,
	const struct reference *r, struct registry *g, struct manifest *m)
{
	_cleanup_http_ struct http h = {0};
	int rc = registry_open(g, e, &o->registry);

	if (rc >= 0)
		rc = registry_handle(g, &h);
	if (rc >= 0)
		rc = registry_get_manifest(g, &h, wanted(r), m);
	if (rc < 0) {
		registry_close(g);
		manifest_release(m);
		*m = (struct manifest){0};
	}
	return rc;
}

static int try_candidate(struct arena *a, const struct registries *conf,
	const struct transfer_options *o, const struct reference *r, struct registry *g,
	struct manifest *m)
{
	struct endpoints endpoints;
	int rc = policy_check(r);

	if (rc >= 0)
		rc = registries_endpoints(conf, a, r, &endpoints);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < endpoints.n; i++) {
		rc = try_endpoint(&endpoints.v[i], o, r, g, m);
		if (rc >= 0)
			return 0;
		if (i + 1 < endpoints.n)
			transfer_notice(o, "the mirror %s does not serve it: %s",
				endpoints.v[i].host, err_msg());
	}
	return rc;
}

int transfer_find(struct arena *a, const char *name, const struct transfer_options *o,
	struct registry *g, struct reference *ret, struct manifest *m)
{
	struct registries conf;
	struct candidates found;
	struct reference r;

	if (reference_is_other_transport(name))
		return err_set(EINVAL,
			"\"%.200s\" is not in a registry: `caisson image import` takes it", name);
	int rc = reference_parse(a, name, &r);
	if (rc >= 0)
		rc = registries_load(a, &conf);
	if (rc >= 0)
		rc = registries_candidates(&conf, a, &r, &found);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < found.n; i++) {
		*ret = found.v[i];
		if (found.why)
			transfer_notice(o, "%s is %s/%s: %s", r.repository, ret->host,
				ret->repository, found.why);
		rc = try_candidate(a, &conf, o, ret, g, m);
		if (rc >= 0 || rc == -EPERM)
			return rc;
		if (i + 1 < found.n)
			transfer_notice(o, "%s", err_msg());
	}
	return rc;
}

void transfer_descriptor(
	const struct manifest *m, const struct document *doc, struct descriptor *ret)
{
	const char *type = doc->media_type;

	*ret = (struct descriptor){.digest = m->digest, .size = m->text.len};
	/*
	 * The media type is a constant string, because the document's text is freed before the
	 * descriptor.
	 */
	ret->media_type = streq(type, MEDIA_DOCKER_LIST)       ? MEDIA_DOCKER_LIST
			  : streq(type, MEDIA_DOCKER_MANIFEST) ? MEDIA_DOCKER_MANIFEST
			  : doc->kind == DOCUMENT_INDEX        ? MEDIA_OCI_INDEX
							       : MEDIA_OCI_MANIFEST;
}
