/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls the CNI plug-ins of a list on the host: ADD in the order of the list, DEL in the opposite
 * order.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/dir.h"
#include "base/helper.h"
#include "network/plugins.h"

#define ANSWER_MAX (1u << 20)
#define RECORD_MAX (4u << 20)
#define RECORD_END ".cni"

/* An interface of a container that the plug-ins of a list have made or are to make. */
struct chain {
	const char *id, *netns, *interface;
	uint64_t cookie; /* netns_cookie() of the namespace; 0: unknown */
	/* path of the network namespace, as the plug-ins get it; "": the namespace has ended */
	const char *now;
	const struct json *list, *wishes, *result;
};

/* --- calling one plug-in --- */

static int set_environment(const struct chain *c, const char *command)
{
	const char *const values[][2] = {{"CNI_COMMAND", command}, {"CNI_CONTAINERID", c->id},
		{"CNI_NETNS", c->now}, {"CNI_IFNAME", c->interface}, {"CNI_PATH", plugins_path()},
		{"CNI_ARGS", "IgnoreUnknown=1"}};

	for (size_t i = 0; i < ARRAY_SIZE(values); i++)
		if (setenv(values[i][0], values[i][1], 1) < 0)
			return err_set(ENOMEM, "no memory");
	return 0;
}

/*
 * Sets the error message for a plug-in that has failed: its error answer, or else the last line
 * that it wrote to standard error.
 */
static int failed(struct arena *a, const struct helper_streams *s, const char *type,
	const struct strbuf *answer, const char *command)
{
	_cleanup_strbuf_ struct strbuf lines = {0};
	char said[600] = "";
	struct json *j;

	if (json_parse(a, strbuf_str(answer), answer->len, type, &j) >= 0 &&
		json_get_str(j, "msg")) {
		const char *details = json_get_str(j, "details");

		str_clean(
			said, sizeof(said), json_get_str(j, "msg"), strlen(json_get_str(j, "msg")));
		if (details && *details && strlen(said) < sizeof(said) - 4) {
			size_t len = strlen(said);

			memcpy(said + len, ": ", 3);
			str_clean(said + len + 2, sizeof(said) - len - 2, details, strlen(details));
		}
	} else if (helper_read(s, 2, &lines, 65536) >= 0) {
		const char *last = helper_last_line(&lines);

		str_clean(said, sizeof(said), last, strlen(last));
	}
	err_clear();
	return err_set(EIO, "CNI plug-in %s: %s failed: %s", type, command,
		said[0] ? said : "it does not say why");
}

/*
 * Calls one plug-in with the command ADD or DEL. *ret is the plug-in's answer, or NULL if it gave
 * none.
 */
static int call_plugin(struct arena *a, const struct chain *c, const struct json *plugin,
	const char *command, const struct json **ret)
{
	_cleanup_helper_streams_ struct helper_streams s = HELPER_STREAMS_INIT;
	const struct plugins_call call = {c->list, plugin, c->wishes, c->result};
	_cleanup_json_out_ struct json_out o = {0};
	_cleanup_strbuf_ struct strbuf answer = {0};
	const char *type = json_get_str(plugin, "type"), *text, *argv[2] = {NULL, NULL};
	struct json *j = NULL;
	size_t len;
	int status;

	int r = plugins_find_program(a, type, &argv[0]);
	if (r < 0)
		return r;
	r = json_out_init(&o, false);
	if (r >= 0)
		r = plugins_write_conf(&o, &call);
	if (r >= 0)
		r = json_out_text(&o, &text, &len);
	if (r >= 0)
		r = helper_streams_open(&s, text, len);
	if (r >= 0)
		r = set_environment(c, command);
	if (r >= 0)
		r = helper_run(&s, argv[0], argv, &status);
	if (r >= 0)
		r = helper_read(&s, 1, &answer, ANSWER_MAX);
	if (r < 0)
		return err_ctx(r, "CNI plug-in %s", type);
	if (status != 0)
		return failed(a, &s, type, &answer, command);
	if (answer.len)
		r = json_parse(a, answer.s, answer.len, "its answer", &j);
	*ret = j;
	return r < 0 ? err_ctx(r, "CNI plug-in %s", type) : 0;
}

/* --- calling all plug-ins of a list --- */

/*
 * Fails if the program of a plug-in of the list is missing. The caller calls this function before
 * it changes anything.
 */
static int check_programs(struct arena *a, const struct chain *c)
{
	int r = 0;

	for (const struct json *p = json_get(c->list, "plugins")->first; r >= 0 && p; p = p->next) {
		const char *path;

		r = plugins_find_program(a, json_get_str(p, "type"), &path);
	}
	return r;
}

static int add_all(struct arena *a, struct chain *c)
{
	int r = 0;

	for (const struct json *p = json_get(c->list, "plugins")->first; r >= 0 && p; p = p->next) {
		const struct json *answer;

		r = call_plugin(a, c, p, "ADD", &answer);
		if (r >= 0 && !answer)
			r = err_set(EINVAL, "CNI plug-in %s: ADD: it answers nothing",
				json_get_str(p, "type"));
		if (r >= 0)
			c->result = answer;
	}
	return r;
}

/* Calls DEL of the plug-ins from p to the end of the list, in reverse order. */
static int delete_from(struct arena *a, const struct chain *c, const struct json *p, int depth)
{
	const struct json *answer;
	int after = 0, r;

	if (!p)
		return 0;
	if (depth == JSON_MAX_DEPTH)
		return err_set(E2BIG, "more than %d CNI plug-ins in a list", JSON_MAX_DEPTH);
	after = delete_from(a, c, p->next, depth + 1);
	r = call_plugin(a, c, p, "DEL", &answer);
	return after < 0 ? after : r;
}

static int delete_all(struct arena *a, const struct chain *c)
{
	return delete_from(a, c, json_get(c->list, "plugins")->first, 0);
}

/* --- the record of an interface, in the state directory --- */

static void record_path(const struct chain *c, char ret[CONTAINER_KEY_MAX + IFNAMSIZ + 24])
{
	snprintf(ret, CONTAINER_KEY_MAX + IFNAMSIZ + 24, "containers/%s/%s" RECORD_END, c->id,
		c->interface);
}

static int write_record(struct host *h, const struct chain *c)
{
	char path[CONTAINER_KEY_MAX + IFNAMSIZ + 24];
	_cleanup_json_out_ struct json_out o = {0};
	const char *text;
	size_t len;

	int r = json_out_init(&o, false);
	if (r < 0)
		return r;
	json_out_object(&o, NULL);
	json_out_str(&o, "netns", c->netns);
	json_out_u64(&o, "cookie", c->cookie);
	json_out_str(&o, "interface", c->interface);
	json_out_node(&o, "runtimeConfig", c->wishes);
	json_out_node(&o, "list", c->list);
	if (c->result)
		json_out_node(&o, "result", c->result);
	json_out_end_object(&o);
	r = json_out_text(&o, &text, &len);
	record_path(c, path);
	*strrchr(path, '/') = '\0';
	if (r >= 0 && ((mkdirat(h->state_dir, "containers", 0755) < 0 && errno != EEXIST) ||
			      (mkdirat(h->state_dir, path, 0755) < 0 && errno != EEXIST)))
		return err_sys("make the directory %s", path);
	record_path(c, path);
	return r < 0 ? r : fd_replace_file(h->state_dir, path, text, len, 0600);
}

static int remove_record(struct host *h, const struct chain *c)
{
	char path[CONTAINER_KEY_MAX + IFNAMSIZ + 24];

	record_path(c, path);
	if (unlinkat(h->state_dir, path, 0) < 0 && errno != ENOENT)
		return err_sys("remove %s", path);
	*strrchr(path, '/') = '\0';
	if (unlinkat(h->state_dir, path, AT_REMOVEDIR) == 0)
		(void)unlinkat(h->state_dir, "containers", AT_REMOVEDIR);
	return 0;
}

static int read_record(struct host *h, const char *id, const char *file, struct chain *ret)
{
	const char *path = arena_printf(&h->arena, "containers/%s/%s", id, file);
	_cleanup_strbuf_ struct strbuf text = {0};
	struct json *j;

	if (!path)
		return -ENOMEM;
	int r = fd_read_regular(h->state_dir, path, &text, RECORD_MAX);
	if (r >= 0)
		r = json_parse(&h->arena, strbuf_str(&text), text.len, path, &j);
	if (r < 0)
		return r;
	*ret = (struct chain){.id = id,
		.netns = json_get_str(j, "netns"),
		.interface = json_get_str(j, "interface"),
		.list = json_get(j, "list"),
		.wishes = json_get(j, "runtimeConfig"),
		.result = json_get(j, "result")};
	if (!ret->netns || !ret->interface || strchr(ret->interface, '/') || !ret->list ||
		!ret->wishes)
		return err_set(
			EINVAL, "%s: a member is missing or malformed: the file is damaged", path);
	/* A record that an older caisson has written has no cookie. */
	if (json_get_u64(j, "cookie", &ret->cookie) < 0)
		ret->cookie = 0;
	return plugins_check_list(ret->list, path);
}

/* --- what the user wants of the plug-ins: the member runtimeConfig --- */

static void put_ports(struct json_out *o, const struct plugins_request *q)
{
	char text[IP_TEXT];

	json_out_array(o, "portMappings");
	for (size_t i = 0; i < q->port_count; i++)
		for (unsigned k = 0; k < q->ports[i].count; k++) {
			const struct port *p = &q->ports[i];

			json_out_object(o, NULL);
			json_out_u64(o, "hostPort", p->host_port + k);
			json_out_u64(o, "containerPort", p->port + k);
			json_out_str(o, "protocol", port_protocol(p->protocol));
			if (p->host.family)
				json_out_str(o, "hostIP", ip_text(&p->host, text));
			json_out_end_object(o);
		}
	json_out_end_array(o);
}

static void put_ips(struct json_out *o, const struct plugins_request *q)
{
	char text[IP_TEXT];

	json_out_array(o, "ips");
	for (size_t i = 0; i < ARRAY_SIZE(q->addresses); i++)
		if (q->addresses[i].family)
			json_out_str(o, NULL, ip_text(&q->addresses[i], text));
	json_out_end_array(o);
}

static int check_capable(const struct chain *c, const char *capability, const char *option)
{
	for (const struct json *p = json_get(c->list, "plugins")->first; p; p = p->next)
		if (json_get_true(json_get(p, "capabilities"), capability))
			return 0;
	return err_set(EINVAL,
		"%s: no plug-in of the CNI list %s has the capability %s, which that needs", option,
		json_get_str(c->list, "name"), capability);
}

static int make_wishes(struct host *h, const struct plugins_request *q, struct chain *c)
{
	bool ips = q->addresses[0].family || q->addresses[1].family;
	_cleanup_json_out_ struct json_out o = {0};
	const char *text;
	struct json *j;
	char mac[IP_TEXT];
	size_t len;
	int r = q->port_count ? check_capable(c, "portMappings", "-p") : 0;

	if (r >= 0 && ips)
		r = check_capable(c, "ips", "ip=");
	if (r >= 0 && q->mac)
		r = check_capable(c, "mac", "mac=");
	if (r >= 0)
		r = json_out_init(&o, false);
	if (r < 0)
		return r;
	json_out_object(&o, NULL);
	if (q->port_count)
		put_ports(&o, q);
	if (ips)
		put_ips(&o, q);
	if (q->mac) {
		snprintf(mac, sizeof(mac), STR_MAC_FORMAT, STR_MAC_ARGS(q->mac));
		json_out_str(&o, "mac", mac);
	}
	json_out_end_object(&o);
	r = json_out_text(&o, &text, &len);
	if (r >= 0)
		r = json_parse(&h->arena, text, len, "runtimeConfig", &j);
	c->wishes = r < 0 ? NULL : j;
	return r;
}

/* --- the functions of plugins.h: ADD and DEL of a whole list --- */

/* Calls DEL of all plug-ins after a failed ADD, and keeps the error message of ADD. */
static int undo_add(struct host *h, const struct chain *c, int r)
{
	_cleanup_free_ char *message = strdup(err_msg());

	if (delete_all(&h->arena, c) < 0)
		return err_ctx(r, "%s; undoing it failed too", message ? message : "?");
	int removed = remove_record(h, c);
	return removed < 0 ? removed : err_set(-r, "%s", message ? message : "no memory");
}

/*
 * Fails if the container's ID is longer than those for which caisson keeps records, because
 * plugins_remove() would not find the container's record.
 */
static int check_id(const struct plugins_request *q)
{
	size_t len = strlen(q->id);

	if (len <= CONTAINER_KEY_MAX)
		return 0;
	return err_set(EINVAL,
		"--network " PLUGINS_PREFIX "%.100s: the container's ID has %zu characters, "
		"expected at most %d: choose a shorter ID",
		q->list, len, CONTAINER_KEY_MAX);
}

int plugins_add(struct host *h, const struct plugins_request *q, struct plugins_result *ret)
{
	struct chain c = {
		.id = q->id, .netns = q->recorded ? q->recorded : q->netns, .now = q->netns};
	char interface[IFNAMSIZ];

	*ret = (struct plugins_result){0};
	int r = check_id(q);
	if (r >= 0)
		r = plugins_find_list(&h->arena, q->list, &c.list);
	if (r >= 0)
		r = check_programs(&h->arena, &c);
	if (r >= 0)
		r = make_wishes(h, q, &c);
	if (r >= 0)
		r = netns_pick_name(q->netns, "eth%d", interface);
	c.interface = interface;
	if (r >= 0)
		r = netns_cookie(q->netns, &c.cookie);
	if (r >= 0)
		r = write_record(h, &c);
	if (r < 0)
		return r;
	r = add_all(&h->arena, &c);
	if (r >= 0)
		r = plugins_read_result(c.result, ret);
	if (r >= 0)
		r = write_record(h, &c);
	if (r < 0)
		return undo_add(h, &c, r);
	ret->a.network = arena_printf(&h->arena, PLUGINS_PREFIX "%s", q->list);
	ret->a.key = q->id;
	return ret->a.network ? 0 : -ENOMEM;
}

/*
 * Chooses the path of the namespace that DEL gets. The recorded path /proc/PID/ns/net may lead to
 * another namespace by now, even to the host's, because the kernel gives the PID of an ended
 * process to a new one. Without a cookie nobody can tell. The process may also end while the
 * plug-ins run, so they get the path of the descriptor whose cookie was compared: *ret_fd, which
 * the caller closes. If the namespace has ended, DEL gets no path, as the CNI specification allows.
 */
static int choose_namespace(struct host *h, struct chain *c, int *ret_fd)
{
	uint64_t cookie;

	c->now = "";
	*ret_fd = c->cookie ? netns_open_cookie(c->netns, &cookie) : -EBADF;
	if (*ret_fd < 0 || cookie != c->cookie) {
		err_clear();
		return 0;
	}
	c->now = str_starts(c->netns, "/proc/")
			 ? arena_printf(&h->arena, "/proc/%d/fd/%d", getpid(), *ret_fd)
			 : c->netns;
	return c->now ? 0 : -ENOMEM;
}

static int remove_one(struct host *h, const char *id, const char *file, const char *record)
{
	_cleanup_fd_ int netns = -EBADF;
	struct chain c;
	int r = read_record(h, id, file, &c);

	if (r < 0 || (record && !streq(record, c.netns)))
		return r;
	r = choose_namespace(h, &c, &netns);
	if (r >= 0)
		r = delete_all(&h->arena, &c);
	return r < 0 ? r : remove_record(h, &c);
}

int plugins_remove(struct host *h, const char *id, const char *record)
{
	_cleanup_free_ char *first = NULL;
	int r = 0, result = 0;
	struct dirent *e;

	if (!*id || *id == '.' || strchr(id, '/') || strlen(id) > CONTAINER_KEY_MAX)
		return 0;
	const char *path = arena_printf(&h->arena, "containers/%s", id);
	int fd = path ? openat(h->state_dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -ENOMEM;
	DIR *d = dir_take_fd(fd);
	if (!d)
		return !path ? -ENOMEM : errno == ENOENT ? 0 : err_sys("list %s", path);
	while ((e = readdir(d))) {
		size_t len = strlen(e->d_name), end = sizeof(RECORD_END) - 1;

		if (len <= end || !streq(e->d_name + len - end, RECORD_END))
			continue;
		r = remove_one(h, id, e->d_name, record);
		if (r < 0 && result == 0) {
			result = r;
			first = strdup(err_msg());
		}
	}
	closedir(d);
	return result < 0 ? err_set(-result, "%s", first ? first : "no memory") : 0;
}
