/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the facts that only one format has, as JSON and as text in qemu-img's form. */
#include "disk/tool.h"

#define DEPTH_MAX 4 /* how deep objects and arrays of facts may lie in each other */

/* The objects and arrays of facts that were begun and not ended. */
struct nest {
	unsigned depth;
	bool array[DEPTH_MAX + 1];
	/* how many facts each of the objects and arrays has had so far */
	unsigned items[DEPTH_MAX + 1];
};

static int enter(struct nest *n, enum disk_fact_type type)
{
	if (n->depth == DEPTH_MAX)
		return err_set(E2BIG, "facts of an image lie too deep in each other");
	n->depth++;
	n->array[n->depth] = type == DISK_FACT_ARRAY;
	n->items[n->depth] = 0;
	return 0;
}

int tool_json_facts(struct json_out *o, const struct disk_fact *facts)
{
	struct nest n = {0};
	int r = 0;

	for (const struct disk_fact *f = facts; f && r >= 0; f = f->next) {
		switch (f->type) {
		case DISK_FACT_TEXT:
			json_out_str(o, f->key, f->text);
			break;
		case DISK_FACT_NUMBER:
			json_out_u64(o, f->key, f->number);
			break;
		case DISK_FACT_BOOL:
			json_out_bool(o, f->key, f->number != 0);
			break;
		case DISK_FACT_OBJECT:
			json_out_object(o, f->key);
			r = enter(&n, f->type);
			break;
		case DISK_FACT_ARRAY:
			json_out_array(o, f->key);
			r = enter(&n, f->type);
			break;
		case DISK_FACT_END:
			n.array[n.depth--] ? json_out_end_array(o) : json_out_end_object(o);
			break;
		}
	}
	return r;
}

static int add_value(struct strbuf *out, const struct disk_fact *f)
{
	if (f->type == DISK_FACT_TEXT)
		return tool_add_line(out, " %s", f->text);
	if (f->type == DISK_FACT_NUMBER)
		return strbuf_addf(out, " %llu\n", (unsigned long long)f->number);
	if (f->type == DISK_FACT_BOOL)
		return strbuf_addf(out, " %s\n", f->number ? "true" : "false");
	return strbuf_addf(out, "\n");
}

static int add_fact(struct strbuf *out, const struct disk_fact *f, struct nest *n)
{
	char key[64];
	size_t i = 0;

	if (f->type == DISK_FACT_END) {
		n->depth--;
		return 0;
	}
	for (; f->key && f->key[i] && i + 1 < sizeof(key); i++)
		key[i] = f->key[i] == '-' ? ' ' : f->key[i];
	key[i] = '\0';
	if (n->array[n->depth])
		snprintf(key, sizeof(key), "[%u]", n->items[n->depth]);
	n->items[n->depth]++;
	int r = strbuf_addf(out, "%*s%s:", (int)(n->depth + 1) * 4, "", key);
	if (r >= 0)
		r = add_value(out, f);
	if (r >= 0 && (f->type == DISK_FACT_OBJECT || f->type == DISK_FACT_ARRAY))
		r = enter(n, f->type);
	return r;
}

int tool_add_facts(struct strbuf *out, const struct disk_fact *facts)
{
	struct nest n = {0};
	int r = strbuf_addf(out, "Format specific information:\n");

	for (const struct disk_fact *f = facts; f && r >= 0; f = f->next)
		r = add_fact(out, f, &n);
	return r;
}
