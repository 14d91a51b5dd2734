/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists the names that the enumerations of config.json allow. Each list is written once, as X(name,
 * value), and expands to the table by which config.json is parsed and to the array of names that
 * `caisson features` prints. Kernel numbers that the headers of Debian 12 do not know yet are
 * defined here.
 */
#include "spec/names.h"

#include <linux/ioprio.h>
#include <linux/mempolicy.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/resource.h>

#ifndef MPOL_WEIGHTED_INTERLEAVE
/* number of the NUMA policy MPOL_WEIGHTED_INTERLEAVE in the kernel since Linux 6.9 */
#define MPOL_WEIGHTED_INTERLEAVE 6
#endif
/*
 * Architectures that libseccomp supports since 2.6. The numbers are those of AUDIT_ARCH_* in
 * linux/audit.h.
 */
#ifndef SCMP_ARCH_LOONGARCH64
#define SCMP_ARCH_LOONGARCH64 0xc0000102
#endif
#ifndef SCMP_ARCH_M68K
#define SCMP_ARCH_M68K 0x4
#endif
#ifndef SCMP_ARCH_SH
#define SCMP_ARCH_SH 0x4000002a
#endif
#ifndef SCMP_ARCH_SHEB
#define SCMP_ARCH_SHEB 0x2a
#endif
/* number that linux/sched.h reserves for the policy SCHED_ISO, which the kernel refuses */
#define SCHED_ISO_RESERVED 4

#define NAME_VALUE(name, value) {name, value},
#define NAME_ONLY(name, value) name,
#define TABLE(ident, LIST) const struct spec_name ident[] = {LIST(NAME_VALUE){NULL, 0}}

#define NAMESPACES(X) \
	X("cgroup", SPEC_NS_CGROUP) \
	X("ipc", SPEC_NS_IPC) \
	X("mount", SPEC_NS_MOUNT) \
	X("network", SPEC_NS_NETWORK) \
	X("pid", SPEC_NS_PID) \
	X("time", SPEC_NS_TIME) \
	X("user", SPEC_NS_USER) \
	X("uts", SPEC_NS_UTS)

#define RLIMITS(X) \
	X("RLIMIT_AS", RLIMIT_AS) \
	X("RLIMIT_CORE", RLIMIT_CORE) \
	X("RLIMIT_CPU", RLIMIT_CPU) \
	X("RLIMIT_DATA", RLIMIT_DATA) \
	X("RLIMIT_FSIZE", RLIMIT_FSIZE) \
	X("RLIMIT_LOCKS", RLIMIT_LOCKS) \
	X("RLIMIT_MEMLOCK", RLIMIT_MEMLOCK) \
	X("RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE) \
	X("RLIMIT_NICE", RLIMIT_NICE) \
	X("RLIMIT_NOFILE", RLIMIT_NOFILE) \
	X("RLIMIT_NPROC", RLIMIT_NPROC) \
	X("RLIMIT_RSS", RLIMIT_RSS) \
	X("RLIMIT_RTPRIO", RLIMIT_RTPRIO) \
	X("RLIMIT_RTTIME", RLIMIT_RTTIME) \
	X("RLIMIT_SIGPENDING", RLIMIT_SIGPENDING) \
	X("RLIMIT_STACK", RLIMIT_STACK)

#define SCHEDULER_POLICIES(X) \
	X("SCHED_OTHER", SCHED_OTHER) \
	X("SCHED_FIFO", SCHED_FIFO) \
	X("SCHED_RR", SCHED_RR) \
	X("SCHED_BATCH", SCHED_BATCH) \
	X("SCHED_ISO", SCHED_ISO_RESERVED) \
	X("SCHED_IDLE", SCHED_IDLE) \
	X("SCHED_DEADLINE", SCHED_DEADLINE)

#define SCHEDULER_FLAGS(X) \
	X("SCHED_FLAG_RESET_ON_FORK", SCHED_FLAG_RESET_ON_FORK) \
	X("SCHED_FLAG_RECLAIM", SCHED_FLAG_RECLAIM) \
	X("SCHED_FLAG_DL_OVERRUN", SCHED_FLAG_DL_OVERRUN) \
	X("SCHED_FLAG_KEEP_POLICY", SCHED_FLAG_KEEP_POLICY) \
	X("SCHED_FLAG_KEEP_PARAMS", SCHED_FLAG_KEEP_PARAMS) \
	X("SCHED_FLAG_UTIL_CLAMP_MIN", SCHED_FLAG_UTIL_CLAMP_MIN) \
	X("SCHED_FLAG_UTIL_CLAMP_MAX", SCHED_FLAG_UTIL_CLAMP_MAX)

#define IO_CLASSES(X) \
	X("IOPRIO_CLASS_RT", IOPRIO_CLASS_RT) \
	X("IOPRIO_CLASS_BE", IOPRIO_CLASS_BE) \
	X("IOPRIO_CLASS_IDLE", IOPRIO_CLASS_IDLE)

#define PROPAGATIONS(X) \
	X("private", MS_PRIVATE) \
	X("shared", MS_SHARED) \
	X("slave", MS_SLAVE) \
	X("unbindable", MS_UNBINDABLE) \
	X("rprivate", MS_REC | MS_PRIVATE) \
	X("rshared", MS_REC | MS_SHARED) \
	X("rslave", MS_REC | MS_SLAVE) \
	X("runbindable", MS_REC | MS_UNBINDABLE)

#define PERSONALITIES(X) \
	X("LINUX", PER_LINUX) \
	X("LINUX32", PER_LINUX32)

#define MEMPOLICY_MODES(X) \
	X("MPOL_DEFAULT", MPOL_DEFAULT) \
	X("MPOL_BIND", MPOL_BIND) \
	X("MPOL_INTERLEAVE", MPOL_INTERLEAVE) \
	X("MPOL_WEIGHTED_INTERLEAVE", MPOL_WEIGHTED_INTERLEAVE) \
	X("MPOL_PREFERRED", MPOL_PREFERRED) \
	X("MPOL_PREFERRED_MANY", MPOL_PREFERRED_MANY) \
	X("MPOL_LOCAL", MPOL_LOCAL)

#define MEMPOLICY_FLAGS(X) \
	X("MPOL_F_NUMA_BALANCING", MPOL_F_NUMA_BALANCING) \
	X("MPOL_F_RELATIVE_NODES", MPOL_F_RELATIVE_NODES) \
	X("MPOL_F_STATIC_NODES", MPOL_F_STATIC_NODES)

#define SECCOMP_ACTIONS(X) \
	X("SCMP_ACT_KILL", SCMP_ACT_KILL) \
	X("SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS) \
	X("SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD) \
	X("SCMP_ACT_TRAP", SCMP_ACT_TRAP) \
	X("SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0)) \
	X("SCMP_ACT_TRACE", SCMP_ACT_TRACE(0)) \
	X("SCMP_ACT_ALLOW", SCMP_ACT_ALLOW) \
	X("SCMP_ACT_LOG", SCMP_ACT_LOG) \
	X("SCMP_ACT_NOTIFY", SCMP_ACT_NOTIFY)

#define SECCOMP_OPERATORS(X) \
	X("SCMP_CMP_NE", SCMP_CMP_NE) \
	X("SCMP_CMP_LT", SCMP_CMP_LT) \
	X("SCMP_CMP_LE", SCMP_CMP_LE) \
	X("SCMP_CMP_EQ", SCMP_CMP_EQ) \
	X("SCMP_CMP_GE", SCMP_CMP_GE) \
	X("SCMP_CMP_GT", SCMP_CMP_GT) \
	X("SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ)

#define SECCOMP_ARCHS(X) \
	X("SCMP_ARCH_X86", SCMP_ARCH_X86) \
	X("SCMP_ARCH_X86_64", SCMP_ARCH_X86_64) \
	X("SCMP_ARCH_X32", SCMP_ARCH_X32) \
	X("SCMP_ARCH_ARM", SCMP_ARCH_ARM) \
	X("SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64) \
	X("SCMP_ARCH_MIPS", SCMP_ARCH_MIPS) \
	X("SCMP_ARCH_MIPS64", SCMP_ARCH_MIPS64) \
	X("SCMP_ARCH_MIPS64N32", SCMP_ARCH_MIPS64N32) \
	X("SCMP_ARCH_MIPSEL", SCMP_ARCH_MIPSEL) \
	X("SCMP_ARCH_MIPSEL64", SCMP_ARCH_MIPSEL64) \
	X("SCMP_ARCH_MIPSEL64N32", SCMP_ARCH_MIPSEL64N32) \
	X("SCMP_ARCH_PPC", SCMP_ARCH_PPC) \
	X("SCMP_ARCH_PPC64", SCMP_ARCH_PPC64) \
	X("SCMP_ARCH_PPC64LE", SCMP_ARCH_PPC64LE) \
	X("SCMP_ARCH_S390", SCMP_ARCH_S390) \
	X("SCMP_ARCH_S390X", SCMP_ARCH_S390X) \
	X("SCMP_ARCH_PARISC", SCMP_ARCH_PARISC) \
	X("SCMP_ARCH_PARISC64", SCMP_ARCH_PARISC64) \
	X("SCMP_ARCH_RISCV64", SCMP_ARCH_RISCV64) \
	X("SCMP_ARCH_LOONGARCH64", SCMP_ARCH_LOONGARCH64) \
	X("SCMP_ARCH_M68K", SCMP_ARCH_M68K) \
	X("SCMP_ARCH_SH", SCMP_ARCH_SH) \
	X("SCMP_ARCH_SHEB", SCMP_ARCH_SHEB)

#define SECCOMP_FLAGS(X) \
	X("SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC) \
	X("SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG) \
	X("SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW) \
	X("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)

TABLE(spec_namespace_names, NAMESPACES);
TABLE(spec_rlimit_names, RLIMITS);
TABLE(spec_scheduler_policy_names, SCHEDULER_POLICIES);
TABLE(spec_scheduler_flag_names, SCHEDULER_FLAGS);
TABLE(spec_io_class_names, IO_CLASSES);
TABLE(spec_propagation_names, PROPAGATIONS);
TABLE(spec_personality_names, PERSONALITIES);
TABLE(spec_mempolicy_mode_names, MEMPOLICY_MODES);
TABLE(spec_mempolicy_flag_names, MEMPOLICY_FLAGS);
TABLE(spec_seccomp_action_names, SECCOMP_ACTIONS);
TABLE(spec_seccomp_operator_names, SECCOMP_OPERATORS);
TABLE(spec_seccomp_arch_names, SECCOMP_ARCHS);
TABLE(spec_seccomp_flag_names, SECCOMP_FLAGS);

const char *const *spec_known_namespaces(void)
{
	static const char *const names[] = {NAMESPACES(NAME_ONLY) NULL};

	return names;
}

const char *const *spec_known_mempolicy_modes(void)
{
	static const char *const names[] = {MEMPOLICY_MODES(NAME_ONLY) NULL};

	return names;
}

const char *const *spec_known_mempolicy_flags(void)
{
	static const char *const names[] = {MEMPOLICY_FLAGS(NAME_ONLY) NULL};

	return names;
}

const char *const *spec_known_seccomp_actions(void)
{
	static const char *const names[] = {SECCOMP_ACTIONS(NAME_ONLY) NULL};

	return names;
}

const char *const *spec_known_seccomp_operators(void)
{
	static const char *const names[] = {SECCOMP_OPERATORS(NAME_ONLY) NULL};

	return names;
}

const char *const *spec_known_seccomp_archs(void)
{
	static const char *const names[] = {SECCOMP_ARCHS(NAME_ONLY) NULL};

	return names;
}

const char *const *spec_known_seccomp_flags(void)
{
	static const char *const names[] = {SECCOMP_FLAGS(NAME_ONLY) NULL};

	return names;
}

const char *spec_name_of(const struct spec_name *names, uint64_t value)
{
	for (const struct spec_name *n = names; n->name; n++)
		if (n->value == value)
			return n->name;
	return NULL;
}

int spec_parse_capability(const char *name, unsigned *ret_number)
{
	for (const struct spec_name *n = spec_capability_names; n->name; n++) {
		if (!streq(n->name, name))
			continue;
		*ret_number = (unsigned)__builtin_ctzll(n->value);
		return 0;
	}
	return err_set(EINVAL,
		"\"%s\" is not a capability: expected a name of capabilities(7), such as CAP_CHOWN",
		name);
}
