/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The writer appends the objects depth first: a structure, then the object
 * that its first pointer points to, with everything below that, then the object of its second
 * pointer. The reader visits the objects in the same order, so it knows where each object has to
 * be: directly behind the previous one. The reader accepts an offset only if it leads to that
 * place, or to a structure of the same type that the reader has checked already. Therefore no byte
 * is used as two different objects, and reading takes time in proportion to the length.
 *
 * An offset is counted from the first byte of the header and is never 0, so 0 stands for NULL.
 */
#include "base/pack.h"

#include <stdlib.h>

#define ALIGNMENT 8
/*
 * how many structures in one image (what pack_write() has written) may be pointed to by pointers of
 * kind PACK_KIND_POINTER
 */
#define SHARED_MAX 4096

static const char magic[8] = "caisson";

struct header {
	char magic[8];
	uint64_t abi;    /* hash of the layout of all structures, from type_hash() */
	uint64_t length; /* length of this header and all objects, in bytes */
};

struct shared {
	/* for the writer: the object in memory; for the reader: the object in the buffer */
	const void *object;
	uint64_t at; /* offset of the object in the image that is written or read */
	const struct pack_type *type;
};

struct packer {
	struct strbuf *out; /* used by the writer: the bytes that it has written so far */
	char *bytes;        /* used by the reader: the bytes of all objects */
	/*
	 * used by the reader: length of the image, and the offset at which the next object has to
	 * be
	 */
	size_t len, at;
	struct shared *shared;
	size_t nshared, cap;
};

/*
 * The size in bytes that the writer allocates at first. An image is rarely larger. A larger image
 * has to be moved to a larger place. The first size may be generous, because the kernel makes only
 * those pages that are written.
 */
#define USUAL_ROOM ((size_t)132 * 1024)

static size_t align_up(size_t n)
{
	return (n + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

/*
 * The next functions compute the hash of the layout, by which a reader notices that another build
 * wrote the image.
 */

static uint64_t mix(uint64_t h, uint64_t v)
{
	return (h ^ v) * UINT64_C(0x100000001b3); /* the prime of the FNV-1a hash */
}

static uint64_t type_hash(uint64_t h, const struct pack_type *t)
{
	h = mix(h, t->size);
	for (size_t i = 0; i < t->nfields; i++) {
		const struct pack_field *f = &t->fields[i];
		h = mix(mix(mix(h, f->kind), f->offset), f->count_offset);
		h = mix(mix(mix(h, f->limit), f->element), f->needed);
		if (f->type)
			h = type_hash(h, f->type);
	}
	for (size_t i = 0; i < t->nvariants; i++)
		h = type_hash(h, t->variants[i]);
	return h;
}

static uint64_t abi_of(const struct pack_type *t)
{
	return type_hash(UINT64_C(0xcbf29ce484222325), t);
}

static struct shared *find_shared(
	struct packer *p, const void *object, uint64_t at, const struct pack_type *t)
{
	for (size_t i = 0; i < p->nshared; i++) {
		struct shared *s = &p->shared[i];
		if (s->type == t && (object ? s->object == object : s->at == at))
			return s;
	}
	return NULL;
}

static int add_shared(struct packer *p, const void *object, uint64_t at, const struct pack_type *t)
{
	if (p->nshared == SHARED_MAX)
		return err_set(EPROTO, "more than %d structures in one image", SHARED_MAX);
	if (p->nshared == p->cap) {
		size_t cap = p->cap ? 2 * p->cap : 32;
		struct shared *more = realloc(p->shared, cap * sizeof(*more));
		if (!more)
			return err_set(ENOMEM, "out of memory");
		p->shared = more;
		p->cap = cap;
	}
	p->shared[p->nshared++] = (struct shared){.object = object, .at = at, .type = t};
	return 0;
}

/* The next functions write an image: a structure with all that its pointers point to. */

static void put_word(struct packer *p, size_t at, uint64_t v)
{
	memcpy(p->out->s + at, &v, sizeof(v));
}

/*
 * Appends a copy of the data to the image. Returns 0 with the offset of the copy in *ret_at, or
 * -errno.
 */
static int append(struct packer *p, const void *data, size_t size, uint64_t *ret_at)
{
	static const char zeros[ALIGNMENT] = {0};
	size_t pad = align_up(p->out->len) - p->out->len;

	int r = strbuf_add(p->out, zeros, pad);
	*ret_at = p->out->len;
	return r < 0 ? r : strbuf_add(p->out, data, size);
}

static int write_members(
	struct packer *p, const struct pack_type *t, const char *object, size_t at);

static int write_string(struct packer *p, const char *s, size_t slot)
{
	uint64_t at = 0;
	int r = s ? append(p, s, strlen(s) + 1, &at) : 0;

	if (r >= 0)
		put_word(p, slot, at);
	return r;
}

static int write_strings(struct packer *p, const char *const *v, size_t n, size_t slot)
{
	uint64_t at = 0;

	if (!v) {
		put_word(p, slot, 0);
		return 0;
	}
	int r = append(p, v, (n + 1) * sizeof(*v), &at);
	if (r < 0)
		return r;
	put_word(p, slot, at);
	put_word(p, at + n * sizeof(*v), 0);
	for (size_t i = 0; i < n && r >= 0; i++)
		r = write_string(p, v[i], at + i * sizeof(*v));
	return r;
}

static int write_pointer(
	struct packer *p, const struct pack_type *t, const void *object, size_t slot)
{
	const struct shared *known = object ? find_shared(p, object, 0, t) : NULL;
	uint64_t at = known ? known->at : 0;

	if (!object || known) {
		put_word(p, slot, at);
		return 0;
	}
	int r = append(p, object, t->size, &at);
	if (r >= 0)
		r = add_shared(p, object, at, t);
	if (r < 0)
		return r;
	put_word(p, slot, at);
	return write_members(p, t, object, at);
}

static int write_array(
	struct packer *p, const struct pack_field *f, const char *v, size_t n, size_t slot)
{
	size_t size = f->type ? f->type->size : f->element;
	uint64_t at = 0;

	if (!v || !n) {
		put_word(p, slot, 0);
		return 0;
	}
	int r = append(p, v, n * size, &at);
	if (r < 0)
		return r;
	put_word(p, slot, at);
	for (size_t i = 0; f->type && i < n && r >= 0; i++)
		r = write_members(p, f->type, v + i * size, at + i * size);
	return r;
}

static int write_field(struct packer *p, const struct pack_field *f, const char *object, size_t at)
{
	const char *from = object + f->offset;
	const void *pointer = NULL;
	size_t n = 0;

	if (f->kind < PACK_KIND_EMBED)
		memcpy(&pointer, from, sizeof(pointer));
	if (f->kind == PACK_KIND_STRINGS || f->kind == PACK_KIND_ARRAY)
		memcpy(&n, object + f->count_offset, sizeof(n));
	switch (f->kind) {
	case PACK_KIND_STRING:
		return write_string(p, pointer, at + f->offset);
	case PACK_KIND_STRINGS:
		return write_strings(p, pointer, n, at + f->offset);
	case PACK_KIND_POINTER:
		return write_pointer(p, f->type, pointer, at + f->offset);
	case PACK_KIND_ARRAY:
		return write_array(p, f, pointer, n, at + f->offset);
	case PACK_KIND_EMBED:
		return write_members(p, f->type, from, at + f->offset);
	case PACK_KIND_DROP:
		put_word(p, at + f->offset, 0);
		return 0;
	case PACK_KIND_BOOL:
	case PACK_KIND_ENUM:
		break;
	}
	return 0;
}

static int write_members(struct packer *p, const struct pack_type *t, const char *object, size_t at)
{
	int r = 0;

	for (size_t i = 0; i < t->nfields && r >= 0; i++)
		r = write_field(p, &t->fields[i], object, at);
	const struct pack_type *more = r >= 0 && t->variant ? t->variant(object) : NULL;
	return more ? write_members(p, more, object, at) : r;
}

int pack_write(const struct pack_type *t, const void *root, struct strbuf *out)
{
	struct header h = {.abi = abi_of(t)};
	struct packer p = {.out = out};
	uint64_t at;

	memcpy(h.magic, magic, sizeof(magic));
	int r = strbuf_reserve(out, USUAL_ROOM);
	if (r >= 0)
		r = strbuf_add(out, &h, sizeof(h));
	if (r >= 0)
		r = append(&p, root, t->size, &at);
	if (r >= 0)
		r = write_members(&p, t, root, at);
	free(p.shared);
	if (r < 0)
		return r;
	h.length = out->len;
	memcpy(out->s, &h, sizeof(h));
	return 0;
}

/* The next functions read an image, which may be broken or hostile. */

static int broken(const struct pack_type *t, const char *what)
{
	return err_set(EPROTO, "the image of a plan is broken: %s: %s", t->name, what);
}

static uint64_t get_word(const char *at)
{
	uint64_t v;

	memcpy(&v, at, sizeof(v));
	return v;
}

static void set_pointer(char *at, const void *v)
{
	memcpy(at, &v, sizeof(v));
}

/*
 * Takes the next `size` bytes of the image. Returns NULL if the next bytes do not begin at
 * `offset`, or if the image has fewer than `size` bytes left.
 */
static char *take(struct packer *p, uint64_t offset, size_t size)
{
	size_t at = align_up(p->at);

	if (at > p->len || offset != at || size > p->len - at)
		return NULL;
	p->at = at + size;
	return p->bytes + at;
}

static int read_members(struct packer *p, const struct pack_type *t, char *object);

static int read_string(struct packer *p, const struct pack_type *t, char *slot)
{
	uint64_t offset = get_word(slot);

	if (!offset)
		return 0;
	const char *s = take(p, offset, 0);
	const char *end = s ? memchr(s, '\0', p->len - p->at) : NULL;
	if (!end)
		return broken(t, "a string is not where it must be, or has no end");
	p->at += (size_t)(end - s) + 1;
	set_pointer(slot, s);
	return 0;
}

static int read_strings(struct packer *p, const struct pack_type *t, char *slot, size_t n)
{
	uint64_t offset = get_word(slot);

	if (!offset)
		return n ? broken(t, "a list of strings is missing") : 0;
	if (n >= p->len / sizeof(char *))
		return broken(t, "a list of strings is longer than the image");
	char *v = take(p, offset, (n + 1) * sizeof(char *));
	if (!v || get_word(v + n * sizeof(char *)))
		return broken(t, "a list of strings is not where it must be, or has no end");
	set_pointer(slot, v);
	for (size_t i = 0; i < n; i++) {
		char *entry = v + i * sizeof(char *);
		int r = get_word(entry) ? read_string(p, t, entry)
					: broken(t, "a string is missing");
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_pointer(struct packer *p, const struct pack_type *t, char *slot)
{
	uint64_t offset = get_word(slot);
	const struct shared *known = find_shared(p, NULL, offset, t);

	if (!offset)
		return 0;
	if (known) {
		set_pointer(slot, known->object);
		return 0;
	}
	char *object = take(p, offset, t->size);
	if (!object)
		return broken(t, "the structure is not where it must be");
	int r = add_shared(p, object, offset, t);
	if (r < 0)
		return r;
	set_pointer(slot, object);
	return read_members(p, t, object);
}

static int read_array(struct packer *p, const struct pack_type *t, const struct pack_field *f,
	char *slot, size_t n)
{
	size_t size = f->type ? f->type->size : f->element;
	uint64_t offset = get_word(slot);
	int r = 0;

	if (!n)
		return offset ? broken(t, "an array without elements") : 0;
	if (n > p->len / size)
		return broken(t, "an array is longer than the image");
	char *v = take(p, offset, n * size);
	if (!v)
		return broken(t, "an array is not where it must be");
	set_pointer(slot, v);
	for (size_t i = 0; f->type && i < n && r >= 0; i++)
		r = read_members(p, f->type, v + i * size);
	return r;
}

static int read_field(
	struct packer *p, const struct pack_type *t, const struct pack_field *f, char *object)
{
	char *slot = object + f->offset;
	uint32_t number;
	size_t n = 0;

	if (f->needed && !get_word(slot))
		return broken(t, "a member is missing");
	if (f->kind == PACK_KIND_STRINGS || f->kind == PACK_KIND_ARRAY)
		memcpy(&n, object + f->count_offset, sizeof(n));
	switch (f->kind) {
	case PACK_KIND_STRING:
		return read_string(p, t, slot);
	case PACK_KIND_STRINGS:
		return read_strings(p, t, slot, n);
	case PACK_KIND_POINTER:
		return read_pointer(p, f->type, slot);
	case PACK_KIND_ARRAY:
		return read_array(p, t, f, slot, n);
	case PACK_KIND_EMBED:
		return read_members(p, f->type, slot);
	case PACK_KIND_BOOL:
		return (unsigned char)*slot > 1 ? broken(t, "a boolean is neither 0 nor 1") : 0;
	case PACK_KIND_ENUM:
		memcpy(&number, slot, sizeof(number));
		return number >= f->limit ? broken(t, "a number names nothing") : 0;
	case PACK_KIND_DROP:
		return get_word(slot) ? broken(t, "a member that is not sent is there") : 0;
	}
	return 0;
}

static int read_members(struct packer *p, const struct pack_type *t, char *object)
{
	int r = 0;

	for (size_t i = 0; i < t->nfields && r >= 0; i++)
		r = read_field(p, t, &t->fields[i], object);
	const struct pack_type *more = r >= 0 && t->variant ? t->variant(object) : NULL;
	return more ? read_members(p, more, object) : r;
}

int pack_read(const struct pack_type *t, void *bytes, size_t len, void **ret)
{
	struct packer p = {.bytes = bytes, .len = len, .at = sizeof(struct header)};
	struct header h;

	if (len < sizeof(h))
		return broken(t, "it is shorter than its header");
	memcpy(&h, bytes, sizeof(h));
	if (memcmp(h.magic, magic, sizeof(magic)) != 0)
		return broken(t, "it does not begin as one");
	if (h.abi != abi_of(t))
		return err_set(EPROTO,
			"the image of a plan is of another build of caisson: install caisson and "
			"its helpers together, and start microVMs anew that were started before");
	if (h.length != len)
		return broken(t, "its length is not the one in its header");
	char *root = take(&p, align_up(sizeof(h)), t->size);
	if (!root)
		return broken(t, "it ends too early");
	int r = read_members(&p, t, root);
	free(p.shared);
	if (r >= 0 && p.at != len)
		r = broken(t, "there are bytes behind its end");
	*ret = root;
	return r;
}
