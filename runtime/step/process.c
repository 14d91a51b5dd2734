/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets attributes of the process that survive execve(2), such as priorities and security labels.
 *
 * No error message in this file begins with the field of config.json, because step_walk() puts the
 * field in front. No message contains the kernel's text for ENOENT, because engines take "no such
 * file or directory" to mean that the program was not found.
 */
#include <linux/keyctl.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "base/log.h"
#include "base/path.h"
#include "step/step.h"

#define MAX_CPUS 8192 /* how many CPUs a kernel can support: the largest NR_CPUS of x86 and arm64 */
#define MAX_NUMA_NODES 1024 /* how many NUMA nodes a kernel can support: the largest MAX_NUMNODES */
/*
 * Permissions of a keyring as keyctl_setperm(3) describes them. They are defined here, because no
 * header of the kernel defines them.
 */
#define KEY_USR_SEARCH 0x00080000UL
#define KEY_OTH_SEARCH 0x00000008UL
#define WORD_BITS (8 * sizeof(unsigned long))

/* Returns a resource limit as text: a number, which is written into buf, or "unlimited". */
static const char *limit_text(uint64_t v, char *buf, size_t size)
{
	if (v == RLIM_INFINITY)
		return "unlimited";
	snprintf(buf, size, "%llu", (unsigned long long)v);
	return buf;
}

static int rlimit_error(const struct spec_rlimit *l, size_t i, pid_t pid)
{
	int code = errno;
	struct rlimit now;
	char a[24], b[24];

	if (code == EPERM && prlimit(pid, (enum __rlimit_resource)l->resource, NULL, &now) == 0 &&
		l->hard > now.rlim_max)
		return err_set(code,
			"entry %zu, %s: raising the hard limit from %s to %s needs "
			"CAP_SYS_RESOURCE in the host's user namespace: ask for at most %s, or "
			"raise the limit of the process that starts caisson",
			i, l->name, limit_text(now.rlim_max, a, sizeof(a)),
			limit_text(l->hard, b, sizeof(b)), a);
	if (code == EPERM && l->resource == RLIMIT_NOFILE)
		return err_set(code,
			"entry %zu, %s: the kernel allows no more than the sysctl fs.nr_open, "
			"found %s",
			i, l->name, limit_text(l->hard, b, sizeof(b)));
	if (code == EINVAL && l->soft > l->hard)
		return err_set(code, "entry %zu, %s: soft (%s) is above hard (%s)", i, l->name,
			limit_text(l->soft, a, sizeof(a)), limit_text(l->hard, b, sizeof(b)));
	errno = code;
	return err_sys("entry %zu, %s", i, l->name);
}

int process_set_rlimits(const struct spec_process *p, pid_t pid)
{
	for (size_t i = 0; i < p->nrlimits; i++) {
		const struct spec_rlimit *l = &p->rlimits[i];
		const struct rlimit want = {.rlim_cur = l->soft, .rlim_max = l->hard};
		if (prlimit(pid, (enum __rlimit_resource)l->resource, &want, NULL) < 0)
			return rlimit_error(l, i, pid);
	}
	return 0;
}

int step_rlimits(struct step_ctx *c, const struct step *s)
{
	return process_set_rlimits(s->process, 0);
}

/*
 * Says whether the file at `path` in procfs contains `number` already. Sets no error message, even
 * if the file cannot be read.
 */
static bool file_holds_number(int proc, const char *path, int64_t number)
{
	char text[32];
	int fd = path_open_in_proc(proc, path, O_RDONLY);

	if (fd < 0)
		return false;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	return strtoll(text, NULL, 10) == number;
}

/*
 * Writes oom_score_adj of a process. Lowering the value needs CAP_SYS_RESOURCE in the initial user
 * namespace, whatever rights the caller has in its own user namespace, and a process whose user has
 * changed may not write to its own files in /proc. So if INIT, the container's first process, is in
 * a user namespace, the runtime writes the value for INIT, with pid > 0. A failure is ignored if
 * the file already holds the value, because rootless engines pass the value with which they run
 * themselves.
 */
int process_set_oom_score(const struct spec_process *p, int proc, pid_t pid)
{
	char path[48] = "self/oom_score_adj", text[24];

	if (pid > 0)
		snprintf(path, sizeof(path), "%d/oom_score_adj", pid);
	snprintf(text, sizeof(text), "%lld", (long long)p->oom_score_adj.v);
	int r = path_write_proc(proc, path, text);
	if (r != -EACCES && r != -EPERM)
		return r;
	if (file_holds_number(proc, path, p->oom_score_adj.v))
		return 0;
	return err_set(-r,
		"%s: lowering the OOM score adjustment needs CAP_SYS_RESOURCE in the host's user "
		"namespace: ask for the value that caisson was started with, or a higher one",
		text);
}

int step_oom_score(struct step_ctx *c, const struct step *s)
{
	return process_set_oom_score(s->process, c->proc, 0);
}

/*
 * The structure that sched_setattr(2) takes. <linux/sched/types.h> defines it too, but cannot be
 * included together with <sched.h>.
 */
struct sched_attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t util_min, util_max;
};

/*
 * Sets the scheduling policy. The specification has the two UTIL_CLAMP flags, but no property for
 * the values that these flags announce. So these values are 0, as is every number that config.json
 * does not set.
 */
int step_scheduler(struct step_ctx *c, const struct step *s)
{
	const struct spec_scheduler *sched = s->process->scheduler;
	struct sched_attributes attr = {
		.size = sizeof(attr),
		.policy = (uint32_t)sched->policy,
		.flags = sched->flags,
		.nice = sched->nice,
		.priority = (uint32_t)sched->priority,
		.runtime = sched->runtime,
		.deadline = sched->deadline,
		.period = sched->period,
	};

	if (syscall(SYS_sched_setattr, 0, &attr, 0) == 0)
		return 0;
	switch (errno) {
	case EPERM:
		return err_sys(
			"policy %d, nice %d, priority %d: needs CAP_SYS_NICE; SCHED_DEADLINE also "
			"needs a process that may run on all CPUs of its cpuset",
			sched->policy, sched->nice, sched->priority);
	case EINVAL:
		return err_sys(
			"policy %d, nice %d, priority %d, flags 0x%llx, runtime %llu, deadline "
			"%llu, period %llu: the kernel expects a priority of 1 to 99 for "
			"SCHED_FIFO and SCHED_RR and of 0 for the others, and for SCHED_DEADLINE "
			"1024 <= runtime <= deadline <= period",
			sched->policy, sched->nice, sched->priority,
			(unsigned long long)sched->flags, (unsigned long long)sched->runtime,
			(unsigned long long)sched->deadline, (unsigned long long)sched->period);
	case EBUSY:
		return err_sys("the CPUs cannot reserve another %llu ns of each %llu ns for "
			       "SCHED_DEADLINE",
			(unsigned long long)sched->runtime, (unsigned long long)sched->period);
	default:
		return err_sys("set the scheduling policy");
	}
}

/*
 * Sets the I/O priority. The specification wants the priority for the container's process group.
 * Here the priority is set for the process, which has the same effect, because the process is alone
 * in its group and every process that it starts inherits the priority. IOPRIO_WHO_PGRP could also
 * reach other processes of a shell's job that caisson belongs to.
 */
int step_io_priority(struct step_ctx *c, const struct step *s)
{
	const int who_process = 1; /* the value of IOPRIO_WHO_PROCESS in the kernel */
	int prio = (int)s->process->io_priority.v;

	if (syscall(SYS_ioprio_set, who_process, 0, prio) == 0)
		return 0;
	if (errno == EPERM)
		return err_sys("class %d, priority %d: the real-time class needs CAP_SYS_ADMIN or "
			       "CAP_SYS_NICE",
			prio >> 13, prio & 0x1fff);
	return err_sys("class %d, priority %d", prio >> 13, prio & 0x1fff);
}

/*
 * Allows the process to run on all CPUs; the kernel leaves out those that are not in the cgroup's
 * cpuset. If the kernel refuses, the CPU mask of caisson's caller stays. This is not an error,
 * because config.json asks for no particular CPUs.
 */
static void set_all_cpus(void)
{
	unsigned long mask[MAX_CPUS / WORD_BITS];

	memset(mask, 0xff, sizeof(mask));
	if (syscall(SYS_sched_setaffinity, 0, sizeof(mask), mask) < 0)
		log_debug("the CPU affinity stays the caller's: %s", strerror(errno));
}

int step_affinity(struct step_ctx *c, const struct step *s)
{
	unsigned long mask[MAX_CPUS / WORD_BITS];

	if (!s->text) {
		set_all_cpus();
		return 0;
	}
	int r = str_to_bitlist(s->text, mask, MAX_CPUS);
	if (r < 0)
		return r;
	if (syscall(SYS_sched_setaffinity, 0, sizeof(mask), mask) >= 0)
		return 0;
	if (errno == EINVAL)
		return err_sys(
			"\"%s\": none of these CPUs is online and in the cgroup's cpuset", s->text);
	return err_sys("\"%s\"", s->text);
}

int step_memory_policy(struct step_ctx *c, const struct step *s)
{
	const struct spec_memory_policy *m = s->mempolicy;
	unsigned long mask[MAX_NUMA_NODES / WORD_BITS];
	bool nodes = m->nodes && *m->nodes;

	if (nodes) {
		int r = str_to_bitlist(m->nodes, mask, MAX_NUMA_NODES);
		if (r < 0)
			return err_ctx(r, "nodes");
	}
	/* The kernel expects maxnode to be one more than the number of bits. */
	if (syscall(SYS_set_mempolicy, m->mode, nodes ? mask : NULL,
		    nodes ? MAX_NUMA_NODES + 1 : 0) == 0)
		return 0;
	if (errno == EINVAL)
		return err_sys(
			"mode %d, flags 0x%x, nodes \"%s\": the kernel expects at least one node "
			"that exists, is in the cgroup's cpuset and has memory, but no nodes for "
			"MPOL_DEFAULT and MPOL_LOCAL, and only flags that the mode allows",
			m->mode & ~MPOL_MODE_FLAGS, (unsigned)m->mode & MPOL_MODE_FLAGS,
			nodes ? m->nodes : "");
	return err_sys("set the memory policy (%s)",
		errno == ENOSYS ? "this kernel has no NUMA support" : "set_mempolicy(2)");
}

int step_personality(struct step_ctx *c, const struct step *s)
{
	if (personality((unsigned long)s->number) < 0)
		return err_sys("set the execution domain 0x%llx", (unsigned long long)s->number);
	return 0;
}

/*
 * Says whether SELinux is enabled. As in libselinux, the test is whether the file system type
 * selinuxfs is registered, because a disabled SELinux does not register it.
 */
static bool selinux_enabled(int proc)
{
	_cleanup_fd_ int fd = path_open_in_proc(proc, "filesystems", O_RDONLY);
	_cleanup_strbuf_ struct strbuf text = {0};

	if (fd < 0 || fd_read_all(fd, &text, 65536, "/proc/filesystems") < 0)
		return false;
	return strstr(strbuf_str(&text), "selinuxfs\n") != NULL;
}

/*
 * Adds a permission to the session keyring by which a later process of the container finds the
 * keyring, as runc does. Without a user namespace the later process has the same user as the
 * keyring. With a user namespace it counts as another user, because its ids differ from those of
 * the keyring.
 */
static int allow_keyring_search(long ring, bool userns)
{
	const unsigned long search = userns ? KEY_OTH_SEARCH : KEY_USR_SEARCH;
	char text[512], *end = text;
	unsigned long perm = 0;

	long n = syscall(SYS_keyctl, KEYCTL_DESCRIBE, ring, text, sizeof(text) - 1);
	if (n < 0)
		return err_sys("describe the session keyring");
	text[n < (long)sizeof(text) ? (size_t)n : sizeof(text) - 1] = '\0';
	/*
	 * The loop skips to the field perm of the kernel's description of a keyring, which has the
	 * format type;uid;gid;perm;description. sscanf(3) is not used, because it would make
	 * caisson-init a tenth larger.
	 */
	for (int i = 0; end && i < 3; i++)
		end = strchr(end, ';') ? strchr(end, ';') + 1 : NULL;
	if (end)
		perm = strtoul(end, &end, 16);
	if (!end || *end != ';')
		return err_set(EINVAL,
			"the kernel describes the session keyring as \"%s\": expected "
			"type;uid;gid;perm",
			text);
	if (syscall(SYS_keyctl, KEYCTL_SETPERM, ring, perm | search) < 0)
		return err_sys("set the session keyring's permissions");
	return 0;
}

/*
 * Gives the container a session keyring of its own, because otherwise the container could read the
 * keys of the user who started caisson. ENOSYS is not an error, because a kernel without keyrings
 * has no keys to leak. Every other failure is an error, as in runc.
 */
int step_keyring(struct step_ctx *c, const struct step *s)
{
	const struct spec_process *p = c->plan ? c->plan->process : NULL;

	if (p && p->selinux_label && selinux_enabled(c->proc)) {
		int r = path_write_proc(c->proc, "self/attr/keycreate", p->selinux_label);
		if (r < 0)
			return err_ctx(r, "label the session keyring");
	}
	long ring = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, s->text);
	if (ring < 0 && errno == ENOSYS)
		return 0;
	if (ring < 0 && errno == EDQUOT)
		return err_sys(
			"make a session keyring: this user's quota of keys is used up: raise "
			"the sysctl kernel.keys.maxkeys, or give --no-new-keyring");
	if (ring < 0)
		return err_sys("make a session keyring (--no-new-keyring keeps the caller's)");
	/*
	 * A keyring without a name needs no search permission, because no other process can join
	 * such a keyring.
	 */
	return s->text ? allow_keyring_search(ring, c->plan && c->plan->userns) : 0;
}

static int set_apparmor_profile(int proc, const char *profile)
{
	char text[512];

	if (snprintf(text, sizeof(text), "exec %s", profile) >= (int)sizeof(text))
		return err_set(ENAMETOOLONG, "\"%.64s...\" is longer than a profile's name can be",
			profile);
	/*
	 * The file attr/apparmor/exec (since Linux 5.8) belongs to AppArmor alone, while attr/exec
	 * may belong to another security module. The directory attr/apparmor exists if AppArmor is
	 * built into the kernel. If AppArmor is built in and not active, writing fails with EINVAL.
	 */
	int r = path_write_proc(proc, "self/attr/apparmor/exec", text);
	if (r >= 0)
		return 0;
	if (r == -ENOENT) {
		_cleanup_fd_ int dir = path_open_in_proc(proc, "self/attr/apparmor", O_PATH);
		if (dir < 0)
			r = -EINVAL;
	}
	/*
	 * The profile "unconfined" means that no profile applies, which is always so without
	 * AppArmor. So for this profile the failure to set it is ignored.
	 */
	if ((r == -EINVAL || r == -EOPNOTSUPP) && streq(profile, "unconfined")) {
		err_clear();
		return 0;
	}
	if (r == -ENOENT)
		return err_set(ENOENT,
			"\"%s\": the kernel has no such profile loaded: load it with "
			"apparmor_parser, or name one that /sys/kernel/security/apparmor/profiles "
			"lists",
			profile);
	if (r == -EINVAL || r == -EOPNOTSUPP)
		return err_set(EINVAL,
			"\"%s\": AppArmor is not enabled on this host: remove the property, or "
			"boot "
			"with AppArmor",
			profile);
	return err_ctx(r, "\"%s\"", profile);
}

/*
 * Sets the AppArmor profile or SELinux label that the process gets at execve(2). A failure is an
 * error, as in runc, because config.json asks for confinement, and a process that is not confined
 * would look just the same.
 */
int step_exec_label(struct step_ctx *c, const struct step *s)
{
	const struct spec_process *p = s->process;
	int r = 0;

	if (p->apparmor_profile)
		r = set_apparmor_profile(c->proc, p->apparmor_profile);
	if (r < 0 || !p->selinux_label)
		return r;
	r = path_write_proc(c->proc, "self/attr/exec", p->selinux_label);
	if (r >= 0)
		return 0;
	if (!selinux_enabled(c->proc))
		return err_set(EINVAL,
			"\"%s\": SELinux is not enabled on this host: remove process.selinuxLabel, "
			"or boot with SELinux",
			p->selinux_label);
	if (r == -EINVAL)
		return err_set(EINVAL, "\"%s\": the loaded SELinux policy has no such context",
			p->selinux_label);
	return err_ctx(r, "selinuxLabel \"%s\"", p->selinux_label);
}
