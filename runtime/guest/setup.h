/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prepares the guest before there is a container: turns the kernel's initramfs into a system in
 * which the steps of a plan can be done. Process 1 calls these functions once, in the order of
 * their declarations. A function returns no error for a failure with which the guest can still
 * work.
 */
#pragma once
#include "base/err.h"

/* Mounts /dev, and makes the console standard input, output and error of this process. */
int setup_console(void) must_check;
/*
 * Opens the console again, so that an error can be shown on a console whose driver is a module, or
 * which appeared shortly after the kernel had started process 1. Waits at most a second for the
 * console. Does not change err_msg().
 */
void setup_late_console(void);
/*
 * Loads the modules that /modules.list names, in the order of that list. Logs each module that
 * cannot be loaded.
 */
int setup_modules(void) must_check;
/*
 * Makes a root file system that pivot_root(2) accepts, and mounts /proc, /sys, /dev, /run and
 * cgroup2 in that file system.
 */
int setup_root(void) must_check;
/* Sets those limits of the kernel that other init systems set too, because programs expect them. */
void setup_limits(void);
/*
 * Lets the kernel use memory that the machine gets while it runs, in a zone from which it can be
 * taken away again.
 */
void setup_memory(void);

/* The network devices that nics_release() has taken from their driver, by their names in sysfs. */
#define NICS_MAX 16
struct nics {
	char names[NICS_MAX][16];
	size_t count;
};

/*
 * The functions of nics.c take the network devices from their driver, and give them back. A kernel
 * without the driver has no such devices.
 */
int nics_release(struct nics *n) must_check;
int nics_take(struct nics *n) must_check;
