/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements `caisson net join` and `caisson net leave`, which `caisson run` and `caisson delete`
 * execute (network/tool.h).
 *
 * Theory of operation. `join` attaches a container to all networks of its --network options, or, if
 * it fails for one of them, to no network. With --watch, for a container in the background, `join`
 * leaves a process behind, because no command waits for the end of such a container and frees its
 * ports. That process waits for the end of the container's first process and then becomes `leave`.
 * --record names the namespace, so that `leave` does not undo the networks of a later container
 * with the same ID.
 */
#include <linux/close_range.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "network/plugins.h"
#include "network/user.h"

#define NETWORKS_MAX 64
#define ALIASES_MAX 32

/* --- reading the values of --network: NAME[:ip=ADDRESS,mac=MAC,alias=NAME] --- */

struct wish {
	const char *text; /* value of --network, for error messages */
	const char *name;
	struct ip addresses[2];
	uint8_t mac[6];
	bool has_mac;
	/* the names of alias=, then the container's host name, then NULL */
	const char *aliases[ALIASES_MAX + 2];
	size_t alias_count;
};

static int bad_wish(const struct wish *w, const char *what, const char *why)
{
	return err_set(EINVAL, "%.200s: %.100s: %s", w->text, what, why);
}

static int add_property(struct wish *w, const char *text)
{
	struct ip ip;

	if (str_starts(text, "ip=")) {
		if (ip_parse(text + 3, &ip) < 0)
			return bad_wish(w, text, "expected an address");
		if (w->addresses[ip.family == AF_INET6].family)
			return bad_wish(w, text, "there is one of its family already");
		w->addresses[ip.family == AF_INET6] = ip;
		return 0;
	}
	if (str_starts(text, "mac=")) {
		if (!mac_parse(text + 4, w->mac))
			return bad_wish(w, text, "expected one such as 02:42:ac:11:00:02");
		w->has_mac = true;
		return 0;
	}
	if (str_starts(text, "alias=")) {
		if (w->alias_count == ALIASES_MAX)
			return bad_wish(w, text, "too many names");
		w->aliases[w->alias_count++] = text + 6;
		int r = names_check(text + 6, "alias");
		return r < 0 ? err_ctx(r, "%.200s", w->text) : 0;
	}
	return bad_wish(w, text, "expected ip=ADDRESS, mac=MAC or alias=NAME");
}

static int parse_wish(struct arena *a, const char *text, struct wish *ret)
{
	struct wish w = {.text = text};
	size_t prefix = str_starts(text, PLUGINS_PREFIX) ? sizeof(PLUGINS_PREFIX) - 1 : 0;
	char *copy = arena_strdup(a, text), *colon = copy ? strchr(copy + prefix, ':') : NULL,
	     *save;
	int r = copy ? 0 : -ENOMEM;

	w.name = copy;
	if (colon)
		*colon++ = '\0';
	if (colon && !*colon)
		return bad_wish(
			&w, "", "expected ip=ADDRESS, mac=MAC or alias=NAME behind the colon");
	for (char *p = colon ? strtok_r(colon, ",", &save) : NULL; p && r >= 0;
		p = strtok_r(NULL, ",", &save))
		r = add_property(&w, p);
	*ret = w;
	return r;
}

/* --- attaching the container to its networks --- */

struct join_options {
	struct option_list networks, ports;
	const char *record, *watch;
	const char *id, *path, *root;
	bool microvm;
	struct container_files files;
};

/*
 * Attaches the container to one network. `ports` are the ports that this network publishes. They
 * are empty for all networks but one: the first that is a bridge and not internal or that is a list
 * of CNI plug-ins, because the container's default route leads through that network.
 */
static int join_one(struct host *h, const struct join_options *o, const struct wish *w,
	const struct attach_request *ports, const struct attachment **ret)
{
	struct attach_request q = {.network = w->name,
		.key = o->id,
		.root = o->root,
		.netns = o->path,
		.recorded = o->record,
		.mac = w->has_mac ? w->mac : NULL,
		.names = w->aliases,
		.ports = ports->ports,
		.port_count = ports->port_count};

	memcpy(q.addresses, w->addresses, sizeof(q.addresses));
	return attachment_make(h, &q, ret);
}

/* Attaches the container to the network of a list of the host's own CNI plug-ins. */
static int join_list(struct host *h, const struct join_options *o, const struct wish *w,
	const struct attach_request *ports, struct plugins_result *ret)
{
	struct plugins_request q = {.list = w->name + sizeof(PLUGINS_PREFIX) - 1,
		.id = o->id,
		.netns = o->path,
		.recorded = o->record,
		.mac = w->has_mac ? w->mac : NULL,
		.ports = ports->ports,
		.port_count = ports->port_count};

	if (w->alias_count && w->aliases[0] != o->files.hostname)
		return bad_wish(w, w->aliases[0], "CNI plug-ins take no alias");
	memcpy(q.addresses, w->addresses, sizeof(q.addresses));
	/*
	 * The lock of caisson's network state is released meanwhile, because a plug-in of the list
	 * may be caisson-cni, which takes the same lock.
	 */
	host_pause(h);
	int r = plugins_add(h, &q, ret);
	int resumed = host_resume(h);
	return r < 0 ? r : resumed;
}

static bool is_list(const struct wish *w)
{
	return str_starts(w->name, PLUGINS_PREFIX);
}

static int check_wishes(const struct wish *wishes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < i; k++)
			if (streq(wishes[i].name, wishes[k].name))
				return bad_wish(
					&wishes[i], wishes[i].name, "the network is given twice");
	return 0;
}

static int find_publisher(struct host *h, const struct wish *wishes, size_t n, size_t *ret)
{
	int r = 0;

	*ret = 0;
	for (size_t i = n; r >= 0 && i-- > 0;) {
		struct network found;

		if (is_list(&wishes[i])) {
			*ret = i;
			continue;
		}
		r = network_make_default(h, wishes[i].name);
		if (r >= 0)
			r = network_read(h, wishes[i].name, &found);
		if (r >= 0 && !found.internal && found.kind == NETWORK_BRIDGE)
			*ret = i;
	}
	return r;
}

/* The attachments that `join` has made so far for the container. */
struct joined {
	const struct attachment *made[NETWORKS_MAX];
	size_t n;
	bool lists; /* whether CNI plug-ins of the host have made some of the attachments */
	/* name server of the first network if it is a list of CNI plug-ins; else NULL */
	const char *server;
};

static int join_next(struct host *h, const struct join_options *o, const struct wish *w,
	const struct attach_request *ports, struct joined *to)
{
	struct plugins_result *result;
	int r;

	if (!is_list(w)) {
		r = join_one(h, o, w, ports, &to->made[to->n]);
		to->n += r >= 0;
		return r;
	}
	result = arena_alloc(&h->arena, sizeof(*result));
	r = result ? join_list(h, o, w, ports, result) : -ENOMEM;
	if (r < 0)
		return r;
	if (to->n == 0)
		to->server = result->server;
	to->lists = true;
	to->made[to->n++] = &result->a;
	return 0;
}

/* Undoes all attachments in *j because of the failure r, whose error message is kept. Returns r. */
static int undo_joined(struct host *h, const struct join_options *o, struct joined *j, int r)
{
	_cleanup_free_ char *message = strdup(err_msg());
	int undone = 0;

	while (j->n-- > 0 && undone >= 0)
		if (!str_starts(j->made[j->n]->network, PLUGINS_PREFIX))
			undone = attachment_undo(h, j->made[j->n]);
	host_pause(h);
	if (undone >= 0 && j->lists)
		undone = plugins_remove(h, o->id, o->record);
	if (undone < 0)
		return err_ctx(r, "%s; undoing it failed too", message ? message : "?");
	return err_set(-r, "%s", message ? message : "no memory");
}

static int join_all(struct host *h, const struct join_options *o, const struct wish *wishes)
{
	struct container_files files = o->files;
	struct attach_request ports = {0};
	const struct attach_request none = {0};
	const size_t n = o->networks.n;
	struct joined joined = {0};
	size_t publisher = 0;

	int r = tool_parse_ports(h, &o->ports, &ports);
	if (r >= 0)
		r = check_wishes(wishes, n);
	if (r >= 0)
		r = find_publisher(h, wishes, n, &publisher);
	for (size_t i = 0; r >= 0 && i < n; i++)
		r = join_next(h, o, &wishes[i], i == publisher ? &ports : &none, &joined);
	files.server = joined.server;
	if (r >= 0 && files.dir)
		r = container_files_write(h, &files, joined.made, joined.n);
	return r < 0 ? undo_joined(h, o, &joined, r) : 0;
}

/* --- waiting for the container's end --- */

/*
 * Waits for the end of the container's first process, and then executes `caisson-net leave`. Never
 * returns.
 */
static _Noreturn void watch(const struct tool_globals *g, const struct join_options *o, int pidfd)
{
	/*
	 * The values of --config and --state may be empty, because options_parse() ignores an
	 * option with an empty value.
	 */
	const char *const words[] = {"caisson-net", "--config",
		g->host.config ? g->host.config : "", "--state", g->host.state ? g->host.state : "",
		"--root", o->root ? o->root : "", "leave", "--record", o->record, o->id, NULL};
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	setsid();
	if (fd_set_streams(-EBADF, -EBADF, -EBADF) < 0)
		err_clear();
	/*
	 * Closes all other descriptors. One of them holds the lock of caisson's network state,
	 * which this process would otherwise keep locked.
	 */
	dup2(pidfd, STDERR_FILENO + 1);
	close_range(STDERR_FILENO + 2, ~0U, 0);
	p.fd = STDERR_FILENO + 1;
	while (chdir("/") < 0 || (poll(&p, 1, -1) < 0 && errno == EINTR))
		;
	execv("/proc/self/exe", (char *const *)words);
	_exit(1);
}

static int start_watching(const struct tool_globals *g, const struct join_options *o)
{
	uint64_t pid;

	if (!o->watch)
		return 0;
	if (str_to_u64(o->watch, &pid) < 0 || !pid || pid > INT32_MAX || !o->record)
		return err_set(EINVAL, "--watch %.40s: expected a pid, and --record", o->watch);
	_cleanup_fd_ int pidfd = pidfd_open((pid_t)pid, 0);
	/*
	 * If the container's first process has ended already, no process is left behind to wait for
	 * its end. The command that runs the container notices the end itself.
	 */
	if (pidfd < 0)
		return errno == ESRCH ? 0 : err_sys("open a pidfd of process %s", o->watch);
	pid_t child = fork();
	if (child == 0)
		watch(g, o, pidfd);
	return child < 0 ? err_sys("fork") : 0;
}

static int join_as_user(const struct tool_globals *g, const struct join_options *o)
{
	const struct user_join j = {.program = o->networks.v[0],
		.id = o->id,
		.microvm = o->microvm,
		.record = o->record,
		.ports = &o->ports,
		.files = &o->files};

	if (o->networks.n != 1 || !o->record)
		return err_set(EINVAL,
			"%.100s: an ordinary user's container has one network: expected " JOIN_USER
			", pasta, slirp4netns or none, once",
			o->networks.n ? o->networks.v[o->networks.n - 1] : "");
	int r = user_join(g, &j);
	return r < 0 ? r : start_watching(g, o);
}

int tool_join(const struct tool_command *self, const struct tool_globals *g, int argc, char **argv)
{
	_cleanup_host_ struct host h = HOST_INIT;
	struct tool_arguments args = {.min = 2, .max = 2};
	struct wish wishes[NETWORKS_MAX];
	struct join_options o = {0};
	const struct option_def defs[] = {
		{"network", 0, OPTION_LIST, &o.networks, "NETWORK", "NAME[:ip=ADDRESS,mac=MAC]"},
		{"publish", 'p', OPTION_LIST, &o.ports, "PORTS", "as of attach"},
		{"record", 0, OPTION_STRING, &o.record, "PATH", "the namespace's lasting path"},
		{"files", 0, OPTION_STRING, &o.files.dir, "DIR",
			"write hosts and resolv.conf there"},
		{"hostname", 0, OPTION_STRING, &o.files.hostname, "NAME", "the host name"},
		{"dns", 0, OPTION_LIST, &o.files.dns, "ADDRESS", "name server"},
		{"add-host", 0, OPTION_LIST, &o.files.hosts, "NAME:ADDRESS", "line of hosts"},
		{"watch", 0, OPTION_STRING, &o.watch, "PID",
			"leave the networks when this process has ended"},
		{"microvm", 0, OPTION_FLAG, &o.microvm, NULL, "the container is a microVM"},
		{0},
	};

	int r = tool_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	o.id = args.v[0];
	o.path = args.v[1];
	if (o.networks.n > NETWORKS_MAX)
		return err_set(E2BIG, "more than %d networks", NETWORKS_MAX);
	if (geteuid() != 0)
		return join_as_user(g, &o);
	r = host_open(&h, &g->host);
	if (r >= 0)
		r = tool_root(&h.arena, g, &o.root);
	for (size_t i = 0; r >= 0 && i < o.networks.n; i++)
		r = parse_wish(&h.arena, o.networks.v[i], &wishes[i]);
	for (size_t i = 0; r >= 0 && o.files.hostname && i < o.networks.n; i++)
		wishes[i].aliases[wishes[i].alias_count++] = o.files.hostname;
	if (r >= 0)
		r = join_all(&h, &o, wishes);
	return r < 0 ? r : start_watching(g, &o);
}

int tool_leave(const struct tool_command *self, const struct tool_globals *g, int argc, char **argv)
{
	_cleanup_host_ struct host h = HOST_INIT;
	struct tool_arguments args = {.min = 1, .max = 1};
	const struct attachment **found;
	const char *record = NULL, *root;
	size_t n = 0;
	const struct option_def defs[] = {
		{"record", 0, OPTION_STRING, &record, "PATH", "of this namespace only"},
		{0},
	};

	int r = tool_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	if (geteuid() != 0)
		return user_leave(g, args.v[0], record);
	r = host_open(&h, &g->host);
	if (r >= 0)
		r = tool_root(&h.arena, g, &root);
	if (r >= 0)
		r = attachment_list(&h, args.v[0], NULL, &found, &n);
	for (size_t i = 0; r >= 0 && i < n; i++)
		if (!tool_of_another_root(found[i], root) &&
			(!record || streq(record, found[i]->netns)))
			r = attachment_undo(&h, found[i]);
	if (r >= 0 && n == 0)
		r = host_tidy(&h);
	host_pause(&h);
	int lists = plugins_remove(&h, args.v[0], record);
	return r < 0 ? r : lists;
}
