/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decides how vm.image is served: what format the image has, and whether the guest may write to it.
 */
#pragma once
#include "machine/machine_config.h"

/*
 * Sets those members of *m that describe vm.image, from `image` to `image_queues`. The caller must
 * have set m->cpus before.
 */
int machine_decide_image(
	const struct spec *s, const struct machine_request *q, struct machine_config *m) must_check;

/* Returns the serial number of the guest's disk that shows vm.image. */
const char *machine_image_serial(const struct machine_config *m);

/* Returns the name of the policy, which is its name in annotations and in the options of QEMU. */
const char *machine_on_error_name(enum blk_on_error policy);
/*
 * Returns the name that caisson-disk has for a format of vm.image.format, or NULL if caisson does
 * not know it. *ret_can_write says whether caisson writes such images.
 */
const char *machine_image_format(const char *name, bool *ret_can_write);
