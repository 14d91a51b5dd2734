/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/builder.h"

struct step *builder_add_step(
	struct builder *b, enum step_kind kind, enum step_place place, const char *field)
{
	/*
	 * The step that builder_add_step() returns if memory runs out, so that the caller has
	 * something to write to. The step is not part of the plan, and plan_build() fails at the
	 * end.
	 */
	static _Thread_local struct step nowhere;

	if (b->n == b->cap) {
		size_t cap = b->cap ? 2 * b->cap : 64;
		struct step *steps = arena_array(b->arena, cap, sizeof(*steps));
		if (!steps) {
			b->failed = -ENOMEM;
			return &nowhere;
		}
		if (b->n)
			memcpy(steps, b->steps, b->n * sizeof(*steps));
		b->steps = steps;
		b->cap = cap;
	}
	struct step *s = &b->steps[b->n++];
	*s = (struct step){.kind = kind, .place = place, .slot = -1, .field = field};
	return s;
}

void builder_add_text(struct builder *b, enum step_kind kind, const char *field, const char *text)
{
	builder_add_step(b, kind, PLACE_INIT, field)->text = text;
}

void builder_add_process(
	struct builder *b, enum step_kind kind, const char *field, const struct spec_process *p)
{
	builder_add_step(b, kind, PLACE_INIT, field)->process = p;
}

void builder_add_barrier(struct builder *b, enum step_place place, const char *name)
{
	builder_add_step(b, STEP_BARRIER, place, NULL)->text = name;
}

const char *builder_field(struct builder *b, const char *array, size_t i)
{
	char *s = arena_printf(b->arena, "%s[%zu]", array, i);

	if (!s)
		b->failed = -ENOMEM;
	return s;
}
