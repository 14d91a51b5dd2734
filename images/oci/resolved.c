/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads and writes the files STORE/resolved/KEY. A file has three parts: a line with a checksum of
 * the rest, a line of JSON, and the image's configuration as its author wrote it. The checksum
 * finds damage that a crash of the machine left in a file. The checksum is no protection from
 * attackers, because whoever can write the store owns it.
 */
#include "images/oci/resolved.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "base/hash.h"

#define DIRECTORY "resolved"
#define FILE_MAX (2 * OCI_DOCUMENT_MAX)
#define CHECKSUM_LEN 17 /* length of a file's first line, the checksum: 16 digits and a newline */
/*
 * How long, in ns, the times of two changes of index.json can be the same. The kernel's clock for
 * files goes in steps of up to 10 ms.
 */
#define CLOCK_STEP_NS 20000000

static void file_name(const char *name, const char *platform, char *buf, size_t size)
{
	uint64_t key = hash_add(HASH_START, name, strlen(name) + 1);

	key = hash_add(key, platform, strlen(platform));
	snprintf(buf, size, DIRECTORY "/%016" PRIx64, key);
}

int resolved_look_at_index(const struct store *s, struct resolved_index *ret)
{
	struct stat st;

	if (fstatat(s->images, "index.json", &st, 0) < 0)
		return err_sys("look at %s/images/index.json", s->path);
	*ret = (struct resolved_index){
		(uint64_t)st.st_ino, (uint64_t)st.st_size, st.st_mtim, st.st_ctim};
	return 0;
}

static void index_text(const struct resolved_index *i, char *buf, size_t size)
{
	snprintf(buf, size, "%" PRIu64 " %" PRIu64 " %lld.%09ld %lld.%09ld", i->inode, i->size,
		(long long)i->mtime.tv_sec, i->mtime.tv_nsec, (long long)i->ctime.tv_sec,
		i->ctime.tv_nsec);
}

bool resolved_same_index(const struct resolved_index *a, const struct resolved_index *b)
{
	char one[128], other[128];

	index_text(a, one, sizeof(one));
	index_text(b, other, sizeof(other));
	return streq(one, other);
}

static bool is_current(const struct store *s, const char *noted)
{
	struct resolved_index now;
	char text[128];

	if (resolved_look_at_index(s, &now) < 0) {
		err_clear();
		return false;
	}
	index_text(&now, text, sizeof(text));
	return streq(noted, text);
}

/*
 * Reads the ids of the image's user from the JSON of a file STORE/resolved/KEY. Returns -EINVAL if
 * the JSON has no ids, because the user could not be found when the file was written.
 */
static int read_user(const struct json *j, struct image_user *ret)
{
	const struct json *groups = json_get(j, "groups");
	uint64_t uid, gid, group;

	*ret = (struct image_user){0};
	if (json_get_u64(j, "uid", &uid) < 0 || json_get_u64(j, "gid", &gid) < 0 ||
		uid > UINT32_MAX || gid > UINT32_MAX || !groups || groups->type != JSON_ARRAY ||
		groups->count > USER_GROUPS_MAX)
		return -EINVAL;
	ret->uid = (uint32_t)uid;
	ret->gid = (uint32_t)gid;
	for (const struct json *g = groups->first; g; g = g->next) {
		if (g->type != JSON_NUMBER || str_to_u64(g->text, &group) < 0 || group > UINT32_MAX)
			return -EINVAL;
		ret->groups[ret->ngroups++] = (uint32_t)group;
	}
	return 0;
}

/*
 * Reads the JSON of a file STORE/resolved/KEY. Returns -EINVAL if the file is for another name or
 * platform, or if index.json has changed since the file was written.
 */
static int read_head(const struct store *s, const struct json *j, const char *name,
	const char *platform, enum resolved_check check, struct resolved *ret)
{
	const char *noted_name = json_get_str(j, "name"), *index = json_get_str(j, "index");
	const char *noted_platform = json_get_str(j, "platform");
	const char *manifest = json_get_str(j, "manifest");

	ret->tag = json_get_str(j, "tag");
	ret->layers = json_get_str(j, "layers");
	ret->ids = json_get_str(j, "ids");
	if (!noted_name || !streq(noted_name, name) || !noted_platform ||
		!streq(noted_platform, platform) || !index || !manifest || !ret->tag ||
		!ret->layers || !ret->ids)
		return -EINVAL;
	if (check == RESOLVED_CURRENT && !is_current(s, index))
		return -EINVAL;
	ret->has_user = read_user(j, &ret->user) >= 0;
	return digest_parse(manifest, DIRECTORY, &ret->manifest);
}

static bool is_whole(const struct strbuf *text)
{
	char sum[CHECKSUM_LEN + 1];

	if (text->len < CHECKSUM_LEN)
		return false;
	snprintf(sum, sizeof(sum), "%016" PRIx64 "\n",
		hash_add(HASH_START, strbuf_str(text) + CHECKSUM_LEN, text->len - CHECKSUM_LEN));
	return memcmp(sum, strbuf_str(text), CHECKSUM_LEN) == 0;
}

static int parse(const struct store *s, struct arena *a, const struct strbuf *text,
	const char *name, const char *platform, enum resolved_check check, struct resolved *ret)
{
	const char *head = strbuf_str(text) + CHECKSUM_LEN;
	const char *end = memchr(head, '\n', text->len - CHECKSUM_LEN);
	_cleanup_strbuf_ struct strbuf config = {0};
	struct json *j;

	if (!end)
		return -EINVAL;
	int r = json_parse(a, head, (size_t)(end - head), DIRECTORY, &j);
	if (r >= 0)
		r = read_head(s, j, name, platform, check, ret);
	end++;
	if (r >= 0)
		r = strbuf_add(&config, end, text->len - (size_t)(end - strbuf_str(text)));
	return r < 0 ? r : image_config_parse(a, &config, DIRECTORY, &ret->config);
}

int resolved_read(const struct store *s, struct arena *a, const char *name, const char *platform,
	enum resolved_check check, struct resolved *ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	char path[64];

	*ret = (struct resolved){0};
	platform = platform ? platform : "";
	file_name(name, platform, path, sizeof(path));
	int r = fd_read_file(s->dir, path, &text, FILE_MAX);
	if (r >= 0)
		r = is_whole(&text) ? parse(s, a, &text, name, platform, check, ret) : -EINVAL;
	if (r >= 0)
		return 1;
	if (r == -ENOMEM)
		return r;
	err_clear();
	return 0;
}

static void write_user(struct json_out *o, const struct image_user *u)
{
	json_out_u64(o, "uid", u->uid);
	json_out_u64(o, "gid", u->gid);
	json_out_array(o, "groups");
	for (size_t i = 0; i < u->ngroups; i++)
		json_out_u64(o, NULL, u->groups[i]);
	json_out_end_array(o);
}

static int write_head(const char *name, const char *platform, const struct resolved_index *index,
	const struct resolved *r, struct strbuf *ret)
{
	_cleanup_json_out_ struct json_out o = {0};
	char at[128];
	const char *text;
	size_t len;
	int result = json_out_init(&o, false);

	if (result < 0)
		return result;
	index_text(index, at, sizeof(at));
	json_out_object(&o, NULL);
	json_out_str(&o, "name", name);
	json_out_str(&o, "platform", platform);
	json_out_str(&o, "index", at);
	json_out_str(&o, "tag", r->tag);
	json_out_str(&o, "manifest", r->manifest.text);
	json_out_str(&o, "layers", r->layers);
	json_out_str(&o, "ids", r->ids);
	if (r->has_user)
		write_user(&o, &r->user);
	json_out_end_object(&o);
	result = json_out_text(&o, &text, &len);
	return result < 0 ? result : strbuf_addf(ret, "%.*s\n", (int)len, text);
}

static void wait_for_clock(const struct resolved_index *index)
{
	const struct timespec pause = {.tv_nsec = CLOCK_STEP_NS};
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	int64_t ns = (int64_t)(now.tv_sec - index->ctime.tv_sec) * 1000000000 +
		     (now.tv_nsec - index->ctime.tv_nsec);
	if (ns < CLOCK_STEP_NS)
		nanosleep(&pause, NULL);
}

int resolved_write(const struct store *s, const char *name, const char *platform,
	const struct resolved_index *index, const struct resolved *r, const struct strbuf *text)
{
	_cleanup_strbuf_ struct strbuf rest = {0}, all = {0};
	char path[64];

	platform = platform ? platform : "";
	file_name(name, platform, path, sizeof(path));
	if (mkdirat(s->dir, DIRECTORY, 0700) < 0 && errno != EEXIST)
		return err_sys("create %s/" DIRECTORY, s->path);
	int result = write_head(name, platform, index, r, &rest);
	if (result >= 0)
		result = strbuf_add(&rest, strbuf_str(text), text->len);
	if (result >= 0)
		result = strbuf_addf(&all, "%016" PRIx64 "\n",
			hash_add(HASH_START, strbuf_str(&rest), rest.len));
	if (result >= 0)
		result = strbuf_add(&all, strbuf_str(&rest), rest.len);
	if (result < 0)
		return result;
	wait_for_clock(index);
	return fd_replace_file(s->dir, path, strbuf_str(&all), all.len, 0600);
}
