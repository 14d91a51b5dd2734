/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a plan as bytes and reads it (base/pack.h). The host sends INIT its steps in this way, and
 * the monitor sends the guest the guest's steps.
 *
 * The rules of the system call filter are left out, because the host has compiled them already.
 */
#pragma once
#include "base/pack.h"
#include "plan/plan.h"

/*
 * The type of struct plan, for a structure of another folder that contains a plan:
 * PACK_EMBED(struct x, plan, &plan_type).
 */
extern const struct pack_type plan_type;
extern const struct pack_type plan_strings_type; /* describes struct spec_strings */
extern const struct pack_type plan_opt_i64_type; /* describes struct opt_i64 */
extern const struct pack_type plan_opt_u64_type;

/*
 * Selects, from the step `from` on, those steps that one of `places` (1 << PLACE_INIT | ...) does,
 * and all barriers. *ret shares everything but the array of steps with `p`.
 */
int plan_select(struct arena *a, const struct plan *p, unsigned places, size_t from,
	struct plan *ret) must_check;

/*
 * Returns the index in `p` of the step that plan_select() with the same arguments has put at
 * `index`, or p->n if it has put none there.
 */
size_t plan_selected(const struct plan *p, unsigned places, size_t from, size_t index);

/* Checks that the plan has n slots, and that its steps name no others. */
int plan_check_slots(const struct plan *p, size_t n) must_check;
