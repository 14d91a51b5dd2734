/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collects garbage: marks every blob and layer that a tag or a container needs, then removes all
 * others. The process holds the store's exclusive lock meanwhile, so no other process unpacks a
 * layer or makes a container.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/dir.h"
#include "base/remove.h"
#include "images/oci/chain.h"
#include "images/oci/container_dir.h"
#include "images/oci/store_internal.h"

#define MAX_NESTED_INDEXES 4

/*
 * The digests of the blobs and of the chains of layers that are needed. One list serves both,
 * because a chain's digest is never that of a blob.
 */
struct marks {
	const struct store *store;
	struct digest *v;
	size_t n, cap;
	/* names of the needed directories in STORE/layers, as ":NAME:NAME:" */
	struct strbuf layers;
	char ids[ROOTLESS_KEY_SIZE]; /* key of this process's id maps */
};

static void release_marks(struct marks *m)
{
	free(m->v);
	strbuf_release(&m->layers);
}

static int add_mark(struct marks *m, const struct digest *d)
{
	if (m->n == m->cap) {
		size_t cap = m->cap ? m->cap * 2 : 64;
		struct digest *v = reallocarray(m->v, cap, sizeof(*v));
		if (!v)
			return err_set(ENOMEM, "out of memory");
		m->v = v;
		m->cap = cap;
	}
	m->v[m->n++] = *d;
	return 0;
}

static int compare_digests(const void *a, const void *b)
{
	return strcmp(((const struct digest *)a)->text, ((const struct digest *)b)->text);
}

static int mark(struct marks *m, const struct descriptor *d, int depth);

/*
 * Marks the chains of layers of an image as needed. A document that is no image, or whose
 * configuration is missing, has no chains that a container could use.
 */
static int mark_chains(struct marks *m, const struct document *doc)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf text = {0};
	struct image img = {.document = *doc};
	struct digest id;

	int r = store_read_document(m->store, &doc->config, &text);
	if (r >= 0)
		r = image_config_parse(&a, &text, doc->config.digest.text, &img.config);
	if (r < 0) {
		err_clear();
		return r == -ENOMEM ? r : 0;
	}
	for (size_t i = 0; i < img.config.ndiff_ids && r >= 0; i++) {
		r = chain_id(&img, i, &id);
		if (r >= 0)
			r = add_mark(m, &id);
	}
	return r;
}

static int mark_document(struct marks *m, const struct document *doc, int depth)
{
	int r = 0;

	if (doc->kind == DOCUMENT_MANIFEST) {
		r = add_mark(m, &doc->config.digest);
		for (size_t i = 0; i < doc->nlayers && r >= 0; i++)
			r = add_mark(m, &doc->layers[i].digest);
		return r < 0 ? r : mark_chains(m, doc);
	}
	for (size_t i = 0; i < doc->nmanifests && r >= 0; i++) {
		/*
		 * Manifests that are not in the store are skipped, because often only one
		 * platform's image of an index was pulled.
		 */
		r = store_has_blob(m->store, &doc->manifests[i].digest, doc->manifests[i].size);
		if (r > 0)
			r = mark(m, &doc->manifests[i], depth + 1);
	}
	return r;
}

static int mark(struct marks *m, const struct descriptor *d, int depth)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf text = {0};
	struct document doc;
	int r = add_mark(m, &d->digest);

	if (r < 0 ||
		(!media_type_is_index(d->media_type) && !media_type_is_manifest(d->media_type)))
		return r;
	if (depth > MAX_NESTED_INDEXES)
		return err_set(EINVAL, "%s: indexes nested deeper than %d", d->digest.text,
			MAX_NESTED_INDEXES);
	r = store_read_document(m->store, d, &text);
	if (r >= 0)
		r = document_parse(&a, &text, d->digest.text, d->media_type, &doc);
	return r < 0 ? r : mark_document(m, &doc, depth);
}

static int mark_tags(struct marks *m)
{
	_cleanup_arena_ struct arena a = {0};
	struct document tags;
	int r = store_tags(m->store, &a, &tags);

	for (size_t i = 0; r >= 0 && i < tags.nmanifests; i++) {
		r = mark(m, &tags.manifests[i], 0);
		if (r < 0)
			return err_ctx(r,
				"nothing was removed, because what the tag \"%s\" uses is unknown",
				tags.manifests[i].ref_name ? tags.manifests[i].ref_name : "");
	}
	return r;
}

/*
 * Removes the files that are not marked as needed from a directory of blobs. If `algorithm` is
 * NULL, removes all files of the directory.
 */
static int sweep(int dir, const char *algorithm, const struct marks *m, struct store_freed *freed)
{
	DIR *d = dir_take_fd(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *e;
	struct stat st;

	if (!d)
		return err_sys("read the store's blobs");
	while ((e = readdir(d))) {
		struct digest key;
		if (e->d_name[0] == '.')
			continue;
		if (algorithm) {
			int n = snprintf(key.text, sizeof(key.text), "%s:%s", algorithm, e->d_name);
			if (n < (int)sizeof(key.text) && m->n &&
				bsearch(&key, m->v, m->n, sizeof(*m->v), compare_digests))
				continue;
		}
		if (fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
			unlinkat(dir, e->d_name, 0) < 0)
			continue;
		freed->blobs += algorithm != NULL;
		freed->bytes += (uint64_t)st.st_blocks * 512;
	}
	closedir(d);
	return 0;
}

/* Calls f for each name in the directory `dir`, except "." and "..". */
static int each_name(int dir,
	int (*f)(struct marks *m, const char *name, struct store_freed *freed), struct marks *m,
	struct store_freed *freed)
{
	DIR *d = dir_take_fd(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *e;
	int r = 0;

	if (!d)
		return err_sys("read a directory of the store %s", m->store->path);
	while (r >= 0 && (e = readdir(d)))
		if (!streq(e->d_name, ".") && !streq(e->d_name, ".."))
			r = f(m, e->d_name, freed);
	closedir(d);
	return r;
}

/*
 * Marks the image that a container came from as needed, because a commit of the container needs it.
 * The container works without the image too, so an image that cannot be read is no error here.
 */
static int mark_image(struct marks *m, const struct container_uses *uses)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf text = {0};
	struct descriptor d = {.digest = uses->manifest};
	struct document doc;

	_cleanup_fd_ int fd = store_open_blob(m->store, &d.digest, &d.size);
	int r = fd < 0 ? fd : store_read_document(m->store, &d, &text);
	if (r >= 0)
		r = document_parse(&a, &text, d.digest.text, NULL, &doc);
	if (r >= 0)
		r = add_mark(m, &d.digest);
	if (r >= 0)
		r = mark_document(m, &doc, 0);
	if (r < 0)
		err_clear();
	return r == -ENOMEM ? r : 0;
}

/*
 * Marks the layers that a container uses as needed, or removes the container's directory if nobody
 * needs it.
 */
static int mark_container(struct marks *m, const char *name, struct store_freed *freed)
{
	_cleanup_arena_ struct arena a = {0};
	struct container_uses uses;
	int r = *name == '.' ? 0 : container_dir_is_needed(m->store, name);

	if (r < 0)
		return r;
	if (r == 0) {
		freed->containers += *name != '.';
		return remove_tree(m->store->containers, name, NULL);
	}
	r = container_dir_read(m->store, &a, name, &uses);
	if (r >= 0)
		r = mark_image(m, &uses);
	if (r >= 0)
		r = strbuf_addf(&m->layers, "%s:", uses.layers);
	return r < 0 ? err_ctx(r, "nothing was removed") : 0;
}

/*
 * Keeps a chain of layers if its digest is marked as needed or a container uses its topmost layer,
 * else removes the chain's link.
 */
static int sweep_chain(struct marks *m, const char *name, struct store_freed *freed)
{
	struct digest key;
	char target[NAME_MAX], needle[NAME_MAX + 3];
	const char *dash = strchr(name, '-'), *dot = strchr(name, '.');
	ssize_t n = readlinkat(m->store->chains, name, target, sizeof(target) - 1);

	if (n < 0)
		return errno == EINVAL ? 0 : err_sys("read the chain %s", name);
	target[n] = '\0';
	snprintf(needle, sizeof(needle), ":%s:", target);
	snprintf(key.text, sizeof(key.text), "%.*s:%.*s", dash ? (int)(dash - name) : 0, name,
		dash ? (int)strcspn(dash + 1, ".") : 0, dash ? dash + 1 : "");
	if (strstr(strbuf_str(&m->layers), needle))
		return 0;
	/*
	 * A chain that was unpacked with other id maps is removed, because containers use only
	 * chains that were unpacked with the present maps.
	 */
	bool own = streq(dot ? dot + 1 : "", m->ids);
	if (own && m->n && bsearch(&key, m->v, m->n, sizeof(*m->v), compare_digests))
		return strbuf_addf(&m->layers, "%s:", target);
	if (unlinkat(m->store->chains, name, 0) < 0)
		return err_sys("remove the chain %s", name);
	return 0;
}

static int sweep_layer(struct marks *m, const char *name, struct store_freed *freed)
{
	const char *suffix = strstr(name, CHAIN_EROFS_SUFFIX);
	char needle[NAME_MAX + 3];
	struct stat st;

	snprintf(needle, sizeof(needle), ":%.*s:", (int)(suffix ? suffix - name : NAME_MAX), name);
	if (strstr(strbuf_str(&m->layers), needle))
		return 0;
	if (suffix && fstatat(m->store->layers, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		freed->bytes += (uint64_t)st.st_blocks * 512;
	freed->layers += !suffix;
	int r = remove_tree(m->store->layers, name, NULL);
	if (r != -EACCES && r != -EPERM)
		return r;
	return err_ctx(r,
		"remove %s/layers/%s as root, because it has files of ids that this user may no "
		"longer map",
		m->store->path, name);
}

static int collect_layers(struct marks *m, struct store_freed *freed)
{
	int r = each_name(m->store->chains, sweep_chain, m, freed);

	return r < 0 ? r : each_name(m->store->layers, sweep_layer, m, freed);
}

static int collect(struct store *s, struct store_freed *ret)
{
	__attribute__((cleanup(release_marks))) struct marks m = {.store = s};
	int r = mark_tags(&m);

	if (r >= 0)
		r = rootless_key(m.ids);
	if (r >= 0)
		r = strbuf_addf(&m.layers, ":");
	if (r >= 0)
		r = each_name(s->containers, mark_container, &m, ret);
	if (r >= 0 && m.n)
		qsort(m.v, m.n, sizeof(*m.v), compare_digests);
	/*
	 * The files of STORE/resolved are removed, because they name layers that may be removed
	 * now.
	 */
	if (r >= 0)
		r = remove_tree(s->dir, "resolved", NULL);
	if (r >= 0)
		r = collect_layers(&m, ret);

	for (size_t i = 0; i < ARRAY_SIZE(s->blobs) && r >= 0; i++)
		r = sweep(s->blobs[i], digest_algorithm_name((enum digest_algorithm)i), &m, ret);
	return r < 0 ? r : sweep(s->partial, NULL, &m, ret);
}

int store_gc(struct store *s, struct store_freed *ret)
{
	*ret = (struct store_freed){0};
	int r = store_lock_alone(s);
	if (r < 0)
		return r;
	r = collect(s, ret);
	int unlocked = store_lock_shared(s);
	return r < 0 ? r : unlocked;
}
