/* SPDX-License-Identifier: Apache-2.0 */
/* Parses mounts (config.md "Mounts") and the id maps that mounts and user namespaces have. */
#include <stdlib.h>

#include "spec/parse.h"

/* how many ranges an id map can have: the limit of user_namespaces(7) since Linux 4.15 */
#define MAX_ID_MAPS 340
#define ID_COUNT (SPEC_ID_MAX + 1U)

static int check_id_map(struct parser *p, const struct json *node, void *obj)
{
	const struct spec_id_map *m = obj;
	uint64_t size = m->size;

	if (m->container_id + size > ID_COUNT)
		return parse_error_at(p, "size",
			"expected at most %u, because ids end at %u; containerID is %u and size %u",
			ID_COUNT - m->container_id, SPEC_ID_MAX, m->container_id, m->size);
	if (m->host_id + size > ID_COUNT)
		return parse_error_at(p, "size",
			"expected at most %u, because ids end at %u; hostID is %u and size %u",
			ID_COUNT - m->host_id, SPEC_ID_MAX, m->host_id, m->size);
	return 0;
}

static const struct field id_map_fields[] = {
	FIELD(INT, "containerID", spec_id_map, container_id, RANGE(0, SPEC_ID_MAX)),
	FIELD(INT, "hostID", spec_id_map, host_id, RANGE(0, SPEC_ID_MAX)),
	FIELD(INT, "size", spec_id_map, size, REQUIRED, RANGE(1, UINT32_MAX)), {0}};

const struct object_type spec_id_map_type = {
	.size = sizeof(struct spec_id_map), .fields = id_map_fields, .check = check_id_map};

static bool ranges_overlap(uint32_t a, uint32_t asize, uint32_t b, uint32_t bsize)
{
	return a < b + (uint64_t)bsize && b < a + (uint64_t)asize;
}

int spec_check_id_maps(struct parser *p, const char *name, struct spec_id_maps maps)
{
	if (maps.n > MAX_ID_MAPS)
		return parse_error_at(p, name,
			"expected at most %d entries, the kernel's limit, found %zu", MAX_ID_MAPS,
			maps.n);
	for (size_t i = 0; i < maps.n; i++) {
		for (size_t j = 0; j < i; j++) {
			const struct spec_id_map *a = &maps.v[j], *b = &maps.v[i];
			bool host = ranges_overlap(a->host_id, a->size, b->host_id, b->size);
			if (!host &&
				!ranges_overlap(a->container_id, a->size, b->container_id, b->size))
				continue;
			return parse_error_at(p, name,
				"expected ranges that do not overlap: the %s ids of entries %zu "
				"and %zu do",
				host ? "host" : "container", j, i);
		}
	}
	return 0;
}

/*
 * Parses a range of an id map such as "0-1000-10": the first id in the file system, the first id on
 * the host, and the number of ids. Returns the text behind the range, or NULL if the text begins
 * with no range.
 */
static const char *parse_id_map(const char *s, struct spec_id_map *ret)
{
	unsigned long v[3];

	for (int i = 0; i < 3; i++) {
		char *end;
		if ((i && *s++ != '-') || *s < '0' || *s > '9')
			return NULL;
		v[i] = strtoul(s, &end, 10);
		if (v[i] > ID_COUNT)
			return NULL;
		s = end;
	}
	if (!v[2] || v[0] + v[2] > ID_COUNT || v[1] + v[2] > ID_COUNT)
		return NULL;
	*ret = (struct spec_id_map){(uint32_t)v[0], (uint32_t)v[1], (uint32_t)v[2]};
	return s;
}

/*
 * Replaces an id of the container's user namespace by the id of the host to which `maps` map it.
 * Returns false if `maps` do not map the id.
 */
static bool map_id(struct spec_id_maps maps, uint32_t *id)
{
	for (size_t i = 0; i < maps.n; i++) {
		const struct spec_id_map *m = &maps.v[i];
		if (*id >= m->container_id && *id - m->container_id < m->size) {
			*id = m->host_id + (*id - m->container_id);
			return true;
		}
	}
	return false;
}

/*
 * Parses ranges of an id map such as "0-1000-10#@10-5-1", up to a ";" or the end of the text. "@"
 * marks that the id after it is not an id of the host but one of the container's user namespace.
 */
static int parse_id_maps(struct parser *p, const char **at, struct spec_id_maps of_container,
	struct spec_id_maps *ret)
{
	const char *s = *at;
	size_t len = strcspn(s, ";"), n = 1;

	for (size_t i = 0; i < len; i++)
		n += s[i] == '#';
	struct spec_id_map *v = arena_array(p->arena, n, sizeof(*v));
	if (!v)
		return -ENOMEM;
	for (n = 0;; n++, s++) {
		bool relative = *s == '@';
		s = parse_id_map(s + relative, &v[n]);
		if (!s || (*s && *s != '#' && *s != ';'))
			return parse_error_at(p, "options",
				"expected ids in an idmap as FILESYSTEM-HOST-COUNT, more of them "
				"after \"#\", found \"%.*s\"",
				(int)len, *at);
		if (relative && !map_id(of_container, &v[n].host_id))
			return parse_error_at(p, "options",
				"expected an id of linux.uidMappings or gidMappings after \"@\" in "
				"an idmap, found %u",
				v[n].host_id);
		if (*s != '#')
			break;
	}
	*ret = (struct spec_id_maps){.v = v, .n = n + 1};
	*at = s;
	return spec_check_id_maps(p, "options", *ret);
}

static int parse_idmap(struct parser *p, const struct spec *s, struct spec_mount *m)
{
	const char *text = m->idmap_text;

	if (m->uid_mappings.n)
		return parse_error_at(p, "options",
			"expected \"idmap\" without ids, because uidMappings and gidMappings are "
			"given, found \"idmap=%s\"",
			text);
	for (int r = 0; *text; text += *text == ';') {
		const char *ids = text + strlen("uids=");
		if (str_starts(text, "uids="))
			r = parse_id_maps(p, &ids, s->uid_mappings, &m->uid_mappings);
		else if (str_starts(text, "gids="))
			r = parse_id_maps(p, &ids, s->gid_mappings, &m->gid_mappings);
		else
			return parse_error_at(p, "options",
				"expected \"idmap=uids=...;gids=...\", found \"idmap=%s\"",
				m->idmap_text);
		if (r < 0)
			return r;
		text = ids;
	}
	if (!m->uid_mappings.n != !m->gid_mappings.n)
		return parse_error_at(p, "options",
			"expected uids and gids, found only one of them in \"idmap=%s\"",
			m->idmap_text);
	return 0;
}

int spec_parse_idmaps(struct parser *p, struct spec *s)
{
	/*
	 * The cast removes const from the array of mounts. This is safe because the parser has just
	 * allocated that array.
	 */
	struct spec_mount *mounts = (struct spec_mount *)s->mounts;

	parse_enter(p, "mounts");
	for (size_t i = 0; i < s->nmounts; i++) {
		parse_enter_index(p, i);
		int r = mounts[i].idmap_text ? parse_idmap(p, s, &mounts[i]) : 0;
		if (r < 0)
			return r;
		parse_leave(p);
	}
	parse_leave(p);
	return 0;
}

static int parse_options(struct parser *p, const struct json *node, void *obj)
{
	struct spec_strings options;
	int r = parse_strings(p, node, 0, &options);

	if (r < 0)
		return r;
	return spec_parse_mount_options(p->arena, options, obj);
}

/*
 * Checks a mount with the source "vhost-user:PATH", which is caisson's extension for microVMs:
 * another process on the host, at the socket PATH, serves the file system. The source "vm.image" is
 * such an extension too.
 */
static int check_backend(struct parser *p, struct spec_mount *m)
{
	static const char prefix[] = "vhost-user:";

	if (m->source && streq(m->source, SPEC_MOUNT_IMAGE) && m->type && !m->bind) {
		m->backend = m->source;
		return 0;
	}
	if (!m->source || !str_starts(m->source, prefix))
		return 0;
	m->backend = m->source + strlen(prefix);
	if (m->backend[0] != '/')
		return parse_error_at(p, "source",
			"expected the absolute path of a socket after \"%s\", found \"%s\"", prefix,
			m->backend);
	if (!m->type || m->bind)
		return parse_error_at(p, "type",
			"expected \"virtiofs\", or the file system on the back end's disk, found "
			"%s",
			m->bind ? "a bind mount" : "nothing");
	return 0;
}

static int check_links(struct parser *p, const struct spec_mount *m)
{
	if (!m->copy_symlink && !m->src_nofollow && !m->dest_nofollow)
		return 0;
	if (!m->bind)
		return parse_error_at(p, "options",
			"copy-symlink, src-nofollow and dest-nofollow are for bind mounts: add "
			"\"bind\"");
	if (m->copy_symlink && (m->src_nofollow || m->dest_nofollow))
		return parse_error_at(p, "options",
			"expected copy-symlink without src-nofollow and dest-nofollow, because a "
			"link is either copied or mounted");
	return 0;
}

/*
 * Returns whether the option is one that mount(8) does not pass to the kernel (fstab(5), mount(8)).
 * Such options say who may mount a line of fstab and when, so they mean nothing in a container.
 */
static bool is_mount8_option(const char *option)
{
	static const char *const names[] = {"_netdev", "auto", "group", "noauto", "nofail",
		"nogroup", "noowner", "nouser", "nousers", "owner", "user", "users"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (streq(option, names[i]))
			return true;
	return str_starts(option, "x-") || str_starts(option, "X-");
}

/*
 * Refuses an unknown option of a bind mount. No file system would refuse such an option, so a
 * misspelt "nosuid" would go unnoticed and its protection would be missing. An option with a value
 * is accepted, because it is a parameter of some file system ("size=64m"), which engines leave in
 * the list when they replace a tmpfs by a bind mount. Such an option protects nothing, and the step
 * that mounts warns of it.
 */
static int check_bind_options(struct parser *p, const struct spec_mount *m)
{
	for (size_t i = 0; i < m->data.n; i++) {
		const char *option = m->data.v[i];
		if (!strchr(option, '=') && !is_mount8_option(option))
			return parse_error_at(p, "options",
				"expected options that a bind mount can have (`caisson features` "
				"lists them), found \"%.80s\"",
				option);
	}
	return 0;
}

static int check_mount(struct parser *p, const struct json *node, void *obj)
{
	static const char *const none[] = {NULL};
	struct spec_mount *m = obj;

	if (!m->data.v)
		m->data.v = none;
	if (m->destination[0] != '/') {
		m->destination = arena_printf(p->arena, "/%s", m->destination);
		if (!m->destination)
			return -ENOMEM;
	}
	if (m->type && streq(m->type, "bind"))
		m->bind = true;
	if (m->bind && !m->source && !m->remount)
		return parse_error_at(
			p, "source", "expected the path to bind-mount, found nothing");
	if (!m->uid_mappings.n != !m->gid_mappings.n)
		return parse_error_at(p, m->uid_mappings.n ? "gidMappings" : "uidMappings",
			"expected an id map, because %s are given and a mount has both or neither",
			m->uid_mappings.n ? "uidMappings" : "gidMappings");
	int r = spec_check_id_maps(p, "uidMappings", m->uid_mappings);
	if (r >= 0)
		r = spec_check_id_maps(p, "gidMappings", m->gid_mappings);
	if (r >= 0)
		r = check_backend(p, m);
	if (r >= 0)
		r = check_links(p, m);
	if (r >= 0 && m->bind)
		r = check_bind_options(p, m);
	if (m->uid_mappings.n && !m->ridmap)
		m->idmap = true;
	return r;
}

static const struct field mount_fields[] = {
	FIELD(STRING, "destination", spec_mount, destination, REQUIRED),
	FIELD(STRING, "type", spec_mount, type), FIELD(STRING, "source", spec_mount, source),
	FIELD(CUSTOM, "options", spec_mount, data, .custom = parse_options),
	FIELD(ARRAY, "uidMappings", spec_mount, uid_mappings, .type = &spec_id_map_type),
	FIELD(ARRAY, "gidMappings", spec_mount, gid_mappings, .type = &spec_id_map_type), {0}};

const struct object_type spec_mount_type = {
	.size = sizeof(struct spec_mount), .fields = mount_fields, .check = check_mount};
