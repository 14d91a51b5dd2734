/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parses the process object (config.md "Process"): which program runs, as which user, and with
 * which limits. The file of exec --process holds a process object, too.
 */
#include <linux/ioprio.h>
#include <linux/sched.h>
#include <sched.h>

#include "spec/names.h"

/* how many groups a process can have: the kernel's NGROUPS_MAX, from linux/limits.h */
#define MAX_GROUPS 65536

static const struct field console_size_fields[] = {
	FIELD(INT, "height", spec_process, console_height, RANGE(0, UINT16_MAX)),
	FIELD(INT, "width", spec_process, console_width, RANGE(0, UINT16_MAX)), {0}};

static const struct object_type console_size_type = {.fields = console_size_fields};

static int check_user(struct parser *p, const struct json *node, void *obj)
{
	const struct spec_user *u = obj;

	if (u->nadditional_gids > MAX_GROUPS)
		return parse_error_at(p, "additionalGids",
			"expected at most %d groups, the kernel's limit, found %zu", MAX_GROUPS,
			u->nadditional_gids);
	return 0;
}

static const struct field user_fields[] = {FIELD(INT, "uid", spec_user, uid, RANGE(0, SPEC_ID_MAX)),
	FIELD(INT, "gid", spec_user, gid, RANGE(0, SPEC_ID_MAX)),
	FIELD(OPT_INT, "umask", spec_user, umask, RANGE(0, 0777)),
	FIELD(INTS, "additionalGids", spec_user, additional_gids, RANGE(0, SPEC_ID_MAX)), {0}};

static const struct object_type user_type = {
	.size = sizeof(struct spec_user), .fields = user_fields, .check = check_user};

#define CAPABILITY_SET(name) \
	FIELD(FLAGS, #name, spec_capabilities, name, .names = spec_capability_names, \
		.flags = FIELD_WARN)

static const struct field capabilities_fields[] = {CAPABILITY_SET(bounding),
	CAPABILITY_SET(effective), CAPABILITY_SET(inheritable), CAPABILITY_SET(permitted),
	CAPABILITY_SET(ambient), {0}};

static const struct object_type capabilities_type = {
	.size = sizeof(struct spec_capabilities), .fields = capabilities_fields};

static int check_rlimit(struct parser *p, const struct json *node, void *obj)
{
	struct spec_rlimit *l = obj;

	l->name = spec_name_of(spec_rlimit_names, (uint64_t)l->resource);
	if (l->soft > l->hard)
		return parse_error_at(p, "soft",
			"expected at most the hard limit, %llu, found %llu",
			(unsigned long long)l->hard, (unsigned long long)l->soft);
	return 0;
}

static const struct field rlimit_fields[] = {
	FIELD(ENUM, "type", spec_rlimit, resource, REQUIRED, .names = spec_rlimit_names),
	FIELD(INT, "soft", spec_rlimit, soft, RANGE(0, UINT64_MAX)),
	FIELD(INT, "hard", spec_rlimit, hard, RANGE(0, UINT64_MAX)), {0}};

static const struct object_type rlimit_type = {
	.size = sizeof(struct spec_rlimit), .fields = rlimit_fields, .check = check_rlimit};

static int check_realtime(struct parser *p, const struct spec_scheduler *s)
{
	bool realtime = s->policy == SCHED_FIFO || s->policy == SCHED_RR;

	if (realtime && (s->priority < 1 || s->priority > 99))
		return parse_error_at(p, "priority",
			"expected a number from 1 to 99 with SCHED_FIFO and SCHED_RR, found %d",
			s->priority);
	if (!realtime && s->priority)
		return parse_error_at(p, "priority",
			"expected nothing or 0: only SCHED_FIFO and SCHED_RR have it, found %d",
			s->priority);
	return 0;
}

static int check_scheduler(struct parser *p, const struct json *node, void *obj)
{
	const struct spec_scheduler *s = obj;
	const char *deadline_only = s->runtime    ? "runtime"
				    : s->deadline ? "deadline"
				    : s->period   ? "period"
						  : NULL;

	if (s->policy != SCHED_DEADLINE && deadline_only)
		return parse_error_at(
			p, deadline_only, "expected nothing or 0: only SCHED_DEADLINE has it");
	/*
	 * sched(7) requires runtime <= deadline <= period for SCHED_DEADLINE; a period of 0 means
	 * that the period is as long as the deadline.
	 */
	if (s->policy == SCHED_DEADLINE &&
		(!s->runtime || s->runtime > s->deadline || (s->period && s->deadline > s->period)))
		return parse_error(p,
			"expected 0 < runtime <= deadline <= period with SCHED_DEADLINE, "
			"found runtime %llu, deadline %llu, period %llu",
			(unsigned long long)s->runtime, (unsigned long long)s->deadline,
			(unsigned long long)s->period);
	return check_realtime(p, s);
}

static const struct field scheduler_fields[] = {
	FIELD(ENUM, "policy", spec_scheduler, policy, REQUIRED,
		.names = spec_scheduler_policy_names),
	FIELD(INT, "nice", spec_scheduler, nice, RANGE(-20, 19)),
	FIELD(INT, "priority", spec_scheduler, priority, RANGE(0, 99)),
	FIELD(FLAGS, "flags", spec_scheduler, flags, .names = spec_scheduler_flag_names),
	FIELD(INT, "runtime", spec_scheduler, runtime, RANGE(0, UINT64_MAX)),
	FIELD(INT, "deadline", spec_scheduler, deadline, RANGE(0, UINT64_MAX)),
	FIELD(INT, "period", spec_scheduler, period, RANGE(0, UINT64_MAX)), {0}};

static const struct object_type scheduler_type = {.size = sizeof(struct spec_scheduler),
	.fields = scheduler_fields,
	.check = check_scheduler};

struct io_priority {
	int io_class, priority;
};

static const struct field io_priority_fields[] = {
	FIELD(ENUM, "class", io_priority, io_class, REQUIRED, .names = spec_io_class_names),
	FIELD(INT, "priority", io_priority, priority, RANGE(0, 7)), {0}};

static const struct object_type io_priority_type = {
	.size = sizeof(struct io_priority), .fields = io_priority_fields};

static int parse_io_priority(struct parser *p, const struct json *node, void *obj)
{
	struct spec_process *process = obj;
	struct io_priority io = {0};
	int r = parse_object(p, node, &io_priority_type, &io);

	process->io_priority =
		(struct opt_i64){.set = true, .v = io.io_class << IOPRIO_CLASS_SHIFT | io.priority};
	return r;
}

static const struct field affinity_fields[] = {
	FIELD(LIST, "initial", spec_process, exec_affinity_initial),
	FIELD(LIST, "final", spec_process, exec_affinity_final), {0}};

static const struct object_type affinity_type = {.fields = affinity_fields};

static int check_process(struct parser *p, const struct json *node, void *obj)
{
	struct spec_process *process = obj;

	process->has_user = parse_has(node, "user");
	/*
	 * consoleSize is dropped, because config.md says: "Runtimes MUST ignore consoleSize if
	 * terminal is false or unset."
	 */
	if (!process->terminal)
		process->console_height = process->console_width = 0;
	for (size_t i = 0; i < process->env.n; i++)
		if (!strchr(process->env.v[i], '=') || process->env.v[i][0] == '=')
			return parse_error_at(p, "env",
				"expected NAME=VALUE in entry %zu, found \"%s\"", i,
				process->env.v[i]);
	for (size_t i = 0; i < process->nrlimits; i++)
		for (size_t j = 0; j < i; j++)
			if (process->rlimits[i].resource == process->rlimits[j].resource)
				return parse_error_at(p, "rlimits",
					"expected each type once, found %s in entries %zu and %zu",
					process->rlimits[i].name, j, i);
	return 0;
}

/*
 * The table has no row for commandLine and user.username, because these properties are for Windows.
 */
static const struct field process_fields[] = {FIELD(BOOL, "terminal", spec_process, terminal),
	FIELD_GROUP("consoleSize", &console_size_type),
	FIELD(OBJECT, "user", spec_process, user, .type = &user_type),
	FIELD(STRINGS, "args", spec_process, args, .flags = FIELD_REQUIRED | FIELD_NONEMPTY),
	FIELD(STRINGS, "env", spec_process, env),
	FIELD(STRING, "cwd", spec_process, cwd, .flags = FIELD_REQUIRED | FIELD_ABSOLUTE),
	FIELD(OBJECT_PTR, "capabilities", spec_process, capabilities, .type = &capabilities_type),
	FIELD(ARRAY, "rlimits", spec_process, rlimits, .type = &rlimit_type),
	FIELD(BOOL, "noNewPrivileges", spec_process, no_new_privileges),
	FIELD(STRING, "apparmorProfile", spec_process, apparmor_profile),
	FIELD(STRING, "selinuxLabel", spec_process, selinux_label),
	FIELD(OPT_INT, "oomScoreAdj", spec_process, oom_score_adj, RANGE(-1000, 1000)),
	FIELD(OBJECT_PTR, "scheduler", spec_process, scheduler, .type = &scheduler_type),
	FIELD(CUSTOM, "ioPriority", spec_process, io_priority, .type = &io_priority_type,
		.custom = parse_io_priority),
	FIELD_GROUP("execCPUAffinity", &affinity_type), {0}};

const struct object_type spec_process_type = {
	.size = sizeof(struct spec_process), .fields = process_fields, .check = check_process};

void spec_process_inherit(struct spec_process *p, const struct spec_process *from)
{
	if (!p->has_user)
		p->user = from->user;
	if (!p->capabilities)
		p->capabilities = from->capabilities;
	if (!p->nrlimits) {
		p->rlimits = from->rlimits;
		p->nrlimits = from->nrlimits;
	}
	if (!p->apparmor_profile)
		p->apparmor_profile = from->apparmor_profile;
	if (!p->selinux_label)
		p->selinux_label = from->selinux_label;
	if (!p->oom_score_adj.set)
		p->oom_score_adj = from->oom_score_adj;
	if (!p->scheduler)
		p->scheduler = from->scheduler;
	if (!p->io_priority.set)
		p->io_priority = from->io_priority;
	if (!p->exec_affinity_initial && !p->exec_affinity_final) {
		p->exec_affinity_initial = from->exec_affinity_initial;
		p->exec_affinity_final = from->exec_affinity_final;
	}
}
