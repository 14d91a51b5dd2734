/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Translates linux.resources.devices into an eBPF program (BPF_PROG_TYPE_CGROUP_DEVICE).
 *
 * Semantics: for each of read, write and mknod, the last rule that names the device and that access
 * decides. A device that no rule names is denied, as by runc, because a list of rules is an allow
 * list. One open(2) may ask for two accesses at once, and needs both.
 *
 * The program goes through the rules from the last to the first and keeps the accesses that are
 * still undecided in a register. An allow rule removes its accesses from the register and allows
 * the device if none is left; a deny rule that names one of them denies the device. runc's
 * emulation of cgroup v1 gives the same result for every list that it accepts. runc refuses or
 * ignores some lists (a deny rule that makes a hole in a wildcard, wildcards behind single devices,
 * an 'a' rule with numbers); caisson carries these out as they are written.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "cgroups/cg_internal.h"

#define INSNS_HEAD 6
#define INSNS_PER_RULE 7
#define INSNS_TAIL 2
/*
 * A list with more rules than this number is not searched for overridden rules, because the search
 * takes quadratic time.
 */
#define LIST_CHECKED 1024
#define ACCESS_ALL (BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE | BPF_DEVCG_ACC_MKNOD)

/*
 * The devices that every container may use. The rules for these devices come after the
 * configuration's own, as with runc, so that they hold whatever the configuration denies.
 */
/* clang-format off */
static const struct cg_device_rule default_devices[] = {
	{true, 'a', -1, -1, "m"},
	/* /dev/null; rules that differ only in the minor number share one test of the program */
	{true, 'c', 1, 3, "rwm"},
	{true, 'c', 1, 5, "rwm"},    /* /dev/zero */
	{true, 'c', 1, 7, "rwm"},    /* /dev/full */
	{true, 'c', 1, 8, "rwm"},    /* /dev/random */
	{true, 'c', 1, 9, "rwm"},    /* /dev/urandom */
	{true, 'c', 5, 0, "rwm"},    /* /dev/tty */
	{true, 'c', 5, 2, "rwm"},    /* /dev/ptmx */
	/* /dev/pts/N, and /dev/console, which is a device of devpts too */
	{true, 'c', 136, -1, "rwm"},
	{true, 'c', 10, 200, "rwm"}, /* /dev/net/tun: runc allows it, and VPN images count on it */
};
/* clang-format on */

enum {
	R_RESULT = BPF_REG_0,
	R_TYPE = BPF_REG_2,
	R_PENDING = BPF_REG_3,
	R_MAJOR = BPF_REG_4,
	R_MINOR = BPF_REG_5
};

struct program {
	struct bpf_insn *insns;
	size_t n;
};

static void emit_insn(struct program *p, uint8_t code, uint8_t dst, int16_t off, int32_t imm)
{
	p->insns[p->n++] = (struct bpf_insn){.code = code, .dst_reg = dst, .off = off, .imm = imm};
}

static void emit_load(struct program *p, uint8_t dst, int16_t off)
{
	p->insns[p->n++] = (struct bpf_insn){.code = BPF_LDX | BPF_MEM | BPF_W,
		.dst_reg = dst,
		.src_reg = BPF_REG_1,
		.off = off};
}

static void emit_return(struct program *p, bool allow)
{
	emit_insn(p, BPF_ALU | BPF_MOV | BPF_K, R_RESULT, 0, allow);
	emit_insn(p, BPF_JMP | BPF_EXIT, 0, 0, 0);
}

static int access_bits(const struct cg_device_rule *rule, size_t i)
{
	int bits = 0;

	for (const char *c = rule->access; *c; c++) {
		switch (*c) {
		case 'r':
			bits |= BPF_DEVCG_ACC_READ;
			break;
		case 'w':
			bits |= BPF_DEVCG_ACC_WRITE;
			break;
		case 'm':
			bits |= BPF_DEVCG_ACC_MKNOD;
			break;
		default:
			return err_set(EINVAL,
				"linux.resources.devices[%zu].access: expected letters of \"rwm\", "
				"found \"%s\"",
				i, rule->access);
		}
	}
	return bits ? bits : ACCESS_ALL;
}

static int check_rule(const struct cg_device_rule *rule, size_t i)
{
	if (rule->type != 'a' && rule->type != 'c' && rule->type != 'b')
		return err_set(EINVAL,
			"linux.resources.devices[%zu].type: expected \"a\", \"b\" or \"c\", found "
			"\"%c\"",
			i, rule->type);
	if (rule->major > UINT32_MAX || rule->minor > UINT32_MAX)
		return err_set(EINVAL,
			"linux.resources.devices[%zu]: device %" PRId64 ":%" PRId64
			": expected numbers up to %u",
			i, rule->major, rule->minor, UINT32_MAX);
	return access_bits(rule, i);
}

static bool matches_all(const struct cg_device_rule *rule)
{
	return rule->type == 'a' && rule->major < 0 && rule->minor < 0;
}

/*
 * Returns whether the rules deny nothing: from the last rule backwards, rules that allow every
 * access to every device come before any deny rule.
 */
static bool denies_nothing(const struct cg_device_rule *rules, size_t n)
{
	int c = 0, b = 0;

	for (size_t i = n; i-- > 0 && rules[i].allow;) {
		if (rules[i].major >= 0 || rules[i].minor >= 0)
			continue;
		int bits = access_bits(&rules[i], i);
		c |= rules[i].type == 'b' ? 0 : bits;
		b |= rules[i].type == 'c' ? 0 : bits;
		if (c == ACCESS_ALL && b == ACCESS_ALL)
			return true;
	}
	return n == 0;
}

/*
 * Neighbouring rules that differ only in the minor number share one test, in which the minor
 * numbers are a set of bits.
 */
#define MINORS_MAX 32

static bool is_groupable(const struct cg_device_rule *rule)
{
	return rule->major >= 0 && rule->minor >= 0 && rule->minor < MINORS_MAX;
}

/*
 * Returns how many of the n rules, from the last one backwards, can share one test. *ret_minors
 * gets the set of the minor numbers of these rules.
 */
static size_t count_groupable(const struct cg_device_rule *rules, size_t n, uint32_t *ret_minors)
{
	const struct cg_device_rule *last = &rules[n - 1];
	size_t count = 0;

	*ret_minors = 0;
	while (count < n && is_groupable(last)) {
		const struct cg_device_rule *r = &rules[n - 1 - count];
		if (!is_groupable(r) || r->allow != last->allow || r->type != last->type ||
			r->major != last->major || access_bits(r, 0) != access_bits(last, 0))
			break;
		*ret_minors |= 1u << r->minor;
		count++;
	}
	return count ? count : 1;
}

/*
 * Returns whether later rules decide every access that this rule names, so that the rule has no
 * effect. Such rules are common, because engines repeat the default devices in their lists.
 */
static bool is_overridden(const struct cg_device_rule *rules, size_t i, size_t n)
{
	const struct cg_device_rule *r = &rules[i];

	for (size_t j = i + 1; j < n; j++) {
		const struct cg_device_rule *later = &rules[j];
		if ((later->type == 'a' || later->type == r->type) &&
			(later->major < 0 || later->major == r->major) &&
			(later->minor < 0 || later->minor == r->minor) &&
			!(access_bits(r, i) & ~access_bits(later, j)))
			return true;
	}
	return false;
}

static void emit_rule(struct program *p, const struct cg_device_rule *rule, uint32_t minors)
{
	size_t jumps[4], njumps = 0;
	int bits = access_bits(rule, 0);

	/*
	 * Compares 32 bits, because device numbers use all 32 bits, and in a comparison of 64 bits
	 * BPF would extend the sign of an immediate value.
	 */
	if (rule->type != 'a') {
		jumps[njumps++] = p->n;
		emit_insn(p, BPF_JMP32 | BPF_JNE | BPF_K, R_TYPE, 0,
			rule->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
	}
	if (rule->major >= 0) {
		jumps[njumps++] = p->n;
		emit_insn(
			p, BPF_JMP32 | BPF_JNE | BPF_K, R_MAJOR, 0, (int32_t)(uint32_t)rule->major);
	}
	if (minors & (minors - 1)) {
		jumps[njumps++] = p->n;
		emit_insn(p, BPF_JMP32 | BPF_JGE | BPF_K, R_MINOR, 0, MINORS_MAX);
		emit_insn(p, BPF_ALU | BPF_MOV | BPF_K, R_RESULT, 0, 1);
		p->insns[p->n++] = (struct bpf_insn){
			.code = BPF_ALU | BPF_LSH | BPF_X, .dst_reg = R_RESULT, .src_reg = R_MINOR};
		emit_insn(p, BPF_ALU | BPF_AND | BPF_K, R_RESULT, 0, (int32_t)minors);
		jumps[njumps++] = p->n;
		emit_insn(p, BPF_JMP32 | BPF_JEQ | BPF_K, R_RESULT, 0, 0);
	} else if (rule->minor >= 0) {
		jumps[njumps++] = p->n;
		emit_insn(
			p, BPF_JMP32 | BPF_JNE | BPF_K, R_MINOR, 0, (int32_t)(uint32_t)rule->minor);
	}
	if (bits == ACCESS_ALL) {
		emit_return(p, rule->allow);
	} else if (rule->allow) {
		emit_insn(p, BPF_ALU | BPF_AND | BPF_K, R_PENDING, 0, ACCESS_ALL & ~bits);
		emit_insn(p, BPF_JMP32 | BPF_JNE | BPF_K, R_PENDING, 2, 0);
		emit_return(p, true);
	} else {
		/*
		 * The first instruction tests whether an access that the deny rule names is still
		 * undecided. If so, it jumps over the second instruction to the refusal. Otherwise
		 * the second instruction leaves the rule.
		 */
		emit_insn(p, BPF_JMP32 | BPF_JSET | BPF_K, R_PENDING, 1, bits);
		emit_insn(p, BPF_JMP | BPF_JA, 0, 2, 0);
		emit_return(p, false);
	}
	for (size_t i = 0; i < njumps; i++)
		p->insns[jumps[i]].off = (int16_t)(p->n - jumps[i] - 1);
}

static void emit_head(struct program *p)
{
	/*
	 * In struct bpf_cgroup_dev_ctx the member access_type is access << 16 | type; the members
	 * major and minor follow it.
	 */
	emit_load(p, R_TYPE, offsetof(struct bpf_cgroup_dev_ctx, access_type));
	p->insns[p->n++] = (struct bpf_insn){
		.code = BPF_ALU | BPF_MOV | BPF_X, .dst_reg = R_PENDING, .src_reg = R_TYPE};
	emit_insn(p, BPF_ALU | BPF_RSH | BPF_K, R_PENDING, 0, 16);
	emit_insn(p, BPF_ALU | BPF_AND | BPF_K, R_TYPE, 0, 0xffff);
	emit_load(p, R_MAJOR, offsetof(struct bpf_cgroup_dev_ctx, major));
	emit_load(p, R_MINOR, offsetof(struct bpf_cgroup_dev_ctx, minor));
}

/*
 * Makes the device program. Each container start waits for the kernel's verifier, which follows
 * every branch and needs some microseconds for each. So a rule without effect gets no code, and
 * neighbouring rules share one test.
 */
int cg_device_program(
	const struct cg_device_rule *rules, size_t n, struct bpf_insn **ret, size_t *ret_n)
{
	struct program p = {0};
	size_t nlive = 0;
	uint32_t minors;

	*ret = NULL;
	*ret_n = 0;
	for (size_t i = 0; i < n; i++) {
		int r = check_rule(&rules[i], i);
		if (r < 0)
			return r;
	}
	if (denies_nothing(rules, n))
		return 0;
	_cleanup_free_ struct cg_device_rule *live = calloc(n, sizeof(*live));
	p.insns = calloc(INSNS_HEAD + n * INSNS_PER_RULE + INSNS_TAIL, sizeof(*p.insns));
	if (!live || !p.insns) {
		free(p.insns);
		return err_set(ENOMEM, "out of memory");
	}
	for (size_t i = 0; i < n; i++)
		if (n > LIST_CHECKED || !is_overridden(rules, i, n))
			live[nlive++] = rules[i];
	emit_head(&p);
	bool decided = false;
	while (nlive > 0 && !decided) {
		const struct cg_device_rule *rule = &live[nlive - 1];
		nlive -= count_groupable(live, nlive, &minors);
		emit_rule(&p, rule, minors);
		/*
		 * A rule that decides every access ends the program, because the verifier refuses
		 * instructions that cannot be reached.
		 */
		decided = matches_all(rule) && access_bits(rule, 0) == ACCESS_ALL;
	}
	if (!decided)
		emit_return(&p, false);
	*ret = p.insns;
	*ret_n = p.n;
	return 0;
}

static bool list_only_allows(const struct cg_resources *res)
{
	for (size_t i = 0; i < res->ndevices; i++)
		if (!res->devices[i].allow || access_bits(&res->devices[i], i) != ACCESS_ALL)
			return false;
	return true;
}

int cg_apply_devices(struct cg_target *t, const struct cg_resources *res)
{
	size_t n = res->ndevices + ARRAY_SIZE(default_devices), ninsns;
	_cleanup_free_ struct cg_device_rule *rules = NULL;
	_cleanup_free_ struct bpf_insn *insns = NULL;

	if (!res->ndevices)
		return 0;
	rules = calloc(n, sizeof(*rules));
	if (!rules)
		return err_set(ENOMEM, "out of memory");
	memcpy(rules, res->devices, res->ndevices * sizeof(*rules));
	memcpy(rules + res->ndevices, default_devices, sizeof(default_devices));
	int r = cg_device_program(rules, n, &insns, &ninsns);
	if (r < 0)
		return r;
	r = cg_bpf_install(t->dir, insns, ninsns, t->cg->path);
	/*
	 * Only root of the host may call bpf(2). If the caller is in a user namespace, caisson goes
	 * on without the device program, as runc does, because such a container cannot make device
	 * nodes, and opens the host's devices with the user's own rights.
	 */
	if ((r == -EPERM || r == -EACCES) && (list_only_allows(res) || cg_in_user_namespace())) {
		err_clear();
		return 0;
	}
	return r < 0 ? err_ctx(r, "linux.resources.devices") : 0;
}

int cg_allow_devices(const struct cgroup *cg, int dir, const struct cg_resources *res)
{
	struct cg_target t = {.cg = cg, .dir = dir};

	return cg_apply_devices(&t, res);
}
