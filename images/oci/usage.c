/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/usage.h"

#include <fts.h>
#include <stdio.h>
#include <sys/stat.h>

#include "images/oci/chain.h"

#define BLOCK 512 /* unit of st_blocks in bytes */
/*
 * Level, as fts(3) counts levels, of the entries in a directory of the store, each of which is one
 * layer, one container or the like. The directory itself has the level 0.
 */
#define LEVEL_ITEM 1

/*
 * Adds a file to *u. The bytes of a file with several names are spread over its names, because all
 * of them are in the same directory of the store.
 */
static void add(struct usage *u, const FTSENT *e)
{
	uint64_t bytes = (uint64_t)e->fts_statp->st_blocks * BLOCK;

	u->bytes += S_ISDIR(e->fts_statp->st_mode) ? bytes : bytes / e->fts_statp->st_nlink;
	u->count += e->fts_level == LEVEL_ITEM && e->fts_name[0] != '.';
}

/*
 * Counts the directory `name` of the store. EROFS images are added to *disks, and all else to *ret.
 */
static int count(const struct store *s, const char *name, struct usage *ret, struct usage *disks)
{
	_cleanup_strbuf_ struct strbuf path = {0};
	FTSENT *e;
	int r = strbuf_addf(&path, "%s/%s", s->path, name);

	if (r < 0)
		return r;
	FTS *fts = fts_open((char *[]){path.s, NULL}, FTS_PHYSICAL, NULL);
	if (!fts)
		return err_sys("look at %s", path.s);
	while ((errno = 0, e = fts_read(fts))) {
		if (e->fts_level < LEVEL_ITEM || e->fts_info == FTS_DP || e->fts_info == FTS_NS ||
			e->fts_info == FTS_ERR)
			continue;
		bool disk = disks && e->fts_level == LEVEL_ITEM &&
			    str_ends(e->fts_name, CHAIN_EROFS_SUFFIX);
		add(disk ? disks : ret, e);
	}
	if (errno)
		r = err_sys("look at %s", path.s);
	fts_close(fts);
	return r < 0 ? r : 0;
}

int store_usage(const struct store *s, struct usage ret[USAGE_KINDS])
{
	static const struct {
		enum usage_kind kind;
		const char *name;
	} dirs[] = {{USAGE_BLOBS, "images/blobs/sha256"}, {USAGE_BLOBS, "images/blobs/sha512"},
		{USAGE_PARTIAL, "partial"}, {USAGE_LAYERS, "layers"},
		{USAGE_CONTAINERS, "containers"}, {USAGE_VOLUMES, "volumes"}};
	int r = 0;

	memset(ret, 0, USAGE_KINDS * sizeof(*ret));
	for (size_t i = 0; i < ARRAY_SIZE(dirs) && r >= 0; i++)
		r = count(s, dirs[i].name, &ret[dirs[i].kind],
			dirs[i].kind == USAGE_LAYERS ? &ret[USAGE_DISKS] : NULL);
	return r;
}
