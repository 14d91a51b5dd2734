/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/criu_common.h"

#include <sched.h>
#include <sys/stat.h>

#include "base/fd.h"

const struct criu_ns criu_external_ns[CRIU_EXTERNAL_NS] = {
	{SPEC_NS_NETWORK, "net", "extRootNetNS"},
	{SPEC_NS_PID, "pid", "extRootPidNS"},
};

/* Returns CRIU's number for a value of --manage-cgroups-mode. NULL stands for "soft". */
static int cgroups_mode(const char *text, uint64_t *ret)
{
	/* The index of a name is CRIU's number for it. */
	static const char *const modes[] = {"ignore", "none", "props", "soft", "full", "strict"};

	for (*ret = 0; *ret < ARRAY_SIZE(modes); (*ret)++)
		if (streq(text ? text : "soft", modes[*ret]))
			return 0;
	return err_set(EINVAL,
		"--manage-cgroups-mode %.40s: expected soft, full, strict, props, none or ignore",
		text);
}

/* Returns CRIU's number for a value of --network-lock, or 0 if the option was not given. */
static int network_lock(const char *text, uint64_t *ret)
{
	static const char *const methods[] = {"iptables", "nftables", "skip"};

	*ret = 0;
	for (size_t i = 0; text && i < ARRAY_SIZE(methods) && !*ret; i++)
		if (streq(text, methods[i]))
			*ret = i + 1; /* CRIU's number for the method */
	if (text && !*ret)
		return err_set(
			EINVAL, "--network-lock %.40s: expected iptables, nftables or skip", text);
	return 0;
}

/* Refuses what the checkpoint of a microVM cannot do: it is one snapshot of a whole machine. */
static int refuse_in_vm(const struct criu_options *o)
{
	const struct {
		bool given;
		const char *name, *why;
	} refused[] = {
		{o->pre_dump, "pre-dump", "a microVM has only whole checkpoints"},
		{o->parent_path, "parent-path", "a microVM has only whole checkpoints"},
		{o->page_server, "page-server", "a microVM's memory is written to --image-path"},
		{o->lazy_pages, "lazy-pages", "a microVM's memory is written to --image-path"},
		{o->status_fd >= 0, "status-fd", "it belongs to --lazy-pages"},
		{o->tcp_close, "tcp-close", "the guest's kernel keeps its connections"},
		{o->lsm_profile, "lsm-profile", "the guest's kernel has the labels"},
		{o->lsm_mount_context, "lsm-mount-context", "the guest's kernel has the labels"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		if (refused[i].given)
			return err_set(ENOTSUP, "--%s: %s: leave the option out", refused[i].name,
				refused[i].why);
	return 0;
}

/* Checks --lazy-pages and the options that it needs or excludes. */
static int check_lazy(const struct criu_options *o)
{
	if (o->status_fd >= 0 && !o->lazy_pages)
		return err_set(EINVAL,
			"--status-fd: it is written to once pages can be fetched: add "
			"--lazy-pages, or leave it out");
	if (o->lazy_pages && o->pre_dump)
		return err_set(EINVAL,
			"--lazy-pages: a --pre-dump writes its pages at once: leave one of them "
			"out");
	if (o->status_fd < 0)
		return 0;
	int flags = fcntl(o->status_fd, F_GETFL);
	if (flags < 0)
		return err_sys("--status-fd %d", o->status_fd);
	if ((flags & O_ACCMODE) == O_RDONLY)
		return err_set(EBADF, "--status-fd %d: expected a descriptor that can be written",
			o->status_fd);
	return 0;
}

int criu_check_options(const struct criu_options *o, bool vm)
{
	uint64_t number;

	int r = vm ? refuse_in_vm(o) : check_lazy(o);
	if (r >= 0)
		r = network_lock(o->network_lock, &number);
	return r < 0 ? r : cgroups_mode(o->cgroups_mode, &number);
}

int criu_put_common(const struct criu_options *o, const char *log, struct criu_message *opts)
{
	uint64_t mode, lock;

	int r = cgroups_mode(o->cgroups_mode, &mode);
	if (r >= 0)
		r = network_lock(o->network_lock, &lock);
	if (r < 0)
		return r;
	criu_put_number(opts, CRIU_MANAGE_CGROUPS_MODE, mode);
	criu_put_number(opts, CRIU_LOG_LEVEL, CRIU_LOG_ALL);
	criu_put_text(opts, CRIU_LOG_FILE, log);
	criu_put_flag(opts, CRIU_TCP_ESTABLISHED, o->tcp_established);
	criu_put_flag(opts, CRIU_EXT_UNIX_SK, o->ext_unix_sk);
	criu_put_flag(opts, CRIU_SHELL_JOB, o->shell_job);
	criu_put_flag(opts, CRIU_FILE_LOCKS, o->file_locks);
	criu_put_flag(opts, CRIU_LINK_REMAP, o->link_remap);
	criu_put_flag(opts, CRIU_AUTO_DEDUP, o->auto_dedup);
	/* caisson's caller has the terminal's master, so CRIU sees a slave without a master. */
	criu_put_flag(opts, CRIU_ORPHAN_PTS_MASTER, true);
	criu_put_flag(opts, CRIU_LAZY_PAGES, o->lazy_pages);
	if (lock)
		criu_put_number(opts, CRIU_NETWORK_LOCK, lock);
	if (o->empty_network)
		criu_put_number(opts, CRIU_EMPTY_NS, CLONE_NEWNET);
	return 0;
}

const char *criu_work_path(const struct criu_options *o, const char *image_path)
{
	return o->work_path ? o->work_path : image_path;
}

int criu_open_work(const struct criu_options *o, int image)
{
	if (!o->work_path)
		return fcntl(image, F_DUPFD_CLOEXEC, 3);
	if (mkdir(o->work_path, 0700) < 0 && errno != EEXIST)
		return err_sys("--work-path %s: make the directory", o->work_path);
	int dir = open(o->work_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0 ? err_sys("--work-path %s", o->work_path) : dir;
}

int criu_with_log(int r, const char *work, const char *log)
{
	if (r >= 0 || !str_starts(err_msg(), "criu: "))
		return r;
	_cleanup_free_ char *why = strdup(err_msg());
	return err_set(-r, "%s (see %s/%s)", why ? why : "criu failed", work, log);
}
