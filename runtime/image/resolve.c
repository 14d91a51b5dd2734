/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs `caisson image resolve`, which finds, pulls and unpacks the image of `caisson run --image`,
 * and writes the note that images/oci/resolved.h describes. caisson executes this command if the
 * store has no valid note for the image.
 */
#include "images/oci/resolved.h"

#include <unistd.h>

#include "base/log.h"
#include "base/rootless.h"
#include "image/image.h"
#include "image/progress.h"
#include "images/oci/chain.h"

#define LOOK_UPS 4

struct resolving {
	const struct image_globals *g;
	struct store *store;
	struct image img;
	struct rootless rootless;
	char ids[ROOTLESS_KEY_SIZE];
	bool disk; /* an EROFS image is made too */
	/* list of the unpacked layers; empty: overlayfs cannot stack the layers on this host */
	struct strbuf layers;
};

static void warn(void *data, const char *text)
{
	log_warn("%s", text);
}

/*
 * Unpacks the image's layers into the store, and shows progress. If overlayfs cannot stack the
 * layers on this host, leaves r->layers empty.
 */
static int unpack(struct resolving *r)
{
	const struct image_globals *g = r->g;
	const struct tree_options options = {.warn = g->quiet ? NULL : warn,
		.squash = r->rootless.one_id,
		.squash_reason = r->rootless.one_id};
	struct progress bar;
	const struct unpack_progress progress = {progress_layer, progress_bytes, &bar};
	uint64_t all = 0;

	for (size_t i = 0; i < r->img.document.nlayers; i++)
		all += r->img.document.layers[i].size;
	/*
	 * Progress is shown only on a terminal, because there a user waits for the container and
	 * wants to see what takes time.
	 */
	progress_init(&bar, false, g->quiet || !isatty(STDERR_FILENO), all);
	int result = chain_unpack(r->store, &r->img, &options, &progress, &r->layers);
	progress_end(&bar);
	if (result != -EOPNOTSUPP)
		return result;
	log_debug("%s: the image is copied for each container", err_msg());
	err_clear();
	strbuf_reset(&r->layers);
	return 0;
}

/*
 * Looks up the user that the image names, in the stacked layers as a container will see them. It is
 * no error if that user does not exist, because the container may be run as another user.
 */
static void find_user(const struct resolving *r, struct resolved *ret)
{
	if (!r->layers.len)
		return;
	_cleanup_fd_ int view = chain_open_view(r->store, strbuf_str(&r->layers));
	ret->has_user = view >= 0 && image_user_find(view, r->img.config.user, &ret->user) >= 0;
	err_clear();
}

static int note(struct resolving *r, const char *name, const char *platform,
	const struct resolved_index *index)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	struct resolved found = {.tag = r->img.name ? r->img.name : r->img.tag.digest.text,
		.layers = strbuf_str(&r->layers),
		.ids = r->ids,
		.manifest = r->img.manifest.digest};

	find_user(r, &found);
	int result = strbuf_add(&text, r->img.config_text, r->img.config_len);
	return result < 0 ? result : resolved_write(r->store, name, platform, index, &found, &text);
}

/*
 * Finds the image in the store, and sets *ret to the state of the store's index.json that this
 * result belongs to. If index.json has changed meanwhile, by a pull or by another process, looks
 * the image up again.
 */
static int get(struct resolving *r, struct arena *a, const char *name,
	const struct platform *wanted, struct resolved_index *ret)
{
	struct resolved_index after;
	int result;

	for (int i = 0; i < LOOK_UPS; i++) {
		result = resolved_look_at_index(r->store, ret);
		if (result >= 0)
			result = image_get(r->g, r->store, a, name, wanted, &r->img);
		if (result >= 0)
			result = resolved_look_at_index(r->store, &after);
		if (result < 0 || resolved_same_index(ret, &after))
			break;
	}
	return result;
}

/* Makes the EROFS image that is the root disk of microVMs. */
static int make_disk(const struct resolving *r)
{
	if (!r->layers.len)
		return err_set(EOPNOTSUPP,
			"--root-disk erofs: the image's layers are not in the store, because "
			"overlayfs cannot be used on %s",
			r->store->path);
	int result = chain_make_erofs(r->store, strbuf_str(&r->layers));
	return result < 0 ? err_ctx(result, "--root-disk erofs") : 0;
}

static int resolve(struct resolving *r, struct arena *a, const char *name, const char *platform)
{
	struct platform buf;
	const struct platform *wanted;
	struct resolved_index index;
	int result = image_platform(a, platform, &buf, &wanted);

	if (result >= 0)
		result = image_open_store(r->g, r->store);
	if (result >= 0)
		result = get(r, a, name, wanted, &index);
	/*
	 * The process becomes root in a user namespace only now, because the path of the store
	 * depends on the caller's user id, and because the helpers for credentials that a pull
	 * executes do not work in a user namespace.
	 */
	if (result >= 0)
		result = rootless_become_root(&r->rootless);
	if (result >= 0)
		result = rootless_key(r->ids);
	if (result >= 0)
		result = unpack(r);
	if (result >= 0)
		result = note(r, name, platform, &index);
	return result >= 0 && r->disk ? make_disk(r) : result;
}

int image_cmd_resolve(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	const char *platform = NULL, *disk = NULL;
	const struct option_def defs[] = {
		{"platform", 0, OPTION_STRING, &platform, "OS/ARCH[/VARIANT]",
			"of an image for several (default: this machine's)"},
		{"root-disk", 0, OPTION_STRING, &disk, "erofs",
			"make the file system for microVMs too"},
		{0},
	};
	struct image_arguments args = {.min = 1, .max = 1};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_store_ struct store s = STORE_INIT;
	struct resolving r = {.g = g, .store = &s};

	int result = image_parse(self, defs, argc, argv, &args);
	if (result != 0)
		return result < 0 ? result : 0;
	if (disk && !streq(disk, "erofs"))
		return err_set(EINVAL, "--root-disk %.100s: expected erofs", disk);
	r.disk = disk;
	result = resolve(&r, &a, args.v[0], platform);
	strbuf_release(&r.layers);
	return result;
}
