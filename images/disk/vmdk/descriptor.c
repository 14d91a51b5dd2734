/* SPDX-License-Identifier: Apache-2.0 */
/* Parses the descriptor, the text that describes a VMDK image. */
#include "images/disk/vmdk/internal.h"

#define EXTENTS_MAX 1024
#define LINE_MAX_LEN 4096

static const char *const refused_types[] = {
	"vmfsSparse",
	"vmfsThin",
	"seSparse",
	"fullDevice",
	"partitionedDevice",
	"vmfsRaw",
	"vmfsRawDeviceMap",
	"vmfsPassthroughRawDeviceMap",
};

/*
 * Copies the text between the first and the last quotation mark, or the whole text if it has no
 * quotation marks.
 */
static char *unquoted(const char *text)
{
	size_t len = strlen(text);

	while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t' || text[len - 1] == '\r'))
		len--;
	if (len >= 2 && text[0] == '"' && text[len - 1] == '"') {
		text++;
		len -= 2;
	}
	return strndup(text, len);
}

static int parse_cid(struct disk *d, const char *key, const char *text, uint32_t *ret)
{
	char *end;
	unsigned long v = strtoul(text, &end, 16);

	if (end == text || v > UINT32_MAX || (*end && !strchr(" \t\r", *end)))
		return disk_err(d, EINVAL,
			"VMDK descriptor: %s: found \"%s\", expected eight hexadecimal digits", key,
			text);
	*ret = (uint32_t)v;
	return 0;
}

static int parse_type(struct disk *d, struct vmdk *v, const char *text)
{
	_cleanup_free_ char *type = unquoted(text);

	if (!type)
		return disk_err(d, ENOMEM, "no memory");
	for (size_t i = 0; i < ARRAY_SIZE(refused_types); i++)
		if (streq(type, refused_types[i]))
			return disk_err(d, EOPNOTSUPP,
				"VMDK descriptor: createType: found \"%s\", which is not "
				"supported: "
				"convert it with VMware's tools to monolithicSparse or "
				"streamOptimized",
				type);
	snprintf(v->create_type, sizeof(v->create_type), "%s", type);
	return 0;
}

static int parse_property(struct disk *d, struct vmdk *v, const char *key, const char *value)
{
	if (streq(key, "CID"))
		return parse_cid(d, key, value, &v->cid);
	if (streq(key, "parentCID"))
		return parse_cid(d, key, value, &v->parent_cid);
	if (streq(key, "createType"))
		return parse_type(d, v, value);
	if (streq(key, "parentFileNameHint") && !v->parent) {
		v->parent = unquoted(value);
		return v->parent ? 0 : disk_err(d, ENOMEM, "no memory");
	}
	return 0;
}

static struct vmdk_extent *add_extent(struct disk *d, struct vmdk *v)
{
	struct vmdk_extent *all;

	if (v->n >= EXTENTS_MAX) {
		disk_err(d, E2BIG, "VMDK descriptor: found more than %d extents", EXTENTS_MAX);
		return NULL;
	}
	all = realloc(v->extents, (v->n + 1) * sizeof(*all));
	if (!all) {
		disk_err(d, ENOMEM, "no memory");
		return NULL;
	}
	v->extents = all;
	all[v->n] = (struct vmdk_extent){.fd = -EBADF};
	return &all[v->n++];
}

static int bad_extent(struct disk *d, const char *line)
{
	return disk_err(d, EINVAL,
		"VMDK descriptor: extent: found \"%s\", expected ACCESS SECTORS TYPE \"FILE\" "
		"[OFFSET]",
		line);
}

static int extent_kind(struct disk *d, const char *type, enum vmdk_kind *ret)
{
	if (streq(type, "FLAT") || streq(type, "VMFS"))
		*ret = VMDK_FLAT;
	else if (streq(type, "SPARSE"))
		*ret = VMDK_SPARSE;
	else if (streq(type, "ZERO"))
		*ret = VMDK_ZERO;
	else
		return disk_err(d, EOPNOTSUPP,
			"VMDK descriptor: extent type: found %s, expected FLAT, VMFS, SPARSE or "
			"ZERO",
			type);
	return 0;
}

/*
 * Parses the file name of an extent, in quotation marks, and for a flat extent the number of its
 * first sector.
 */
static int parse_extent_file(struct disk *d, struct vmdk_extent *e, const char *line, const char *p)
{
	const char *end = *p == '"' ? strrchr(p + 1, '"') : NULL;
	unsigned long long first = 0;

	if (!end || end == p + 1)
		return bad_extent(d, line);
	e->name = strndup(p + 1, (size_t)(end - p - 1));
	if (!e->name)
		return disk_err(d, ENOMEM, "no memory");
	p = end + 1 + strspn(end + 1, " \t");
	if (e->kind == VMDK_FLAT && *p && *p != '\r') {
		char *rest;

		first = strtoull(p, &rest, 10);
		if (rest == p || first > INT64_MAX / VMDK_SECTOR)
			return bad_extent(d, line);
	}
	e->offset = first * VMDK_SECTOR;
	return 0;
}

static int parse_extent(struct disk *d, struct vmdk *v, const char *line)
{
	char access[16], type[16];
	uint64_t start = v->n ? v->extents[v->n - 1].start + v->extents[v->n - 1].length : 0;
	unsigned long long sectors;
	enum vmdk_kind kind = VMDK_ZERO;
	int used = 0;

	if (sscanf(line, "%15s %llu %15s %n", access, &sectors, type, &used) < 3 || used == 0)
		return bad_extent(d, line);
	if (sectors == 0 || sectors > (INT64_MAX - start) / VMDK_SECTOR)
		return disk_err(d, EINVAL,
			"VMDK descriptor: extent size: found %llu sectors, expected 1 or more, and "
			"a disk below 2^63 bytes",
			sectors);
	if (streq(access, "NOACCESS"))
		return disk_err(d, EOPNOTSUPP, "VMDK descriptor: extent: found access NOACCESS");
	int r = extent_kind(d, type, &kind);
	if (r < 0)
		return r;
	struct vmdk_extent *e = add_extent(d, v);
	if (!e)
		return -ENOMEM;
	e->kind = kind;
	e->start = start;
	e->length = sectors * VMDK_SECTOR;
	return kind == VMDK_ZERO ? 0 : parse_extent_file(d, e, line, line + used);
}

static int parse_line(struct disk *d, struct vmdk *v, char *line, bool embedded)
{
	char *equals = strchr(line, '=');

	if (*line == '#' || *line == '\0')
		return 0;
	if (str_starts(line, "RW ") || str_starts(line, "RDONLY ") || str_starts(line, "NOACCESS "))
		return embedded ? 0 : parse_extent(d, v, line);
	if (!equals)
		return 0;
	*equals = '\0';
	for (char *end = equals; end > line && strchr(" \t", end[-1]); end--)
		end[-1] = '\0';
	return parse_property(d, v, line, equals + 1 + strspn(equals + 1, " \t"));
}

int vmdk_parse_descriptor(struct disk *d, struct vmdk *v, const char *text, bool embedded)
{
	char line[LINE_MAX_LEN];

	v->parent_cid = VMDK_NO_PARENT;
	while (*text) {
		size_t len = strcspn(text, "\n"), skip = strspn(text, " \t\r");

		if (skip > len)
			skip = len;
		if (len - skip >= sizeof(line))
			return disk_err(d, EINVAL,
				"VMDK descriptor: found a line of %zu bytes, expected at most %d",
				len, LINE_MAX_LEN - 1);
		memcpy(line, text + skip, len - skip);
		line[len - skip] = '\0';
		int r = parse_line(d, v, line, embedded);
		if (r < 0)
			return r;
		text += len + (text[len] == '\n');
	}
	return 0;
}
