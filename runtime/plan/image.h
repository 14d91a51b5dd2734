/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plan as bytes (base/pack.h): HOST hands INIT its steps that way, and the monitor hands the
 * guest its own.
 *
 * Not in the image, because INIT and the guest need nothing of it: the rules of the system call
 * filter, which HOST has compiled.
 */
#pragma once
#include "base/pack.h"
#include "plan/plan.h"

/* For a structure of another layer that holds a plan: PACK_EMBED(struct x, plan, &plan_type). */
extern const struct pack_type plan_type;
extern const struct pack_type plan_strings_type; /* struct spec_strings */

/*
 * The steps from `from` on that one of these places does (1 << PLACE_INIT | ...), and all barriers
 * behind it. *ret shares everything but the array of steps with `p`.
 */
int plan_select(struct arena *a, const struct plan *p, unsigned places, size_t from,
	struct plan *ret) must_check;
