/* SPDX-License-Identifier: Apache-2.0 */
/* Writes JSON. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <yajl/yajl_gen.h>

#include "base/json.h"

int json_out_init(struct json_out *o, bool pretty)
{
	*o = (struct json_out){.gen = yajl_gen_alloc(NULL)};
	if (!o->gen)
		return err_set(ENOMEM, "out of memory");
	yajl_gen_config(o->gen, yajl_gen_beautify, pretty);
	if (pretty)
		yajl_gen_config(o->gen, yajl_gen_indent_string, "  ");
	return 0;
}

void json_out_release(struct json_out *o)
{
	if (o->gen)
		yajl_gen_free(o->gen);
	o->gen = NULL;
}

static void note_failure(struct json_out *o, yajl_gen_status s)
{
	if (s != yajl_gen_status_ok && s != yajl_gen_generation_complete && !o->failed)
		o->failed = -EINVAL;
}

/* Copies the text `value` to *ret, with U+FFFD in place of bytes that are not UTF-8. */
static int make_utf8(const char *value, size_t len, struct strbuf *ret)
{
	uint32_t c;
	int r = 0;

	while (len && r >= 0) {
		size_t n = str_utf8(value, len, &c);
		r = c == STR_NO_UTF8 ? strbuf_add(ret, "\xef\xbf\xbd", 3)
				     : strbuf_add(ret, value, n);
		value += n;
		len -= n;
	}
	return r;
}

static void write_string(struct json_out *o, const char *value)
{
	_cleanup_strbuf_ struct strbuf clean = {0};
	size_t len = strlen(value), good = 0;
	uint32_t c;

	while (good < len) {
		size_t n = str_utf8(value + good, len - good, &c);
		if (c == STR_NO_UTF8)
			break;
		good += n;
	}
	if (good < len) {
		int r = make_utf8(value, len, &clean);
		if (r < 0)
			o->failed = r;
		value = strbuf_str(&clean);
		len = clean.len;
	}
	note_failure(o, yajl_gen_string(o->gen, (const unsigned char *)value, len));
}

static void write_key(struct json_out *o, const char *key)
{
	if (key)
		write_string(o, key);
}

void json_out_object(struct json_out *o, const char *key)
{
	write_key(o, key);
	note_failure(o, yajl_gen_map_open(o->gen));
}

void json_out_end_object(struct json_out *o)
{
	note_failure(o, yajl_gen_map_close(o->gen));
}

void json_out_array(struct json_out *o, const char *key)
{
	write_key(o, key);
	note_failure(o, yajl_gen_array_open(o->gen));
}

void json_out_end_array(struct json_out *o)
{
	note_failure(o, yajl_gen_array_close(o->gen));
}

void json_out_str(struct json_out *o, const char *key, const char *value)
{
	write_key(o, key);
	write_string(o, value);
}

static void write_number(struct json_out *o, const char *key, const char *text)
{
	write_key(o, key);
	note_failure(o, yajl_gen_number(o->gen, text, strlen(text)));
}

void json_out_i64(struct json_out *o, const char *key, int64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRId64, value);
	write_number(o, key, text);
}

void json_out_u64(struct json_out *o, const char *key, uint64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	write_number(o, key, text);
}

void json_out_double(struct json_out *o, const char *key, double value)
{
	write_key(o, key);
	note_failure(o, yajl_gen_double(o->gen, value));
}

void json_out_bool(struct json_out *o, const char *key, bool value)
{
	write_key(o, key);
	note_failure(o, yajl_gen_bool(o->gen, value));
}

void json_out_null(struct json_out *o, const char *key)
{
	write_key(o, key);
	note_failure(o, yajl_gen_null(o->gen));
}

void json_out_node(struct json_out *o, const char *key, const struct json *node)
{
	switch (node->type) {
	case JSON_NULL:
		json_out_null(o, key);
		return;
	case JSON_BOOL:
		json_out_bool(o, key, node->boolean);
		return;
	case JSON_NUMBER:
		write_number(o, key, node->text);
		return;
	case JSON_STRING:
		json_out_str(o, key, node->text);
		return;
	case JSON_ARRAY:
		json_out_array(o, key);
		break;
	case JSON_OBJECT:
		json_out_object(o, key);
		break;
	}
	for (const struct json *n = node->first; n; n = n->next)
		json_out_node(o, n->key, n);
	if (node->type == JSON_ARRAY)
		json_out_end_array(o);
	else
		json_out_end_object(o);
}

int json_out_text(struct json_out *o, const char **ret, size_t *ret_len)
{
	const unsigned char *text;
	size_t len;

	if (o->failed)
		return err_set(-o->failed, "cannot write JSON");
	if (yajl_gen_get_buf(o->gen, &text, &len) != yajl_gen_status_ok)
		return err_set(EINVAL, "cannot write JSON");
	*ret = (const char *)text;
	*ret_len = len;
	return 0;
}
