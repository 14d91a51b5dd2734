/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a plan as bytes and reads it (base/pack.h). The runtime sends INIT, the container's first
 * process, its steps in this way, and a microVM's monitor sends the guest the guest's steps.
 *
 * The rules of the system call filter are left out, because the runtime has compiled them already.
 */
#pragma once
#include "base/pack.h"
#include "plan/plan.h"

/*
 * Describes struct plan (see base/pack.h), for a structure of another folder that contains a plan:
 * PACK_EMBED(struct x, plan, &plan_type).
 */
extern const struct pack_type plan_type;
extern const struct pack_type plan_strings_type; /* describes struct spec_strings */
extern const struct pack_type plan_opt_i64_type; /* describes struct opt_i64 */
extern const struct pack_type plan_opt_u64_type;

/*
 * Selects from the plan `p`, from the step `from` on, the steps that one of the parties `places` (1
 * << PLACE_INIT | ...) does, and all barriers. *ret gets an array of its own with these steps, and
 * shares everything else with `p`.
 */
int plan_select(struct arena *a, const struct plan *p, unsigned places, size_t from,
	struct plan *ret) must_check;

/*
 * Returns the index in the plan `p` of the step that plan_select() with the same arguments puts at
 * `index` of its result, or p->n if the result has no such step.
 */
size_t plan_selected(const struct plan *p, unsigned places, size_t from, size_t index);

/* Checks that the plan has n slots, and that no step of the plan names a slot beyond these. */
int plan_check_slots(const struct plan *p, size_t n) must_check;
