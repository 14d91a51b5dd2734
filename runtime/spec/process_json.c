/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a process as JSON that spec_parse_process() reads. The monitor sends it to a microVM's
 * guest for an exec.
 */
#include <linux/ioprio.h>

#include "spec/names.h"

static void put_strings(struct json_out *o, const char *key, const struct spec_strings *s)
{
	json_out_array(o, key);
	for (size_t i = 0; i < s->n; i++)
		json_out_str(o, NULL, s->v[i]);
	json_out_end_array(o);
}

static void put_flags(
	struct json_out *o, const char *key, const struct spec_name *names, uint64_t value)
{
	json_out_array(o, key);
	for (; names->name; names++)
		if (value & names->value)
			json_out_str(o, NULL, names->name);
	json_out_end_array(o);
}

static void put_user(struct json_out *o, const struct spec_user *u)
{
	json_out_object(o, "user");
	json_out_u64(o, "uid", u->uid);
	json_out_u64(o, "gid", u->gid);
	if (u->umask.set)
		json_out_i64(o, "umask", u->umask.v);
	json_out_array(o, "additionalGids");
	for (size_t i = 0; i < u->nadditional_gids; i++)
		json_out_u64(o, NULL, u->additional_gids[i]);
	json_out_end_array(o);
	json_out_end_object(o);
}

static void put_capabilities(struct json_out *o, const struct spec_capabilities *c)
{
	json_out_object(o, "capabilities");
	put_flags(o, "bounding", spec_capability_names, c->bounding);
	put_flags(o, "effective", spec_capability_names, c->effective);
	put_flags(o, "inheritable", spec_capability_names, c->inheritable);
	put_flags(o, "permitted", spec_capability_names, c->permitted);
	put_flags(o, "ambient", spec_capability_names, c->ambient);
	json_out_end_object(o);
}

static void put_rlimits(struct json_out *o, const struct spec_process *p)
{
	json_out_array(o, "rlimits");
	for (size_t i = 0; i < p->nrlimits; i++) {
		json_out_object(o, NULL);
		json_out_str(o, "type", p->rlimits[i].name);
		json_out_u64(o, "soft", p->rlimits[i].soft);
		json_out_u64(o, "hard", p->rlimits[i].hard);
		json_out_end_object(o);
	}
	json_out_end_array(o);
}

static void put_scheduler(struct json_out *o, const struct spec_scheduler *s)
{
	json_out_object(o, "scheduler");
	json_out_str(
		o, "policy", spec_name_of(spec_scheduler_policy_names, (uint64_t)s->policy) ?: "");
	json_out_i64(o, "nice", s->nice);
	json_out_i64(o, "priority", s->priority);
	put_flags(o, "flags", spec_scheduler_flag_names, s->flags);
	json_out_u64(o, "runtime", s->runtime);
	json_out_u64(o, "deadline", s->deadline);
	json_out_u64(o, "period", s->period);
	json_out_end_object(o);
}

static void put_priorities(struct json_out *o, const struct spec_process *p)
{
	if (p->oom_score_adj.set)
		json_out_i64(o, "oomScoreAdj", p->oom_score_adj.v);
	if (p->scheduler)
		put_scheduler(o, p->scheduler);
	if (p->io_priority.set) {
		int64_t v = p->io_priority.v;
		json_out_object(o, "ioPriority");
		json_out_str(o, "class",
			spec_name_of(spec_io_class_names, (uint64_t)(v >> IOPRIO_CLASS_SHIFT))
				?: "");
		json_out_i64(o, "priority", v & ((1 << IOPRIO_CLASS_SHIFT) - 1));
		json_out_end_object(o);
	}
	if (!p->exec_affinity_initial && !p->exec_affinity_final)
		return;
	json_out_object(o, "execCPUAffinity");
	if (p->exec_affinity_initial)
		json_out_str(o, "initial", p->exec_affinity_initial);
	if (p->exec_affinity_final)
		json_out_str(o, "final", p->exec_affinity_final);
	json_out_end_object(o);
}

void spec_process_json(const struct spec_process *p, struct json_out *o)
{
	json_out_object(o, NULL);
	json_out_bool(o, "terminal", p->terminal);
	if (p->terminal && (p->console_height || p->console_width)) {
		json_out_object(o, "consoleSize");
		json_out_u64(o, "height", p->console_height);
		json_out_u64(o, "width", p->console_width);
		json_out_end_object(o);
	}
	put_user(o, &p->user);
	put_strings(o, "args", &p->args);
	put_strings(o, "env", &p->env);
	json_out_str(o, "cwd", p->cwd);
	if (p->capabilities)
		put_capabilities(o, p->capabilities);
	put_rlimits(o, p);
	json_out_bool(o, "noNewPrivileges", p->no_new_privileges);
	put_priorities(o, p);
	json_out_end_object(o);
}
