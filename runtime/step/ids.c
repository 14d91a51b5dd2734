/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. INIT, the container's first process, does the step MAPPED_ROOT early, and
 * the steps USER and CAPABILITIES near the end. If the user id changes from 0 to another one, the
 * kernel clears the effective capabilities, and without PR_SET_KEEPCAPS the permitted ones too. So
 * USER keeps the permitted set, and CAPABILITIES makes this set effective again, because removing
 * capabilities from the bounding set needs a capability. USER and CAPABILITIES make the process
 * "not dumpable": its files in /proc belong to root afterwards, so nothing may write to them after
 * USER.
 */
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "base/path.h"
#include "spec/names.h"
#include "step/caps.h"
#include "step/step.h"

#define CAP_BIT(cap) (UINT64_C(1) << (cap))

/*
 * Says whether this user namespace forbids setgroups(2), by reading /proc/PID/setgroups
 * (user_namespaces(7)).
 */
static bool setgroups_denied(int proc)
{
	char text[8] = "";
	_cleanup_fd_ int fd = path_open_in_proc(proc, "self/setgroups", O_RDONLY);

	return fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && str_starts(text, "deny");
}

/*
 * Drops the supplementary groups. If setgroups(2) is denied in this user namespace, the caller's
 * groups stay, and the container sees all of these as the overflow group. This is not reported as
 * an error, because it cannot be changed and config.json asks for no groups.
 */
static int drop_groups(int proc)
{
	if (setgroups(0, NULL) == 0)
		return 0;
	int code = errno;
	if (code == EPERM && setgroups_denied(proc))
		return 0;
	errno = code;
	return err_sys("drop the supplementary groups");
}

/*
 * Empties the ambient capability set. It holds capabilities that had to survive the execve(2) of
 * caisson-init (ns/spawn.c). The container's first process is root of the user namespace now and
 * has these capabilities anyway, and hooks must not inherit them.
 */
static int clear_inherited_caps(void)
{
	struct cap_sets sets;

	int r = cap_sets_read(&sets);
	if (r < 0)
		return r;
	sets.effective = sets.permitted;
	sets.inheritable = 0;
	r = cap_sets_write(&sets);
	if (r >= 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		r = err_sys("clear the ambient capabilities");
	return r;
}

int step_mapped_root(struct step_ctx *c, const struct step *s)
{
	int r = s->user.keep_groups ? 0 : drop_groups(c->proc);

	if (r < 0)
		return r;
	if (setresgid(0, 0, 0) < 0)
		return err_sys("become group 0 of the user namespace: linux.gidMappings has to map "
			       "containerID 0");
	if (setresuid(0, 0, 0) < 0)
		return err_sys("become user 0 of the user namespace: linux.uidMappings has to map "
			       "containerID 0");
	return clear_inherited_caps();
}

/*
 * Makes the container's user the owner of the standard streams, because only their owner can open
 * /dev/stdout and similar files. A device that caisson's caller passed on (its terminal, /dev/null)
 * keeps its owner; a terminal that caisson made is given to the user. Failures are ignored: a pipe
 * whose owner has no mapping cannot be given away, but its open descriptor still works.
 */
static void own_stdio(uid_t uid, bool own_terminal)
{
	struct stat st;

	for (int fd = 0; fd <= 2; fd++) {
		if (fstat(fd, &st) < 0 || st.st_uid == uid)
			continue;
		if ((S_ISCHR(st.st_mode) && !own_terminal) || S_ISBLK(st.st_mode))
			continue;
		(void)!fchown(fd, uid, (gid_t)-1);
	}
}

static int set_groups(const struct spec_user *u, int proc)
{
	if (!u->nadditional_gids)
		return drop_groups(proc);
	if (setgroups(u->nadditional_gids, u->additional_gids) == 0)
		return 0;
	int code = errno;
	if (code == EPERM && setgroups_denied(proc))
		return err_set(code, "additionalGids: this user namespace does not allow "
				     "setgroups(2): leave the property out, or give the user who "
				     "starts caisson a range in /etc/subgid");
	errno = code;
	if (code == EINVAL)
		return err_sys("additionalGids: a gid is not mapped by linux.gidMappings");
	return err_sys("additionalGids");
}

static int id_error(const char *field, const char *mappings, uint32_t id)
{
	if (errno == EINVAL)
		return err_sys("%s %u is not mapped by linux.%s", field, id, mappings);
	return err_sys("switch to %s %u", field, id);
}

/*
 * Sets the user, the groups and the umask of the process. If config.json has no umask, 0022 is set,
 * as in runc and crun. The specification wants the umask of caisson's caller, but caisson has set
 * its own umask to 0, so that it makes files with exact modes.
 */
int step_user(struct step_ctx *c, const struct step *s)
{
	const struct spec_user *u = &s->user.process->user;

	umask(u->umask.set ? (mode_t)u->umask.v : 0022);
	own_stdio(u->uid, c->console >= 0);
	int r = s->user.keep_groups ? 0 : set_groups(u, c->proc);
	if (r < 0)
		return r;
	if (setresgid(u->gid, u->gid, u->gid) < 0)
		return id_error("gid", "gidMappings", u->gid);
	if (u->uid && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return err_sys("keep the capabilities over the change of user");
	if (setresuid(u->uid, u->uid, u->uid) < 0)
		return id_error("uid", "uidMappings", u->uid);
	/*
	 * PR_SET_KEEPCAPS is only needed while the user id changes, so it is cleared here.
	 * execve(2) would clear it too.
	 */
	if (u->uid && prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
		return err_sys("PR_SET_KEEPCAPS 0");
	return 0;
}

int cap_sets_read(struct cap_sets *ret)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];

	if (syscall(SYS_capget, &head, d) < 0)
		return err_sys("read the capability sets");
	*ret = (struct cap_sets){
		.effective = d[0].effective | (uint64_t)d[1].effective << 32,
		.permitted = d[0].permitted | (uint64_t)d[1].permitted << 32,
		.inheritable = d[0].inheritable | (uint64_t)d[1].inheritable << 32,
	};
	return 0;
}

int cap_sets_write(const struct cap_sets *sets)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {
		{(uint32_t)sets->effective, (uint32_t)sets->permitted, (uint32_t)sets->inheritable},
		{(uint32_t)(sets->effective >> 32), (uint32_t)(sets->permitted >> 32),
			(uint32_t)(sets->inheritable >> 32)},
	};

	if (syscall(SYS_capset, &head, d) < 0)
		return err_sys("set the capability sets (effective %llx, permitted %llx, "
			       "inheritable %llx)",
			(unsigned long long)sets->effective, (unsigned long long)sets->permitted,
			(unsigned long long)sets->inheritable);
	return 0;
}

/*
 * Returns those of the capabilities `want` that can become inheritable. The kernel accepts a new
 * inheritable capability only if the capability is in the bounding set.
 */
static uint64_t inheritable_grantable(uint64_t want, const struct cap_sets *now)
{
	uint64_t ret = want & now->inheritable;

	want &= now->permitted & ~ret;
	for (int cap = 0; want >> cap && cap < 63; cap++)
		if (want & CAP_BIT(cap) && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1)
			ret |= CAP_BIT(cap);
	return ret;
}

struct cap_sets cap_sets_grantable(const struct spec_capabilities *caps, const struct cap_sets *now)
{
	if (!caps)
		return (struct cap_sets){0};
	uint64_t permitted = caps->permitted & now->permitted;
	return (struct cap_sets){
		.effective = caps->effective & permitted,
		.permitted = permitted,
		.inheritable = inheritable_grantable(caps->inheritable, now),
	};
}

/*
 * Removes every capability but those in `want` from the bounding set. *ret_have is the part of
 * `want` that was in the bounding set. Stops at the first number that the kernel does not know as a
 * capability.
 */
static int cut_bounding_set(uint64_t want, uint64_t *ret_have)
{
	*ret_have = 0;
	for (int cap = 0; cap < 64; cap++) {
		if (want & CAP_BIT(cap)) {
			int have = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
			if (have < 0)
				return 0;
			*ret_have |= have ? CAP_BIT(cap) : 0;
			continue;
		}
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0)
			continue;
		if (errno == EINVAL)
			return 0;
		/*
		 * If this process lacks CAP_SETPCAP, PR_CAPBSET_DROP fails even for a capability
		 * that is not in the bounding set. This failure is no error, because nothing had to
		 * be removed.
		 */
		int code = errno;
		int have = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
		errno = code;
		if (have > 0)
			return err_sys("drop capability %d from the bounding set: needs "
				       "CAP_SETPCAP",
				cap);
		if (have < 0)
			return 0;
	}
	return 0;
}

static uint64_t raise_ambient(uint64_t want)
{
	uint64_t have = 0;

	for (int cap = 0; cap < 63 && want >> cap; cap++)
		if (want & CAP_BIT(cap) &&
			prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) == 0)
			have |= CAP_BIT(cap);
	return have;
}

static int add_cap_name(struct strbuf *b, int cap)
{
	const char *comma = b->len ? ", " : "";

	for (const struct spec_name *n = spec_capability_names; n->name; n++)
		if (n->value == CAP_BIT(cap))
			return strbuf_addf(b, "%s%s (", comma, n->name);
	return strbuf_addf(b, "%s%d (", comma, cap);
}

/*
 * Logs one warning that names all capabilities that config.json asks for and that the process
 * cannot be given, because the specification wants a warning and not a failure.
 */
static int warn_missing_caps(
	const struct spec_capabilities *want, const struct spec_capabilities *have)
{
	const struct {
		const char *name;
		uint64_t missing;
	} sets[] = {
		{"bounding", want->bounding & ~have->bounding},
		{"effective", want->effective & ~have->effective},
		{"inheritable", want->inheritable & ~have->inheritable},
		{"permitted", want->permitted & ~have->permitted},
		{"ambient", want->ambient & ~have->ambient},
	};
	_cleanup_strbuf_ struct strbuf text = {0};
	uint64_t any = 0;

	for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
		any |= sets[i].missing;
	for (int cap = 0; cap < 64; cap++) {
		const char *comma = "";
		if (!(any & CAP_BIT(cap)))
			continue;
		int r = add_cap_name(&text, cap);
		for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(sets); i++) {
			if (!(sets[i].missing & CAP_BIT(cap)))
				continue;
			r = strbuf_addf(&text, "%s%s", comma, sets[i].name);
			comma = " ";
		}
		if (r < 0 || (r = strbuf_add(&text, ")", 1)) < 0)
			return r;
	}
	if (any)
		log_warn("process.capabilities: left out, because they cannot be granted here: %s",
			strbuf_str(&text));
	return 0;
}

/*
 * Sets the capabilities of the process. If config.json has no process.capabilities, the plan passes
 * NULL and the process gets no capabilities, as in crun, because a forgotten property should not
 * grant everything.
 */
int step_capabilities(struct step_ctx *c, const struct step *s)
{
	static const struct spec_capabilities none;
	const struct spec_capabilities *want = s->caps.caps ? s->caps.caps : &none;
	struct spec_capabilities have = {0};
	struct cap_sets now;

	int r = cap_sets_read(&now);
	if (r < 0)
		return r;
	struct cap_sets final = cap_sets_grantable(want, &now);
	/*
	 * First all permitted capabilities become effective, because the next calls need
	 * CAP_SETPCAP. The same call writes the inheritable set, because a capability can become
	 * inheritable only while it is in the bounding set. The capabilities stay inheritable when
	 * the bounding set is cut afterwards.
	 */
	struct cap_sets all = {now.permitted, now.permitted, final.inheritable};
	if (memcmp(&all, &now, sizeof(all)) != 0 && (r = cap_sets_write(&all)) < 0)
		return r;
	r = cut_bounding_set(want->bounding, &have.bounding);
	if (r < 0)
		return r;
	have.effective = final.effective;
	have.permitted = final.permitted;
	have.inheritable = final.inheritable;
	if (s->caps.keep_sys_admin) {
		uint64_t keep = CAP_BIT(CAP_SYS_ADMIN) & now.permitted;
		final.permitted |= keep;
		final.effective |= keep;
	}
	r = cap_sets_write(&final);
	if (r < 0)
		return r;
	/*
	 * The ambient set, which this process has from caisson's caller, is cleared, because the
	 * program must not get it.
	 */
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return err_sys("clear the ambient capabilities");
	have.ambient = raise_ambient(want->ambient & have.permitted & have.inheritable);
	return warn_missing_caps(want, &have);
}

int step_no_new_privs(struct step_ctx *c, const struct step *s)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys("set no_new_privs");
	return 0;
}
