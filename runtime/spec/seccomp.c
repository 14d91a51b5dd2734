/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parses linux.seccomp (config-linux.md "Seccomp"). Actions are stored in libseccomp's form, with
 * the errno in their low bits.
 */
#include <seccomp.h>

#include "spec/names.h"

static const struct field arg_fields[] = {FIELD(INT, "index", spec_seccomp_arg, index, RANGE(0, 5)),
	FIELD(INT, "value", spec_seccomp_arg, value, RANGE(0, UINT64_MAX)),
	FIELD(INT, "valueTwo", spec_seccomp_arg, value_two, RANGE(0, UINT64_MAX)),
	FIELD(ENUM, "op", spec_seccomp_arg, op, REQUIRED, .names = spec_seccomp_operator_names),
	{0}};

static const struct object_type arg_type = {
	.size = sizeof(struct spec_seccomp_arg), .fields = arg_fields};

/*
 * Adds to an action of the kind SCMP_ACT_ERRNO or SCMP_ACT_TRACE the errno that config.json gives,
 * or EPERM if config.json gives none.
 */
static int merge_errno(
	struct parser *p, const struct json *node, const char *name, uint32_t *action)
{
	bool is_errno = *action == SCMP_ACT_ERRNO(0);

	if (!is_errno && *action != SCMP_ACT_TRACE(0)) {
		if (!parse_has(node, name))
			return 0;
		return parse_error_at(p, name,
			"expected nothing: only SCMP_ACT_ERRNO and SCMP_ACT_TRACE have it, and "
			"the action is %s",
			spec_name_of(spec_seccomp_action_names, *action));
	}
	uint64_t code = parse_number_or(node, name, EPERM);
	/*
	 * The largest errno is 4094 for SCMP_ACT_ERRNO, because libseccomp accepts no more, and
	 * 65535 for SCMP_ACT_TRACE, which has a field of 16 bits.
	 */
	uint64_t max = is_errno ? 4094 : 65535;
	if (code > max)
		return parse_error_at(p, name, "expected a number from 0 to %llu, found %llu",
			(unsigned long long)max, (unsigned long long)code);
	*action |= (uint32_t)code;
	return 0;
}

static int check_rule(struct parser *p, const struct json *node, void *obj)
{
	struct spec_seccomp_rule *rule = obj;

	return merge_errno(p, node, "errnoRet", &rule->action);
}

#define ERRNO_FIELD(name_) \
	{ \
		.name = (name_), .kind = FIELD_INT, .flags = FIELD_CHECK_ONLY, \
		RANGE(0, UINT32_MAX) \
	}

static const struct field rule_fields[] = {
	FIELD(STRINGS, "names", spec_seccomp_rule, names, .flags = FIELD_REQUIRED | FIELD_NONEMPTY),
	FIELD(ENUM, "action", spec_seccomp_rule, action, REQUIRED,
		.names = spec_seccomp_action_names),
	ERRNO_FIELD("errnoRet"), FIELD(ARRAY, "args", spec_seccomp_rule, args, .type = &arg_type),
	{0}};

static const struct object_type rule_type = {
	.size = sizeof(struct spec_seccomp_rule), .fields = rule_fields, .check = check_rule};

static int check_seccomp(struct parser *p, const struct json *node, void *obj)
{
	struct spec_seccomp *s = obj;
	int r = merge_errno(p, node, "defaultErrnoRet", &s->default_action);

	if (r < 0)
		return r;
	s->notify = s->default_action == SCMP_ACT_NOTIFY;
	for (size_t i = 0; i < s->nrules; i++)
		s->notify |= s->rules[i].action == SCMP_ACT_NOTIFY;
	/*
	 * A listenerPath that no rule uses is no error, because config-linux.md says that it is
	 * ignored.
	 */
	if (s->notify && !s->listener_path)
		return parse_error_at(p, "listenerPath",
			"expected the path of the agent's socket, because SCMP_ACT_NOTIFY is used, "
			"found nothing");
	if (s->listener_metadata && !s->listener_path)
		return parse_error_at(p, "listenerMetadata",
			"expected nothing, because there is no listenerPath");
	return 0;
}

static const struct field seccomp_fields[] = {
	FIELD(ENUM, "defaultAction", spec_seccomp, default_action, REQUIRED,
		.names = spec_seccomp_action_names),
	ERRNO_FIELD("defaultErrnoRet"),
	FIELD(ENUMS, "architectures", spec_seccomp, architectures,
		.names = spec_seccomp_arch_names),
	FIELD(FLAGS, "flags", spec_seccomp, flags, .names = spec_seccomp_flag_names),
	FIELD(STRING, "listenerPath", spec_seccomp, listener_path),
	FIELD(STRING, "listenerMetadata", spec_seccomp, listener_metadata),
	FIELD(ARRAY, "syscalls", spec_seccomp, rules, .type = &rule_type), {0}};

const struct object_type spec_seccomp_type = {
	.size = sizeof(struct spec_seccomp), .fields = seccomp_fields, .check = check_seccomp};
