/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the reader of caisson-init's orders, which are bytes that caisson-init and the guest read.
 * The input chooses a configuration and changes bytes of its orders. In orders that are accepted
 * every slot (the index of a descriptor) must be in range and every byte readable, and the orders
 * must be accepted again after they are written.
 *
 * The input is: a byte, whose value modulo the number of configurations chooses one; a byte whose
 * bits say which of the optional members are present; then changes of three bytes each, two for the
 * offset in the orders and one for the new value.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/fd.h"
#include "fuzz/image.h"
#include "init/orders.h"
#include "plan/image.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define VARIANTS 8

static const struct {
	const char *config;
	enum plan_isolation isolation;
} plans[] = {
	{"default", PLAN_NS},
	{"full", PLAN_NS},
	{"joined", PLAN_NS},
	{"vm", PLAN_VM},
};

static struct strbuf images[ARRAY_SIZE(plans)][VARIANTS];

static void make_image(struct arena *a, struct plan *plan, unsigned variant, struct strbuf *ret)
{
	static const char *const env[] = {"PATH=/bin", "EMPTY=", NULL};
	static uint64_t filter[] = {0x0006000000000000, 0x7fff000000000006};
	struct init_orders o = {
		.plan = *plan,
		.nslots = (size_t)plan->nslots,
		.channel = 3,
		.start_fifo = 4,
		.result_fifo = 5,
		.stdin_fd = 6,
		.container = -1,
		.pid_ns = -1,
		.hook_out = {7, 8},
		.hide_late = true,
		.log_level = 2,
	};

	o.slots = arena_array(a, o.nslots + 1, sizeof(*o.slots));
	if (!o.slots)
		abort();
	for (size_t i = 0; i < o.nslots; i++)
		o.slots[i] = i % 3 ? (int32_t)i + 9 : -1;
	if (variant & 1) {
		o.has_env = true;
		o.env = (struct spec_strings){.v = env, .n = ARRAY_SIZE(env) - 1};
	}
	if (variant & 2) {
		o.filter = filter;
		o.nfilter = ARRAY_SIZE(filter);
	}
	if (variant & 4) {
		o.state_head = "{\"status\":";
		o.state_tail = ",\"bundle\":\"/bundle\"}";
	}
	if (init_orders_pack(&o, ret) < 0)
		abort();
}

static void make_images(size_t i)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf text = {0};
	const struct plan_env env = {.isolation = plans[i].isolation,
		.bundle = "/bundle",
		.keyring = "_ses.x",
		.cgroup = true};
	const unsigned places =
		1U << PLACE_INIT | (env.isolation == PLAN_VM ? 1U << PLACE_GUEST : 0);
	const struct spec *s;
	struct plan all = {0}, chosen = {0};
	char path[512];

	snprintf(path, sizeof(path), "%s/%s.json", GOLDEN_DIR, plans[i].config);
	if (fd_read_file(AT_FDCWD, path, &text, SPEC_MAX_SIZE) < 0 ||
		spec_parse(&a, strbuf_str(&text), text.len, path, &s) < 0 ||
		plan_build(&a, s, &env, &all) < 0 || plan_select(&a, &all, places, 0, &chosen) < 0)
		abort();
	for (unsigned v = 0; v < VARIANTS; v++)
		make_image(&a, &chosen, v, &images[i][v]);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	for (size_t i = 0; i < ARRAY_SIZE(plans); i++)
		make_images(i);
	return 0;
}

/*
 * Reads everything that the orders point to, as caisson-init does, so that the sanitizers notice a
 * pointer that leads outside of the orders.
 */
static void use(const struct init_orders *o)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	/* volatile, so that the compiler does not drop the reads whose results are added up here */
	volatile uint64_t sum = 0;

	for (size_t i = 0; i < o->plan.n; i++)
		if (o->plan.steps[i].slot >= 0)
			sum += (uint64_t)o->slots[o->plan.steps[i].slot];
	for (size_t i = 0; i < o->nfilter; i++)
		sum += o->filter[i];
	for (size_t i = 0; i < o->env.n; i++)
		sum += strlen(o->env.v[i]);
	/* The environment in the orders must end with NULL, because execve(2) needs that. */
	if (o->has_env && o->env.v[o->env.n])
		abort();
	if (o->state_head)
		sum += strlen(o->state_head);
	if (o->state_tail)
		sum += strlen(o->state_tail);
	(void)sum;
	if (plan_print(&o->plan, &text) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_strbuf_ struct strbuf again = {0};
	struct init_orders *o;

	if (size < 2)
		return 0;
	const struct strbuf *image = &images[data[0] % ARRAY_SIZE(plans)][data[1] % VARIANTS];
	_cleanup_free_ char *bytes = image_copy(image);
	image_change(bytes, image->len, data + 2, size - 2);
	if (init_orders_unpack(bytes, image->len, &o) < 0) {
		/* If the input is too short to change a byte, the orders must be accepted. */
		if (size < 5)
			abort();
		return 0;
	}
	use(o);
	if (init_orders_pack(o, &again) < 0)
		abort();
	_cleanup_free_ char *second = image_copy(&again);
	if (init_orders_unpack(second, again.len, &o) < 0)
		abort();
	use(o);
	return 0;
}
