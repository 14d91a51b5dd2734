/* SPDX-License-Identifier: Apache-2.0 */
/* Decides how vm.image is served: what format it has, and what may be done with it. */
#pragma once
#include "machine/machine_config.h"

/* Sets the members of *m from `image` to `image_queues`. m->cpus must be set before. */
int machine_decide_image(
	const struct spec *s, const struct machine_request *q, struct machine_config *m) must_check;
