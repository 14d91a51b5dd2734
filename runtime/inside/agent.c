/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements `caisson machine install-agent`, which puts caisson's agent into the operating system
 * of a disk as a service (guest/service.c). On the host the command gives the file of the agent to
 * the microVM as its standard input. In the guest it writes that file and those of the service into
 * the disk. Names on the disk are resolved beneath its root, because links on it may lead anywhere.
 */
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/path.h"
#include "inside/inside.h"

#define AGENT "caisson-guest"          /* name of the agent's program on the host */
#define AGENT_BUILT "guest"            /* directory of the program beside caisson in a build tree */
#define AGENT_MAX (UINT64_C(64) << 20) /* largest size of the agent's program in bytes */
#define DIR "/usr/local/lib/caisson"   /* directory in the operating system for the agent */
#define PROGRAM DIR "/caisson-agent"
#define UNIT "caisson-agent.service"
#define SELINUX "security.selinux" /* the extended attribute that is a file's SELinux label */

/*
 * The service for systemd. It starts early, because cloud-init delays most of the boot. The service
 * leaves execs alone when it ends (KillMode). If the machine was not started by caisson, the agent
 * ends with exit code 0, and systemd does not start it again.
 */
static const char unit[] = "[Unit]\n"
			   "Description=Agent of caisson, which runs commands of the host\n"
			   "Documentation=man:caisson-machine(7)\n"
			   "ConditionVirtualization=vm\n"
			   "DefaultDependencies=no\n"
			   "After=local-fs.target\n"
			   "Before=shutdown.target\n"
			   "Conflicts=shutdown.target\n\n"
			   "[Service]\n"
			   "ExecStartPre=-/sbin/modprobe -q vmw_vsock_virtio_transport\n"
			   "ExecStart=" PROGRAM " --service\n"
			   "Restart=on-failure\n"
			   "RestartSec=5\n"
			   "KillMode=process\n"
			   "TasksMax=infinity\n\n"
			   "[Install]\n"
			   "WantedBy=sysinit.target\n";

/*
 * The service for OpenRC. supervise-daemon starts the agent again if it dies, and gives up after
 * some tries in a minute, because it does that too after exit code 0, with which the agent ends if
 * the machine was not started by caisson. The dependencies name the services of Gentoo and Alpine
 * (localmount, modules) and those of Debian (mountall, kmod). OpenRC never starts a service that
 * needs one that does not exist, and passes over a missing one that is wanted.
 */
static const char script[] = "#!/sbin/openrc-run\n"
			     "description=\"Agent of caisson, which runs commands of the host\"\n"
			     "command=" PROGRAM "\n"
			     "command_args=--service\n"
			     "supervisor=supervise-daemon\n"
			     "pidfile=/run/caisson-agent.pid\n"
			     "respawn_delay=5\n"
			     "respawn_max=10\n"
			     "respawn_period=60\n\n"
			     "depend() {\n"
			     "\twant localmount\n"
			     "\tafter mountall modules kmod\n"
			     "}\n\n"
			     "start_pre() {\n"
			     "\tmodprobe -q vmw_vsock_virtio_transport 2>/dev/null || :\n"
			     "}\n";

/* --- on the host --- */

int inside_host_agent(
	const struct inside_command *self, struct inside_options *o, int argc, char **argv)
{
	_cleanup_arena_ struct arena a = {0};
	struct inside_run run;
	const char *dir, *path;

	int r = inside_prepare(&a, self, o, argv[0], &run);
	if (r >= 0)
		r = libexec_find(&a, AGENT, AGENT_BUILT, &dir);
	if (r < 0)
		return r;
	path = arena_printf(&a, "%s/" AGENT, dir);
	if (!path)
		return -ENOMEM;
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || dup2(fd, STDIN_FILENO) < 0)
		return err_sys(
			"open the agent %s (" LIBEXEC_VARIABLE " names its directory)", path);
	run.nwords = 0;
	return inside_execute(&a, &run);
}

/* --- in the guest --- */

static bool is_there(const struct inside_guest *g, const char *path)
{
	_cleanup_fd_ int fd = path_open(g->root, path, O_PATH);

	err_clear();
	return fd >= 0;
}

/* Says whether two names lead to the same file of the disk. */
static bool is_same(const struct inside_guest *g, const char *path, const char *other)
{
	_cleanup_fd_ int fd = path_open(g->root, path, O_PATH);
	_cleanup_fd_ int other_fd = path_open(g->root, other, O_PATH);
	struct stat a, b;

	err_clear();
	return fd >= 0 && other_fd >= 0 && fstat(fd, &a) == 0 && fstat(other_fd, &b) == 0 &&
	       a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

enum init { INIT_NONE, INIT_SYSTEMD, INIT_OPENRC };

/*
 * Says which program starts the services of the operating system. A disk that boots by sysvinit
 * and OpenRC may have systemd too, which Debian keeps for its other programs. Then /sbin/init
 * decides.
 */
static enum init find_init(const struct inside_guest *g)
{
	static const char *const paths[] = {"/lib/systemd/systemd", "/usr/lib/systemd/systemd"};
	const bool openrc = is_there(g, "/sbin/openrc-run");
	const bool other = openrc && is_there(g, "/sbin/init");

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		if (other ? is_same(g, "/sbin/init", paths[i]) : is_there(g, paths[i]))
			return INIT_SYSTEMD;
	return openrc ? INIT_OPENRC : INIT_NONE;
}

/*
 * Says whether the operating system has SELinux, whose policy forbids systemd to start programs
 * without a label.
 */
static bool has_selinux(const struct inside_guest *g)
{
	return is_there(g, "/etc/selinux/config");
}

/* Labels the file `name` in the directory `dir`, as restorecon(8) would in most policies. */
static int label(int dir, const char *name, const char *type)
{
	_cleanup_fd_ int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_strbuf_ struct strbuf text = {0};

	int r = strbuf_addf(&text, "system_u:object_r:%s:s0", type);
	if (r < 0)
		return r;
	return fd < 0 || fsetxattr(fd, SELINUX, strbuf_str(&text), text.len + 1, 0) < 0
		       ? err_sys("label %s for SELinux", name)
		       : 0;
}

/*
 * Waits until the file `name` in the directory `dir` and its entry there are on the disk. So the
 * service never starts a program that is not whole, and the command says that it is done only when
 * it is.
 */
static int sync_file(int dir, const char *name)
{
	_cleanup_fd_ int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0 || fsync(dir) < 0 ? err_sys("write %s to the disk", name)
							 : 0;
}

struct file {
	const char *dir, *name;
	const void *data;
	size_t len;
	mode_t mode;
	const char *type; /* type of the file in SELinux policies */
};

/* Opens a directory of the disk, which it makes if it is missing. */
static int open_dir(struct inside_guest *g, const char *path)
{
	_cleanup_fd_ int at = path_mkdirs(g->root, path);
	int fd = at < 0 ? at : openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (at < 0)
		return err_ctx(at, "%s", path);
	return fd < 0 ? err_sys("open %s", path) : fd;
}

static int write_file(struct inside_guest *g, const struct file *f)
{
	_cleanup_fd_ int dir = open_dir(g, f->dir);
	struct stat st;

	if (dir < 0)
		return dir;
	/* The file may be a link into nowhere, or to another file of the operating system. */
	if (fstatat(dir, f->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode))
		return err_set(EEXIST, "%s/%s on the disk is no file: remove it", f->dir, f->name);
	int r = fd_replace_file(dir, f->name, f->data, f->len, f->mode);
	if (r >= 0 && has_selinux(g))
		r = label(dir, f->name, f->type);
	if (r >= 0)
		r = sync_file(dir, f->name);
	return r < 0 ? err_ctx(r, "%s", f->dir) : r;
}

/* Makes the link `name` in the directory `dir` of the disk, by which the init starts a service. */
static int enable(struct inside_guest *g, const char *dir, const char *name, const char *target)
{
	_cleanup_fd_ int at = open_dir(g, dir);

	if (at < 0)
		return at;
	if (symlinkat(target, at, name) < 0 && errno != EEXIST)
		return err_sys("link %s/%s", dir, name);
	return fsync(at) < 0 ? err_sys("write %s/%s to the disk", dir, name) : 0;
}

static int install_unit(struct inside_guest *g)
{
	const struct file f = {
		"/etc/systemd/system", UNIT, unit, strlen(unit), 0644, "systemd_unit_file_t"};
	int r = write_file(g, &f);

	return r < 0 ? r
		     : enable(g, "/etc/systemd/system/sysinit.target.wants", UNIT,
			       "/etc/systemd/system/" UNIT);
}

static int install_script(struct inside_guest *g)
{
	const struct file f = {
		"/etc/init.d", "caisson-agent", script, strlen(script), 0755, "initrc_exec_t"};
	int r = write_file(g, &f);

	return r < 0 ? r
		     : enable(g, "/etc/runlevels/default", "caisson-agent",
			       "/etc/init.d/caisson-agent");
}

static int print_result(struct inside_guest *g)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	const char *title = NULL;
	char clean[256];

	if (system_read(g, "/etc/os-release", &text, 64u << 10) >= 0)
		title = system_variable(&g->arena, strbuf_str(&text), "PRETTY_NAME");
	err_clear();
	title = title ? title : "an operating system";
	str_clean(clean, sizeof(clean), title, strlen(title));
	const char *line = arena_printf(&g->arena, "put the agent into %s\n", clean);
	int r = line ? fd_write_all(STDOUT_FILENO, line, strlen(line)) : -ENOMEM;
	return r < 0 ? err_set(-r, "write to standard output: %s", err_text(-r)) : 0;
}

int guest_install_agent(struct inside_guest *g, int argc, char **argv)
{
	_cleanup_strbuf_ struct strbuf agent = {0};
	int r = fd_read_all(STDIN_FILENO, &agent, AGENT_MAX, "the agent");

	if (r >= 0)
		r = mounts_make(g);
	if (r < 0)
		return r;
	if (!system_is_here(g))
		return mounts_err_list(g, "found no operating system on the disk: %s");
	const enum init init = find_init(g);
	if (init == INIT_NONE)
		return err_set(ENOTSUP,
			"found an operating system with neither systemd nor OpenRC: expected one "
			"of them, because it has to start the agent");
	const char *arch = system_arch(g);
	if (!arch || !streq(arch, "x86_64"))
		return err_set(ENOTSUP,
			"found an operating system for %s: the agent is a program for x86_64",
			arch ? arch : "an unknown machine type");
	const struct file f = {DIR, "caisson-agent", agent.s, agent.len, 0755, "bin_t"};
	r = write_file(g, &f);
	if (r >= 0)
		r = init == INIT_SYSTEMD ? install_unit(g) : install_script(g);
	return r < 0 ? r : print_result(g);
}
