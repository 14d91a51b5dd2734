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

int criu_check_options(const struct criu_options *o)
{
	uint64_t mode;

	if (o->lazy_pages || o->status_fd)
		return err_set(ENOTSUP,
			"--%s: not supported: pages are restored before the container goes on; "
			"leave the option out",
			o->lazy_pages ? "lazy-pages" : "status-fd");
	if (o->empty_ns && !streq(o->empty_ns, "network"))
		return err_set(EINVAL, "--empty-ns %.40s: expected network", o->empty_ns);
	return cgroups_mode(o->cgroups_mode, &mode);
}

int criu_put_common(const struct criu_options *o, const char *log, struct criu_message *opts)
{
	uint64_t mode;

	int r = cgroups_mode(o->cgroups_mode, &mode);
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
	if (o->empty_ns)
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
