/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>

#include "plan/plan.h"

static const struct {
	uint64_t flag;
	const char *name;
} namespaces[SPEC_NS_COUNT] = {
	[SPEC_NS_USER] = {CLONE_NEWUSER, "user"},
	[SPEC_NS_PID] = {CLONE_NEWPID, "pid"},
	[SPEC_NS_NETWORK] = {CLONE_NEWNET, "network"},
	[SPEC_NS_MOUNT] = {CLONE_NEWNS, "mount"},
	[SPEC_NS_IPC] = {CLONE_NEWIPC, "ipc"},
	[SPEC_NS_UTS] = {CLONE_NEWUTS, "uts"},
	[SPEC_NS_CGROUP] = {CLONE_NEWCGROUP, "cgroup"},
	[SPEC_NS_TIME] = {CLONE_NEWTIME, "time"},
};

uint64_t plan_ns_flag(enum spec_ns type)
{
	return namespaces[type].flag;
}

const char *plan_ns_name(enum spec_ns type)
{
	return namespaces[type].name;
}

const char *plan_step_name(enum step_kind k)
{
	static const char *const names[STEP_COUNT] = {
#define X(kind, name, text) [STEP_##kind] = (name),
		PLAN_STEP_KINDS(X)
#undef X
	};

	return names[k];
}
