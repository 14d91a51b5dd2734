/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
#include "machine/machine_config.h"

/*
 * Sets m->template from the option --template or, if `option` is NULL, from the annotation of the
 * same meaning, which engines can set.
 */
int machine_decide_template(const struct spec *s, const char *option, struct machine_config *m)
	must_check;
