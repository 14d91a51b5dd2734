/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the sizes of the disks of volumes again, and removes what killed commands have left. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/remove.h"
#include "images/oci/store_internal.h"
#include "images/oci/volumes_internal.h"

/* Writes `size`, the new size in bytes of a volume's disk, into volume.json. */
static int update_size(
	const struct store *s, struct arena *a, const struct volume *v, uint64_t size)
{
	_cleanup_strbuf_ struct strbuf old = {0};
	_cleanup_json_out_ struct json_out o = {0};
	const char *text;
	struct json *j;
	size_t len;

	_cleanup_fd_ int dir = volume_open_dir(s, v->name);
	int r = dir < 0 ? dir : fd_read_file(dir, VOLUME_JSON, &old, VOLUME_JSON_MAX);
	if (r >= 0)
		r = json_parse(a, strbuf_str(&old), old.len, VOLUME_JSON, &j);
	if (r >= 0)
		r = json_out_init(&o, true);
	if (r < 0)
		return r;
	json_out_object(&o, NULL);
	for (const struct json *m = j->first; m; m = m->next)
		if (!streq(m->key, "size"))
			json_out_node(&o, m->key, m);
	json_out_u64(&o, "size", size);
	json_out_end_object(&o);
	r = json_out_text(&o, &text, &len);
	return r < 0 ? r : fd_replace_file(dir, VOLUME_JSON, text, len, 0600);
}

/* Removes the directories with temporary names. */
static int remove_leftovers(const struct store *s)
{
	_cleanup_fd_ int all = volumes_open(s);
	struct dirent **entries;
	int r = 0;

	if (all < 0)
		return all;
	int n = scandirat(all, ".", &entries, NULL, alphasort);
	if (n < 0)
		return err_sys("read %s/volumes", s->path);
	for (int i = 0; i < n; i++) {
		const char *name = entries[i]->d_name;
		if (r >= 0 && (str_starts(name, ".new-") || str_starts(name, ".old-")))
			r = remove_tree(all, name, NULL);
		free(entries[i]);
	}
	free(entries);
	return r;
}

static int rescan(const struct store *s, struct arena *a, struct volume *v, const char *tool)
{
	uint64_t size;

	int r = volume_disk_size(a, v->path, tool, &size);
	if (r >= 0 && size != v->size)
		r = update_size(s, a, v, size);
	return r < 0 ? volume_note_damage(a, v, err_ctx(r, "the volume \"%s\"", v->name)) : 0;
}

int volumes_rescan(const struct store *s, struct arena *a, const char *tool, struct volume **ret,
	size_t *ret_n)
{
	int r = remove_leftovers(s);

	if (r >= 0)
		r = volumes_read(s, a, ret, ret_n);
	for (size_t i = 0; r >= 0 && i < *ret_n; i++)
		if (!(*ret)[i].damage && (*ret)[i].disk)
			r = rescan(s, a, &(*ret)[i], tool);
	return r;
}
