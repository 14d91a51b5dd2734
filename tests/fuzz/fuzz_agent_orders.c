/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the reader of the orders for the guest's agent. The input chooses a configuration whose
 * orders are made, and changes bytes of them. If the reader accepts the bytes, every pointer must
 * be readable, every slot (the index of a descriptor) must be in range, and writing the orders
 * again must give bytes that are accepted too. The same holds for the limits of an update.
 *
 * The input: a byte, modulo the number of configurations; a byte, modulo 3: orders of create, of an
 * exec, or limits; then changes of three bytes each, two for the place and one for the new value.
 */
#include <stdio.h>
#include <stdlib.h>

#include "agent/orders.h"
#include "base/fd.h"
#include "fuzz/image.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define KINDS 3

static const char *const configs[] = {"default", "vm", "vm-privileged"};
static struct strbuf images[ARRAY_SIZE(configs)][KINDS];

static void make_images(size_t i)
{
	static uint64_t filter[] = {0x0006000000000000, 0x7fff000000000006};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf text = {0};
	const struct plan_env env = {
		.isolation = PLAN_VM, .bundle = "/bundle", .keyring = "_ses.x", .cgroup = true};
	struct plan_exec_env exec_env = {
		.isolation = PLAN_VM, .cgroup_attach = true, .keyring = "_ses.x"};
	struct agent_orders create, exec;
	struct plan plan, exec_plan;
	const struct spec *s;
	char path[512];

	snprintf(path, sizeof(path), "%s/%s.json", GOLDEN_DIR, configs[i]);
	if (fd_read_file(AT_FDCWD, path, &text, SPEC_MAX_SIZE) < 0 ||
		spec_parse(&a, strbuf_str(&text), text.len, path, &s) < 0)
		abort();
	exec_env.spec = s;
	exec_env.process = s->process;
	if (plan_build(&a, s, &env, &plan) < 0 || plan_build_exec(&a, &exec_env, &exec_plan) < 0 ||
		agent_orders_for_create(&a, &plan, s, &create) < 0 ||
		agent_orders_for_exec(&a, &exec_plan, s, &exec) < 0)
		abort();
	create.id = "x";
	create.state = "{\"status\":\"\",\"pid\":0}";
	create.filter = filter;
	create.nfilter = ARRAY_SIZE(filter);
	exec.subgroup = "sub";
	if (agent_orders_pack(&create, &images[i][0]) < 0 ||
		agent_orders_pack(&exec, &images[i][1]) < 0 ||
		agent_limits_pack(&create.resources, &images[i][2]) < 0)
		abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	for (size_t i = 0; i < ARRAY_SIZE(configs); i++)
		make_images(i);
	return 0;
}

static size_t length(const char *s)
{
	return s ? strlen(s) : 0;
}

static size_t use_limits(const struct cg_resources *l)
{
	size_t sum = 0;

	for (size_t i = 0; i < l->ndevices; i++)
		sum += strlen(l->devices[i].access) + l->devices[i].allow;
	for (size_t i = 0; i < l->nhugepages; i++)
		sum += strlen(l->hugepages[i].page_size);
	for (size_t i = 0; i < l->nunified; i++)
		sum += strlen(l->unified[i].file) + strlen(l->unified[i].value);
	if (l->cpu.cpus || l->cpu.mems || l->nrdma || l->block_io.throttle_read_bps.n)
		abort();
	return sum + l->memory.limit.set + l->pids_limit.set + l->cpu.shares.set;
}

static void use_orders(const struct agent_orders *o)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	/* volatile, so that the compiler does not drop the reads whose results are added up here */
	volatile uint64_t sum = 0;

	for (size_t i = 0; i < o->plan.n; i++)
		if (o->plan.steps[i].slot >= 0)
			sum += o->mount_flags[o->plan.steps[i].slot];
	for (size_t i = 0; i < o->nfilter; i++)
		sum += o->filter[i];
	sum += length(o->id) + length(o->state) + length(o->subgroup) + use_limits(&o->resources);
	(void)sum;
	if (plan_print(&o->plan, &text) < 0)
		abort();
}

/*
 * Reads orders or limits, whichever `kind` says, from the bytes. Then it reads everything that the
 * result points to, so that the sanitizers see a bad pointer, and writes the result as bytes again.
 */
static int read_one(unsigned kind, void *bytes, size_t len, struct strbuf *again)
{
	struct agent_orders *o;
	struct cg_resources *l;

	int r = kind == 2 ? agent_limits_unpack(bytes, len, &l)
			  : agent_orders_unpack(bytes, len, &o);
	if (r < 0)
		return r;
	if (kind == 2)
		use_limits(l);
	else
		use_orders(o);
	if ((kind == 2 ? agent_limits_pack(l, again) : agent_orders_pack(o, again)) < 0)
		abort();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_strbuf_ struct strbuf again = {0}, last = {0};

	if (size < 2)
		return 0;
	const unsigned kind = data[1] % KINDS;
	const struct strbuf *image = &images[data[0] % ARRAY_SIZE(configs)][kind];
	_cleanup_free_ char *bytes = image_copy(image);
	image_change(bytes, image->len, data + 2, size - 2);
	if (read_one(kind, bytes, image->len, &again) < 0) {
		/* If the input is too short to change a byte, the orders must be accepted. */
		if (size < 5)
			abort();
		return 0;
	}
	_cleanup_free_ char *second = image_copy(&again);
	if (read_one(kind, second, again.len, &last) < 0)
		abort();
	return 0;
}
