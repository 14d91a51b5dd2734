/* SPDX-License-Identifier: Apache-2.0 */
/* Decides what a machine can get more of while it runs. */
#pragma once
#include "machine/machine_config.h"

/* Sets m->max_cpus, once m->cpus and m->foreign are set. */
int machine_decide_max_cpus(const struct spec *s, struct machine_config *m) must_check;
/* Sets m->hot_memory, once the size and pages of the memory, and the hypervisor, are set. */
int machine_decide_max_memory(const struct spec *s, struct machine_config *m) must_check;
