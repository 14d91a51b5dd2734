/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <yajl/yajl_parse.h>

/*
 * An object with at most so many members is searched for each new member, in order to find a
 * property that is given twice. In a larger one this would cost the square of its size, so its
 * members are sorted once it is complete.
 */
#define SEARCHED_MAX 32

struct frame {
	struct json *node;
	struct json **tail; /* where the parser stores the pointer to the next element */
};

struct reader {
	struct arena *arena;
	const char *what;
	const char *key; /* key of the object's member whose value comes next */
	struct json *root;
	struct frame stack[JSON_MAX_DEPTH];
	unsigned depth;
	/*
	 * number of levels below JSON_MAX_DEPTH that are open at present; the parser drops what is
	 * in them
	 */
	uint64_t skipped;
	int failed; /* -errno of the first yajl callback that failed */
};

/*
 * Returns whether the value that yajl reports is nested deeper than JSON_MAX_DEPTH levels. The
 * callbacks drop such a value.
 */
static bool is_skipped(const void *ctx)
{
	return ((const struct reader *)ctx)->skipped > 0;
}

static struct json *add_node(struct reader *r, enum json_type type)
{
	struct json *n = arena_alloc(r->arena, sizeof(*n));

	if (!n) {
		r->failed = -ENOMEM;
		return NULL;
	}
	n->type = type;
	if (r->depth == 0) {
		r->root = n;
		return n;
	}
	struct frame *f = &r->stack[r->depth - 1];
	n->key = take_ptr(r->key);
	*f->tail = n;
	f->tail = &n->next;
	f->node->count++;
	return n;
}

static int push_node(struct reader *r, enum json_type type)
{
	if (r->depth == JSON_MAX_DEPTH) {
		r->skipped++;
		r->key = NULL;
		return 1;
	}
	struct json *n = add_node(r, type);
	if (!n)
		return 0;
	r->stack[r->depth++] = (struct frame){.node = n, .tail = &n->first};
	return 1;
}

static const char *copy_text(struct reader *r, const void *s, size_t len)
{
	if (memchr(s, '\0', len)) {
		r->failed =
			err_set(EINVAL, "%s: a string holds a NUL character (\\u0000)", r->what);
		return NULL;
	}
	const char *copy = arena_strndup(r->arena, s, len);
	if (!copy)
		r->failed = -ENOMEM;
	return copy;
}

static int on_null(void *ctx)
{
	if (is_skipped(ctx))
		return 1;
	return add_node(ctx, JSON_NULL) != NULL;
}

static int on_boolean(void *ctx, int value)
{
	if (is_skipped(ctx))
		return 1;
	struct json *n = add_node(ctx, JSON_BOOL);
	if (n)
		n->boolean = value;
	return n != NULL;
}

static int on_text(struct reader *r, enum json_type type, const void *s, size_t len)
{
	if (is_skipped(r))
		return 1;
	const char *text = copy_text(r, s, len);
	struct json *n = text ? add_node(r, type) : NULL;

	if (n)
		n->text = text;
	return n != NULL;
}

static int on_number(void *ctx, const char *s, size_t len)
{
	return on_text(ctx, JSON_NUMBER, s, len);
}

static int on_string(void *ctx, const unsigned char *s, size_t len)
{
	return on_text(ctx, JSON_STRING, s, len);
}

static int given_twice(struct reader *r, const char *key)
{
	r->failed = err_set(
		EINVAL, "%s: the property \"%s\" is given twice in one object", r->what, key);
	return 0;
}

static int on_key(void *ctx, const unsigned char *s, size_t len)
{
	struct reader *r = ctx;

	if (is_skipped(r))
		return 1;
	r->key = copy_text(r, s, len);
	if (!r->key)
		return 0;
	const struct json *object = r->stack[r->depth - 1].node;
	if (object->count == JSON_MAX_MEMBERS) {
		r->failed = err_set(EINVAL, "%s: an object has more than %d properties", r->what,
			JSON_MAX_MEMBERS);
		return 0;
	}
	for (const struct json *n = object->count <= SEARCHED_MAX ? object->first : NULL; n;
		n = n->next)
		if (streq(n->key, r->key))
			return given_twice(r, r->key);
	return 1;
}

static int compare_keys(const void *x, const void *y)
{
	return strcmp(*(const char *const *)x, *(const char *const *)y);
}

/* Finds a property that a complete object with many members has twice. */
static int check_many(struct reader *r, const struct json *object)
{
	const char **keys = arena_array(r->arena, object->count, sizeof(*keys));
	size_t n = 0;

	if (!keys) {
		r->failed = -ENOMEM;
		return 0;
	}
	for (const struct json *j = object->first; j; j = j->next)
		keys[n++] = j->key;
	qsort(keys, n, sizeof(*keys), compare_keys);
	for (size_t i = 1; i < n; i++)
		if (streq(keys[i - 1], keys[i]))
			return given_twice(r, keys[i]);
	return 1;
}

static int on_object(void *ctx)
{
	return push_node(ctx, JSON_OBJECT);
}

static int on_array(void *ctx)
{
	return push_node(ctx, JSON_ARRAY);
}

static int on_end(void *ctx)
{
	struct reader *r = ctx;

	if (r->skipped) {
		r->skipped--;
		return 1;
	}
	const struct json *n = r->stack[--r->depth].node;
	return n->type == JSON_OBJECT && n->count > SEARCHED_MAX ? check_many(r, n) : 1;
}

static const yajl_callbacks callbacks = {
	.yajl_null = on_null,
	.yajl_boolean = on_boolean,
	.yajl_number = on_number,
	.yajl_string = on_string,
	.yajl_start_map = on_object,
	.yajl_map_key = on_key,
	.yajl_end_map = on_end,
	.yajl_start_array = on_array,
	.yajl_end_array = on_end,
};

/*
 * Sets the error message for invalid JSON. yajl's message has several lines and draws an arrow, so
 * only its first sentence is used, with the line number in the document.
 */
static int syntax_error(yajl_handle h, const char *text, size_t len, const char *what)
{
	size_t at = yajl_get_bytes_consumed(h), line = 1;
	unsigned char *msg = yajl_get_error(h, 0, (const unsigned char *)text, len);

	for (size_t i = 0; i < at && i < len; i++)
		line += text[i] == '\n';
	size_t msg_len = msg ? strcspn((char *)msg, "\n") : 0;
	int r = err_set(EINVAL, "%s: not valid JSON, line %zu: %.*s", what, line, (int)msg_len,
		msg ? (char *)msg : "");
	yajl_free_error(h, msg);
	return r;
}

/*
 * A piece of memory that yajl allocated. The parser gives yajl memory of the arena, because with
 * malloc() the C library would return yajl's buffers to the kernel by system calls.
 */
struct chunk {
	size_t size;
	_Alignas(max_align_t) char data[];
};

static void *get_memory(void *arena, size_t size)
{
	struct chunk *c = arena_alloc(arena, sizeof(*c) + size);

	if (!c)
		return NULL;
	c->size = size;
	return c->data;
}

static void *resize_memory(void *arena, void *old, size_t size)
{
	const struct chunk *c =
		old ? (struct chunk *)((char *)old - offsetof(struct chunk, data)) : NULL;
	/*
	 * A buffer that grows becomes at least twice as large, because the arena keeps the old
	 * buffer, and yajl makes its stack larger by only 128 bytes at a time: a text of many "["
	 * would cost the square of its length.
	 */
	const size_t room = c && size / 2 < c->size ? c->size * 2 : size;
	void *p = c && c->size >= size ? old : get_memory(arena, room);

	if (p && c && p != old)
		memcpy(p, old, c->size);
	return p;
}

static void free_nothing(void *arena, void *old)
{
}

int json_parse(struct arena *a, const char *text, size_t len, const char *what, struct json **ret)
{
	struct reader r = {.arena = a, .what = what};
	yajl_alloc_funcs memory = {
		.malloc = get_memory, .realloc = resize_memory, .free = free_nothing, .ctx = a};

	if (len == 0)
		return err_set(EINVAL, "%s is empty", what);
	yajl_handle h = yajl_alloc(&callbacks, &memory, &r);
	if (!h)
		return err_set(ENOMEM, "out of memory");
	yajl_status status = yajl_parse(h, (const unsigned char *)text, len);
	if (status == yajl_status_ok)
		status = yajl_complete_parse(h);
	int result = r.failed;
	if (result == 0 && status != yajl_status_ok)
		result = syntax_error(h, text, len, what);
	if (result == 0 && !r.root)
		result = err_set(EINVAL, "%s holds no JSON value", what);
	yajl_free(h);
	*ret = result == 0 ? r.root : NULL;
	return result;
}

const struct json *json_get(const struct json *obj, const char *key)
{
	if (!obj || obj->type != JSON_OBJECT)
		return NULL;
	for (const struct json *n = obj->first; n; n = n->next)
		if (streq(n->key, key))
			return n;
	return NULL;
}

const char *json_get_str(const struct json *obj, const char *key)
{
	const struct json *n = json_get(obj, key);

	return n && n->type == JSON_STRING ? n->text : NULL;
}

int json_get_i64(const struct json *obj, const char *key, int64_t *ret)
{
	const struct json *n = json_get(obj, key);

	if (!n)
		return -ENOENT;
	return n->type == JSON_NUMBER ? str_to_i64(n->text, ret) : -EINVAL;
}

int json_get_u64(const struct json *obj, const char *key, uint64_t *ret)
{
	const struct json *n = json_get(obj, key);

	if (!n)
		return -ENOENT;
	return n->type == JSON_NUMBER ? str_to_u64(n->text, ret) : -EINVAL;
}

bool json_get_true(const struct json *obj, const char *key)
{
	const struct json *v = json_get(obj, key);

	return v && v->type == JSON_BOOL && v->boolean;
}

const char *json_type_name(enum json_type t)
{
	static const char *const names[] = {
		"null", "a boolean", "a number", "a string", "an array", "an object"};

	return names[t];
}
