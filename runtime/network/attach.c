/* SPDX-License-Identifier: Apache-2.0 */
/* Implements `caisson net attach` and `caisson net detach`. */
#include <stdio.h>
#include <stdlib.h>

#include "network/microvm.h"
#include "network/tool.h"

#define STATE_FILE_MAX (1 << 20)

/* Names the container or the network namespace that the user means. */
struct target {
	const char *key;   /* key by which records name the container */
	const char *netns; /* path of the container's network namespace; NULL: not known */
	const char *root;  /* as tool_root() returns it; NULL: `netns` is all that is known */
	bool microvm;      /* the container is a microVM */
};

int tool_root(struct arena *a, const struct tool_globals *g, const char **ret)
{
	_cleanup_free_ char *real = realpath(g->root, NULL);

	if (!real && errno != ENOENT)
		return err_sys("--root %s", g->root);
	*ret = arena_strdup(a, real ? real : g->root);
	return *ret ? 0 : -ENOMEM;
}

bool tool_of_another_root(const struct attachment *a, const char *root)
{
	return a->root && !streq(a->root, root);
}

/*
 * Returns when the process was started, in clock ticks since boot, from field 22 of /proc/PID/stat,
 * or 0 if the process no longer exists.
 */
static uint64_t start_time(int64_t pid)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	char path[40];
	uint64_t ret;
	char *at;

	snprintf(path, sizeof(path), "/proc/%lld/stat", (long long)pid);
	if (fd_read_file(AT_FDCWD, path, &text, 8192) < 0) {
		err_clear();
		return 0;
	}
	/*
	 * The name of the program, field 2, is in brackets and may itself contain brackets and
	 * blanks. So the field ends at the last bracket of the text.
	 */
	at = text.s ? strrchr(text.s, ')') : NULL;
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (!at)
		return 0;
	at++;
	at[strcspn(at, " ")] = '\0';
	return str_to_u64(at, &ret) < 0 ? 0 : ret;
}

/* Finds the network namespace of a running container by the pid in the container's state.json. */
static int find_container(
	struct host *h, const struct tool_globals *g, const char *id, struct target *t)
{
	const char *path = arena_printf(&h->arena, "%s/%s/state.json", g->root, id);
	_cleanup_strbuf_ struct strbuf text = {0};
	const char *isolation;
	uint64_t started;
	struct json *j;
	int64_t pid;

	if (!path)
		return -ENOMEM;
	int r = fd_read_file(AT_FDCWD, path, &text, STATE_FILE_MAX);
	if (r == -ENOENT)
		return err_set(ENOENT,
			"container \"%s\" does not exist: `caisson list` lists them; expected an "
			"ID, or the path of a network namespace",
			id);
	if (r >= 0)
		r = json_parse(&h->arena, strbuf_str(&text), text.len, path, &j);
	if (r < 0)
		return r;
	isolation = json_get_str(j, "isolation");
	t->microvm = isolation && streq(isolation, "vm");
	if (json_get_i64(j, "pid", &pid) < 0 || json_get_u64(j, "startTime", &started) < 0 ||
		pid <= 0 || start_time(pid) != started)
		return err_set(ESRCH, "container \"%s\" is not running", id);
	t->netns = arena_printf(&h->arena, "/proc/%lld/ns/net", (long long)pid);
	return t->netns ? 0 : -ENOMEM;
}

/*
 * Returns the key by which records name a network namespace that has no container of caisson: the
 * path of the namespace with '!' in place of '/'.
 */
static const char *path_key(struct host *h, const char *path)
{
	char *key = arena_strdup(&h->arena, path);

	for (char *p = key; p && *p; p++)
		if (*p == '/')
			*p = '!';
	return key;
}

static int find_target(struct host *h, const struct tool_globals *g, const char *word,
	const char *name, struct target *ret)
{
	struct target t = {.key = name ? name : word, .netns = word};

	if (!strchr(word, '/')) {
		int r = find_container(h, g, word, &t);
		if (r >= 0)
			r = tool_root(&h->arena, g, &t.root);
		if (r < 0)
			return r;
	} else if (!name) {
		t.key = path_key(h, word);
	}
	*ret = t;
	return t.key ? 0 : -ENOMEM;
}

int tool_parse_ports(struct host *h, const struct option_list *texts, struct attach_request *q)
{
	struct port *ports = arena_array(&h->arena, texts->n + 1, sizeof(*ports));
	size_t all = 0;

	if (!ports)
		return -ENOMEM;
	for (size_t i = 0; i < texts->n; i++) {
		int r = port_parse(texts->v[i], &ports[i]);
		if (r < 0)
			return r;
		all += ports[i].count;
	}
	if (all > PORTS_MAX)
		return err_set(EINVAL, "-p: found %zu ports, expected at most %d", all, PORTS_MAX);
	q->ports = ports;
	q->port_count = texts->n;
	return 0;
}

static int parse_addresses(const struct option_list *texts, struct attach_request *q)
{
	for (size_t i = 0; i < texts->n; i++) {
		struct ip ip;

		if (ip_parse(texts->v[i], &ip) < 0)
			return err_set(EINVAL, "--ip %.100s: expected an address", texts->v[i]);
		if (q->addresses[ip.family == AF_INET6].family)
			return err_set(EINVAL, "--ip %.100s: there is one of its family already",
				texts->v[i]);
		q->addresses[ip.family == AF_INET6] = ip;
	}
	return 0;
}

/*
 * Checks the names of --alias. The list must not be full, because the entry behind the last name
 * has to be NULL.
 */
static int check_aliases(const struct option_list *names)
{
	int r = names->n < ARRAY_SIZE(names->v) ? 0 : err_set(E2BIG, "--alias: too many names");

	for (size_t i = 0; r >= 0 && i < names->n; i++)
		r = names_check(names->v[i], "--alias");
	return r;
}

/*
 * Attaches the container. A microVM is then told of the interface; if it cannot take the interface,
 * the attachment is undone.
 */
static int attach(struct host *h, const struct tool_globals *g, const struct attach_request *q,
	const struct attachment **ret)
{
	int r = attachment_make(h, q, ret);

	if (r < 0 || !q->microvm || h->dry_run)
		return r;
	r = microvm_add(h, g, q->key, (*ret)->interface);
	if (r >= 0)
		return 0;
	_cleanup_free_ char *why = strdup(err_msg());
	if (attachment_undo(h, *ret) < 0)
		return err_ctx(r, "%s; undoing it failed too", why ? why : "?");
	return err_set(-r, "%s", why ? why : "out of memory");
}

/*
 * Undoes an attachment. If the container is a running microVM that got the interface while it ran,
 * the microVM's guest first has to stop using the interface.
 */
static int detach(struct host *h, const struct tool_globals *g, const struct attachment *a)
{
	struct target t = {.key = a->key};

	if (a->microvm && !h->dry_run) {
		if (find_container(h, g, a->key, &t) < 0) {
			err_clear();
		} else {
			int r = microvm_remove(h, g, a->key, a->interface);
			if (r < 0)
				return r;
		}
	}
	return attachment_undo(h, a);
}

int tool_attach(
	const struct tool_command *self, const struct tool_globals *g, int argc, char **argv)
{
	_cleanup_json_out_ struct json_out out = {0};
	_cleanup_host_ struct host h = HOST_INIT;
	struct tool_arguments args = {.min = 2, .max = 2};
	struct host_options host = g->host;
	struct option_list ports = {0}, addresses = {0}, aliases = {0};
	struct attach_request q = {0};
	const struct attachment *a;
	const char *name = NULL;
	bool json = false, dry_run = false;
	struct target t;
	const struct option_def defs[] = {
		{"publish", 'p', OPTION_LIST, &ports, "PORTS",
			"let ports of the host lead to ports of the container"},
		{"ip", 0, OPTION_LIST, &addresses, "ADDRESS",
			"the container's address (default: a free one of the pool)"},
		{"alias", 0, OPTION_LIST, &aliases, "NAME",
			"a name by which other containers of the network find it, besides its ID"},
		{"interface", 0, OPTION_STRING, &q.interface, "NAME",
			"the interface's name in the container (default: eth0, eth1, ...)"},
		{"name", 0, OPTION_STRING, &name, "ID",
			"with a PATH: what `detach` calls it (default: the path)"},
		TOOL_OPTION_JSON(json),
		TOOL_OPTION_DRY_RUN(dry_run),
		{0},
	};

	int r = tool_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	host.dry_run = dry_run;
	r = host_open(&h, &host);
	if (r >= 0)
		r = find_target(&h, g, args.v[1], name, &t);
	if (r >= 0)
		r = tool_parse_ports(&h, &ports, &q);
	if (r >= 0)
		r = parse_addresses(&addresses, &q);
	if (r >= 0)
		r = check_aliases(&aliases);
	if (r < 0)
		return r;
	q.network = args.v[0];
	q.names = aliases.v;
	q.key = t.key;
	q.root = t.root;
	q.netns = t.netns;
	q.microvm = t.microvm;
	r = attach(&h, g, &q, &a);
	if (r < 0 || dry_run || !json)
		return r < 0 ? r : tool_finish(&h, json);
	r = json_out_init(&out, true);
	if (r < 0)
		return r;
	attachment_json(&out, NULL, a);
	return program_print_json(&out);
}

/*
 * Says whether the attachment belongs to another container than *t, one with the same ID below
 * another --root. If the record has no root, the function returns false if the record names the
 * namespace by a path that the user has given, because the path does not tell the two containers
 * apart. It also returns false if the namespace has gone, because the record is then of a container
 * that has ended.
 */
static bool is_of_another(const struct attachment *a, const struct target *t)
{
	uint64_t cookie;

	if (a->root && t->root)
		return tool_of_another_root(a, t->root);
	if (!t->netns || !str_starts(a->netns, "/proc/") || streq(a->netns, t->netns))
		return false;
	const bool lives = netns_cookie(a->netns, &cookie) >= 0;
	err_clear();
	return lives;
}

/* Detaches those of the n attachments that are of the container `word` and have the interface. */
static int detach_some(struct host *h, const struct tool_globals *g, const char *word,
	const char *interface, const struct attachment *const *found, size_t n)
{
	struct target t = {.key = word};
	const struct attachment *other = NULL;
	size_t own = 0;
	int r = strchr(word, '/') ? 0 : tool_root(&h->arena, g, &t.root);

	if (r < 0)
		return r;
	/* For the path of a namespace, or a container that has ended, t.netns stays NULL. */
	if (t.root && find_container(h, g, word, &t) < 0)
		err_clear();
	for (size_t i = 0; i < n; i++) {
		if (interface && !streq(interface, found[i]->interface))
			continue;
		if (is_of_another(found[i], &t)) {
			other = found[i];
			continue;
		}
		own++;
		r = detach(h, g, found[i]);
		if (r < 0)
			return r;
	}
	if (!other || own)
		return 0;
	return err_set(ENOENT,
		"container \"%s\" below %s is not attached, but another container with this ID "
		"is%s%s: give its --root",
		word, g->root, other->root ? ", below " : "", other->root ? other->root : "");
}

int tool_detach(
	const struct tool_command *self, const struct tool_globals *g, int argc, char **argv)
{
	_cleanup_host_ struct host h = HOST_INIT;
	struct tool_arguments args = {.min = 1, .max = 2};
	struct host_options host = g->host;
	bool all = false, json = false, dry_run = false;
	const char *interface = NULL;
	const struct attachment **found;
	size_t n;
	const struct option_def defs[] = {
		{"all", 'a', OPTION_FLAG, &all, NULL, "from all networks"},
		{"interface", 0, OPTION_STRING, &interface, "NAME",
			"this interface only (default: all that are in the network)"},
		TOOL_OPTION_JSON(json),
		TOOL_OPTION_DRY_RUN(dry_run),
		{0},
	};

	int r = tool_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	if (args.n != (all ? 1 : 2))
		return err_set(EINVAL, "usage: caisson net detach NETWORK CONTAINER|PATH, or "
				       "caisson net detach --all CONTAINER|PATH");
	host.dry_run = dry_run;
	r = host_open(&h, &host);
	const char *word = args.v[args.n - 1];
	const char *key = strchr(word, '/') ? path_key(&h, word) : word;
	if (r >= 0 && !key)
		r = -ENOMEM;
	if (r >= 0)
		r = attachment_list(&h, key, all ? NULL : args.v[0], &found, &n);
	if (r >= 0)
		r = detach_some(&h, g, word, interface, found, n);
	if (r >= 0 && n == 0)
		r = host_tidy(&h);
	return r < 0 ? r : tool_finish(&h, json);
}
