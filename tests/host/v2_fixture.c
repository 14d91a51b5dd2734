/* SPDX-License-Identifier: Apache-2.0 */
#include "host/v2_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int open_fixture(void **state, enum cg_manager manager)
{
	struct fixture *f = calloc(1, sizeof(*f));
	static int number;

	*state = NULL;
	if (!f)
		return -1;
	f->opt = (struct cg_options){
		.manager = manager, .id = arena_printf(&f->arena, "v2-%d-%d", getpid(), number++)};
	fixture_open(f, state);
	return 0;
}

int v2_setup(void **state)
{
	return open_fixture(state, CG_CGROUPFS);
}

int v2_teardown(void **state)
{
	return *state ? fixture_release(*state) : 0;
}

struct fixture *fixture_need(void **state, const char *file)
{
	struct fixture *f = *state;

	if (!f)
		skip();
	if (!fixture_has(f, file)) {
		fprintf(stderr, "skipped: cgroup v2 has no %s here\n", file);
		skip();
	}
	return f;
}

void fixture_expect(struct fixture *f, const char *file, const char *text)
{
	assert_string_equal(fixture_read(f, file), text);
}

void fixture_apply(struct fixture *f, const struct cg_resources *res)
{
	OK(cg_apply(&f->cg, res));
}

struct opt_i64 given(int64_t v)
{
	return (struct opt_i64){true, v};
}

struct opt_u64 given_u(uint64_t v)
{
	return (struct opt_u64){true, v};
}

int use_memory(void *arg)
{
	size_t size = *(size_t *)arg;
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return 2;
	for (size_t i = 0; i < size; i += 4096)
		p[i] = 1;
	return 0;
}

bool find_disk(unsigned *major, unsigned *minor)
{
	static const char *const names[] = {"vda", "vdb", "sda", "loop0", "ram0"};
	char path[64];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "/sys/block/%s/dev", names[i]);
		FILE *file = fopen(path, "re");
		int n = file ? fscanf(file, "%u:%u", major, minor) : 0;
		if (file)
			fclose(file);
		if (n == 2)
			return true;
	}
	return false;
}
