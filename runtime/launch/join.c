/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/join.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/helper.h"
#include "base/libexec.h"
#include "base/log.h"
#include "launch/network.h"
#include "netsetup/host/state.h"

#define PROGRAM "caisson-net"
/* how many bytes of the messages of the helper program caisson-net are read */
#define LOG_KEPT 65536
/* how many words a command line of caisson-net has besides those for options */
#define OWN_WORDS 24

/*
 * The next functions choose the networks that the container joins, from the options and
 * config.json.
 */

/*
 * Returns whether the value `text` of an option --network names the network `name`. In the value a
 * colon ends the name.
 */
static bool is_named(const char *text, const char *name)
{
	size_t len = strlen(name);

	return strncmp(text, name, len) == 0 && (text[len] == '\0' || text[len] == ':');
}

static const char *find_special(const struct spec_strings *networks)
{
	for (size_t i = 0; i < networks->n; i++)
		if (is_named(networks->v[i], "none") || is_named(networks->v[i], "host"))
			return networks->v[i];
	return NULL;
}

static int set_namespace(struct arena *a, struct bundle *b, bool set)
{
	const struct spec_namespace *ns = &b->spec->ns[SPEC_NS_NETWORK];
	struct spec *copy = arena_alloc(a, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	if (ns->path)
		return err_set(EINVAL,
			"--network: linux.namespaces[%zu] of config.json gives the network "
			"namespace by its path: leave out the option, or the path",
			ns->index);
	*copy = *b->spec;
	copy->ns[SPEC_NS_NETWORK].set = set;
	b->spec = copy;
	return 0;
}

static int decide_special(
	struct arena *a, const struct launch_options *o, struct bundle *b, const char *name)
{
	bool host = streq(name, "host");

	if (strchr(name, ':') || o->network.networks.n > 1)
		return err_set(EINVAL,
			"--network %.100s: expected the word alone, and no other "
			"--network",
			name);
	if (o->network.ports.n)
		return err_set(EINVAL, "-p %.100s: with --network %s no port can be published: %s",
			o->network.ports.v[0], name,
			host ? "the container's ports are the host's own"
			     : "give another --network");
	if (host && geteuid() != 0)
		return err_set(EPERM,
			"--network host: for an ordinary user config.json decides that: leave its "
			"network namespace out, and its mount of sysfs");
	return set_namespace(a, b, !host);
}

/*
 * Refuses --dns and --add-host for a container that joins no network, because such a container
 * keeps the files resolv.conf and hosts of its root file system.
 */
static int check_alone(const struct network_options *n)
{
	if (!n->dns.n && !n->hosts.n)
		return 0;
	return err_set(EINVAL,
		"%s %.200s: only a container that joins a network gets these files: give a "
		"--network, or mount %s",
		n->dns.n ? "--dns" : "--add-host", n->dns.n ? n->dns.v[0] : n->hosts.v[0],
		n->dns.n ? "/etc/resolv.conf" : "/etc/hosts");
}

/*
 * Says whether an ordinary user's microVM would share the host's network if it were a container in
 * namespaces. A guest cannot share the host's network. The nearest likeness is the network of pasta
 * or slirp4netns, which opens the user's connections on the host.
 */
static bool lacks_network(const struct bundle *b)
{
	return b->isolation == PLAN_VM && geteuid() != 0 && b->spec->ns[SPEC_NS_USER].set &&
	       !b->spec->ns[SPEC_NS_NETWORK].set;
}

int join_decide(struct arena *a, const struct launch_options *o, struct bundle *b)
{
	static const char *const usual[] = {JOIN_DEFAULT, NULL}, *const user[] = {JOIN_USER, NULL};
	const struct network_options *n = &o->network;
	const char *special = find_special(&n->networks);

	if (special && check_alone(n) < 0)
		return -EINVAL;
	if (special)
		return decide_special(a, o, b, special);
	if (!n->networks.n && !n->ports.n && !lacks_network(b))
		return check_alone(n);
	b->networks = n->networks;
	if (!n->networks.n)
		b->networks = (struct spec_strings){.v = geteuid() == 0 ? usual : user, .n = 1};
	return set_namespace(a, b, true);
}

/* The next functions run caisson-net, the helper program that changes networks. */

struct words {
	const char **v;
	size_t n;
};

static void add(struct words *w, const char *option, const char *value)
{
	w->v[w->n++] = option;
	if (value)
		w->v[w->n++] = value;
}

static void add_all(struct words *w, const char *option, const struct spec_strings *values)
{
	for (size_t i = 0; i < values->n; i++)
		add(w, option, values->v[i]);
}

/*
 * Returns the error of a run of caisson-net that failed: -EINTR if caisson-net was killed,
 * otherwise the last message that caisson-net printed, without the "caisson: " at its beginning,
 * because log_error() puts the name in front again.
 */
static int helper_failed(const struct helper_streams *s, const char *path, int status)
{
	static const char name[] = "caisson: ";
	_cleanup_strbuf_ struct strbuf lines = {0};
	int r = helper_read(s, 2, &lines, LOG_KEPT);

	if (r < 0)
		return r;
	const char *last = helper_last_line(&lines);
	if (WIFSIGNALED(status))
		return err_set(EINTR, "%s was killed by signal %d", path, WTERMSIG(status));
	if (WEXITSTATUS(status) == 127)
		return err_set(EIO,
			"%s: %s (build caisson with libnftables, or set " LIBEXEC_VARIABLE
			" to the directory it is in)",
			path, last);
	return err_set(EIO, "%s", last + (str_starts(last, name) ? sizeof(name) - 1 : 0));
}

/*
 * Runs the helper program caisson-net with these arguments. The first element of w->v is replaced
 * by the program's path.
 */
static int run_helper(struct arena *a, struct words *w)
{
	_cleanup_helper_streams_ struct helper_streams s = HELPER_STREAMS_INIT;
	int status, r = libexec_program(a, PROGRAM, &w->v[0]);

	add(w, NULL, NULL);
	if (r >= 0)
		r = helper_streams_open(&s, "", 0);
	if (r >= 0)
		r = helper_run(&s, w->v[0], w->v, &status);
	return r < 0 || status == 0 ? r : helper_failed(&s, w->v[0], status);
}

/*
 * Adds the directory of the state directories, by which caisson-net tells the container from others
 * with the same ID.
 */
static int add_root(struct container *c, struct words *w)
{
	char link[40], path[PATH_MAX];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", c->root_dir);
	ssize_t len = readlink(link, path, sizeof(path) - 1);
	if (len < 0)
		return err_sys("read the link %s", link);
	path[len] = '\0';
	const char *root = arena_strdup(&c->arena, path);
	add(w, "--root", root);
	return root ? 0 : -ENOMEM;
}

int join_make_files(struct container *c)
{
	static const char *const files[] = {CONTAINER_HOSTS, CONTAINER_RESOLV_CONF};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_fd_ int fd =
			openat(c->dir, files[i], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		/* fchmod() makes the mode independent of the umask of caisson's caller. */
		if (fd < 0 || fchmod(fd, 0644) < 0)
			return err_sys("make %s in the state directory", files[i]);
	}
	return 0;
}

int join_networks(struct launch *l, const struct step *s)
{
	const struct network_options *n = l->network_options;
	struct arena *a = &l->c->arena;
	struct words w = {.n = 1};
	char watched[16];

	_cleanup_fd_ int netns = network_open_init(l);
	if (netns < 0)
		return err_sys("open the container's network namespace");
	w.v = arena_array(a, OWN_WORDS + 2 * (s->networks.n + n->ports.n + n->dns.n + n->hosts.n),
		sizeof(*w.v));
	const char *path = arena_printf(a, "/proc/%d/fd/%d", getpid(), netns);
	const char *record = arena_printf(a, "/proc/%d/ns/net", l->child.pid);
	if (!w.v || !path || !record)
		return -ENOMEM;
	int r = add_root(l->c, &w);
	if (r < 0)
		return r;
	add(&w, "join", NULL);
	add_all(&w, "--network", &s->networks);
	add_all(&w, "--publish", &n->ports);
	add_all(&w, "--dns", &n->dns);
	add_all(&w, "--add-host", &n->hosts);
	add(&w, "--files", l->create.env.names_dir);
	if (l->spec->hostname)
		add(&w, "--hostname", l->spec->hostname);
	if (l->plan.isolation == PLAN_VM)
		add(&w, "--microvm", NULL);
	add(&w, "--record", record);
	/*
	 * The option --watch makes caisson-net leave a process behind that waits for the
	 * container's end and removes its networks then, because no command waits for a container
	 * in the background.
	 */
	if (l->create.unattended) {
		snprintf(watched, sizeof(watched), "%d", l->child.pid);
		add(&w, "--watch", watched);
	}
	add(&w, l->c->id, path);
	/*
	 * From here on undoing has to leave the networks. Until here undoing must not do so,
	 * because the networks on record may belong to another container with this ID.
	 */
	l->create.joined = true;
	r = run_helper(a, &w);
	/*
	 * If caisson-net fails, it undoes what it has made, so this process need not leave the
	 * networks. If caisson-net was killed (EINTR), it has undone nothing, so this process must
	 * leave them.
	 */
	if (r < 0 && r != -EINTR)
		l->create.joined = false;
	return r;
}

bool join_is_on_record(const struct container *c)
{
	char path[sizeof(HOST_STATE "/containers/") + NAME_MAX];

	snprintf(path, sizeof(path), HOST_STATE "/containers/%s", c->id);
	return geteuid() == 0 && access(path, F_OK) == 0;
}

void join_undo(struct container *c)
{
	const char *v[OWN_WORDS] = {NULL};
	struct words w = {.v = v, .n = 1};
	char record[40];

	if (!c->has_networks && !join_is_on_record(c))
		return;
	int r = add_root(c, &w);
	add(&w, "leave", NULL);
	/*
	 * A container that has no networks of its own may have been attached to one by `caisson net
	 * attach`. The option --record makes caisson-net check that the record is of this
	 * container, because a container with the same ID under another --root must stay attached.
	 */
	snprintf(record, sizeof(record), "/proc/%d/ns/net", c->pid);
	if (!c->has_networks)
		add(&w, "--record", record);
	add(&w, c->id, NULL);
	if (r < 0 || run_helper(&c->arena, &w) < 0)
		log_warn("the networks of container %s: %s", c->id, err_msg());
}
