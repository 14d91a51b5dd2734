/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives each test a cgroup v2 that has controllers, and functions that build and check its limits.
 */
#pragma once
#include "unit/rig/cgroup.h"

#define MB (1024 * 1024)

int open_fixture(void **state, enum cg_manager manager);
int v2_setup(void **state);
int v2_teardown(void **state);
struct fixture *fixture_need(void **state, const char *file);
void fixture_expect(struct fixture *f, const char *file, const char *text);
void fixture_apply(struct fixture *f, const struct cg_resources *res);
struct opt_i64 given(int64_t v);
struct opt_u64 given_u(uint64_t v);
int use_memory(void *arg);

/* Finds a disk of this machine that can have I/O limits. Returns false if there is none. */
bool find_disk(unsigned *major, unsigned *minor);
