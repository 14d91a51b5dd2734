/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest before there is a container: from the kernel's initramfs to a system that a plan can be
 * walked in. Once, as process 1, in this order; nothing here fails that can be done without.
 */
#pragma once
#include "base/err.h"

/* /dev, and the console as standard input, output and error. */
int setup_console(void) must_check;
/*
 * The same once more, for an error's sake: a console that came with a module, or a moment after the
 * kernel had started us. Waits a second for one; the message is kept.
 */
void setup_late_console(void);
/* The modules that /modules.list names, in its order. What does not load is logged. */
int setup_modules(void) must_check;
/* A root that can be pivoted from, with /proc /sys /dev /run and cgroup2. */
int setup_root(void) must_check;
/* What people expect of a system that something else than caisson-init set up. */
void setup_limits(void);
