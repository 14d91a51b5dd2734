/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prepares the guest before there is a container: from the kernel's initramfs to a system in which
 * a plan can be walked. Process 1 calls these functions once, in this order. What the guest can
 * work without is no error.
 */
#pragma once
#include "base/err.h"

/* Mounts /dev, and makes the console standard input, output and error. */
int setup_console(void) must_check;
/*
 * Opens the console once more, so that an error can be shown on a console that came with a module
 * or shortly after the kernel had started process 1. Waits at most a second for it, and keeps
 * err_msg().
 */
void setup_late_console(void);
/*
 * Loads the modules that /modules.list names, in its order. A module that does not load is logged.
 */
int setup_modules(void) must_check;
/* Makes a root that pivot_root(2) accepts, with /proc, /sys, /dev, /run and cgroup2. */
int setup_root(void) must_check;
/* Sets the limits that programs expect because other init systems set them. */
void setup_limits(void);
