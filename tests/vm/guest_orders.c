/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the blob of a message to the guest's agent, for tests/vm/agent_host.py, which plays the
 * monitor. It makes the plan as the runtime does. Standard input is a JSON object:
 *
 *	config     config.json
 *	process    the process object of an exec; if it is absent, the blob is of "create"
 *	resources  linux.resources: the blob is of "update"
 *	facts      id, bundle, keyring, no_new_keyring, attached, mount_flags, state, tell_steps,
 *	           cgroup, ignore_paused
 *	filter     the compiled system call filter, a number for each instruction
 *
 * The blob goes to standard output, and error messages go to standard error.
 */
#include <stdio.h>
#include <unistd.h>

#include "agent/orders.h"
#include "base/fd.h"
#include "plan/vm.h"
#include "spec/parse.h"

#define INPUT_MAX (16u << 20)

static int text_of(const struct json *node, struct strbuf *ret)
{
	_cleanup_json_out_ struct json_out o = {0};
	const char *text;
	size_t len;

	if (!node)
		return err_set(EINVAL, "a member is missing");
	int r = json_out_init(&o, false);
	if (r < 0)
		return r;
	json_out_node(&o, NULL, node);
	r = json_out_text(&o, &text, &len);
	return r < 0 ? r : strbuf_add(ret, text, len);
}

/* Reads an array of numbers. More than n numbers are an error. */
static int numbers_of(const struct json *list, size_t n, uint64_t *ret)
{
	size_t i = 0;

	for (const struct json *e = list ? list->first : NULL; e; e = e->next)
		if (i == n || e->type != JSON_NUMBER || str_to_u64(e->text, &ret[i++]) < 0)
			return err_set(EINVAL, "expected at most %zu numbers", n);
	return 0;
}

static int put_filter(struct arena *a, const struct json *list, struct agent_orders *o)
{
	o->nfilter = list ? list->count : 0;
	o->filter = arena_array(a, o->nfilter + 1, sizeof(*o->filter));
	return o->filter ? numbers_of(list, o->nfilter, o->filter) : -ENOMEM;
}

static int put_flags(const struct json *list, struct agent_orders *o)
{
	uint64_t flags[64] = {0};
	int r = numbers_of(list, ARRAY_SIZE(flags), flags);

	for (size_t i = 0; i < o->nslots && i < ARRAY_SIZE(flags); i++)
		o->mount_flags[i] = (uint32_t)flags[i];
	return r;
}

static int make_create(
	struct arena *a, const struct json *in, const struct spec *s, struct agent_orders *ret)
{
	const struct json *facts = json_get(in, "facts");
	const struct plan_env env = {
		.isolation = PLAN_VM,
		.bundle = json_get_str(facts, "bundle"),
		.keyring = json_get_str(facts, "keyring"),
		.no_new_keyring = json_get_true(facts, "no_new_keyring"),
		.attached = json_get_true(facts, "attached"),
		.cgroup = true,
	};
	struct plan plan;

	int r = plan_build(a, s, &env, &plan);
	if (r >= 0)
		r = agent_orders_for_create(a, &plan, s, ret);
	if (r < 0)
		return r;
	ret->id = json_get_str(facts, "id");
	ret->state = json_get_str(facts, "state");
	ret->tell_steps = json_get_true(facts, "tell_steps");
	return put_flags(json_get(facts, "mount_flags"), ret);
}

static int make_exec(
	struct arena *a, const struct json *in, const struct spec *s, struct agent_orders *ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	const struct json *facts = json_get(in, "facts");
	struct plan_exec_env env = {
		.isolation = PLAN_VM,
		.spec = s,
		.cgroup_attach = true,
		.no_new_keyring = json_get_true(facts, "no_new_keyring"),
		.keyring = json_get_str(facts, "keyring"),
	};
	struct plan plan;

	int r = text_of(json_get(in, "process"), &text);
	if (r >= 0)
		r = spec_parse_process(a, strbuf_str(&text), text.len, "process", &env.process);
	if (r >= 0)
		r = plan_build_exec(a, &env, &plan);
	if (r >= 0)
		r = agent_orders_for_exec(a, &plan, s, ret);
	ret->subgroup = json_get_str(facts, "cgroup");
	ret->ignore_paused = json_get_true(facts, "ignore_paused");
	return r;
}

static int make_orders(struct arena *a, const struct json *in, struct strbuf *ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	struct agent_orders o = {0};
	const struct spec *s;

	int r = text_of(json_get(in, "config"), &text);
	if (r >= 0)
		r = spec_parse(a, strbuf_str(&text), text.len, "config.json", &s);
	if (r >= 0)
		r = json_get(in, "process") ? make_exec(a, in, s, &o) : make_create(a, in, s, &o);
	if (r >= 0)
		r = put_filter(a, json_get(in, "filter"), &o);
	return r < 0 ? r : agent_orders_pack(&o, ret);
}

static int make_limits(struct arena *a, const struct json *resources, struct strbuf *ret)
{
	struct plan_vm_limits limits;
	struct cg_resources res;

	int r = spec_parse_resources(a, resources, "resources", &res);
	if (r >= 0)
		r = plan_vm_split_limits(a, &res, &limits);
	return r < 0 ? r : agent_limits_pack(&limits.guest, ret);
}

int main(void)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf in = {0}, out = {0};
	struct json *doc;

	int r = fd_read_all(STDIN_FILENO, &in, INPUT_MAX, "standard input");
	if (r >= 0)
		r = json_parse(&a, strbuf_str(&in), in.len, "standard input", &doc);
	const struct json *resources = r < 0 ? NULL : json_get(doc, "resources");
	if (r >= 0)
		r = resources ? make_limits(&a, resources, &out) : make_orders(&a, doc, &out);
	if (r >= 0)
		r = fd_write_all(STDOUT_FILENO, out.s, out.len);
	if (r < 0)
		fprintf(stderr, "%s\n", err_msg());
	return r < 0;
}
