/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds and reads lists of CNI plug-ins, writes the configuration that a plug-in of a list gets,
 * and reads its answer.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "network/plugins.h"

#define LIST_DIRECTORY "/etc/cni/net.d"
#define PLUGIN_DIRECTORIES "/opt/cni/bin:/usr/lib/cni"
#define LIST_MAX (1u << 20)

/* --- finding plug-ins and lists --- */

static const char *variable(const char *name, const char *fallback)
{
	const char *value = getenv(name);

	return value && *value ? value : fallback;
}

const char *plugins_path(void)
{
	return variable("CNI_PATH", PLUGIN_DIRECTORIES);
}

int plugins_find_program(struct arena *a, const char *type, const char **ret)
{
	char *copy = arena_strdup(a, plugins_path()), *save;

	for (char *d = copy ? strtok_r(copy, ":", &save) : NULL; d;
		d = strtok_r(NULL, ":", &save)) {
		const char *path = arena_printf(a, "%s/%s", d, type);

		if (!path)
			return -ENOMEM;
		if (access(path, X_OK) == 0) {
			*ret = path;
			return 0;
		}
	}
	return copy ? err_set(ENOENT,
			      "CNI plug-in %.100s is not in %s: install it (Debian: "
			      "containernetworking-plugins), or set CNI_PATH",
			      type, plugins_path())
		    : -ENOMEM;
}

static bool is_list_file(const char *name, bool *ret_single)
{
	const char *dot = strrchr(name, '.');

	if (!dot || dot == name || name[0] == '.')
		return false;
	*ret_single = !streq(dot, ".conflist");
	return streq(dot, ".conflist") || streq(dot, ".conf") || streq(dot, ".json");
}

static int filter(const struct dirent *e)
{
	bool single;

	return is_list_file(e->d_name, &single);
}

/*
 * Makes a list of CNI plug-ins from the configuration of a single plug-in, which becomes the only
 * entry of the list.
 */
static int wrap(struct arena *a, struct json *plugin, const struct json **ret)
{
	struct json *list = arena_alloc(a, sizeof(*list)), *plugins = arena_alloc(a, sizeof(*list)),
		    *element = arena_alloc(a, sizeof(*list));
	struct json **end;

	if (!list || !plugins || !element)
		return -ENOMEM;
	*list = (struct json){.type = JSON_OBJECT};
	end = &list->first;
	for (const char *const *key = (const char *const[]){"cniVersion", "name", NULL}; *key;
		key++) {
		const struct json *member = json_get(plugin, *key);
		struct json *copy = member ? arena_alloc(a, sizeof(*copy)) : NULL;

		if (!copy)
			continue;
		*copy = *member;
		copy->next = NULL;
		*end = copy;
		end = &copy->next;
		list->count++;
	}
	*element = *plugin;
	element->key = NULL;
	element->next = NULL;
	*plugins =
		(struct json){.type = JSON_ARRAY, .count = 1, .key = "plugins", .first = element};
	*end = plugins;
	list->count++;
	*ret = list;
	return 0;
}

/*
 * Reads a list of CNI plug-ins from a file. *ret is NULL if the list in the file has another name
 * than `name`.
 */
static int read_list(
	struct arena *a, int dir, const char *file, const char *name, const struct json **ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	struct json *j;
	bool single;

	*ret = NULL;
	int r = fd_read_regular(dir, file, &text, LIST_MAX);
	if (r >= 0)
		r = json_parse(a, strbuf_str(&text), text.len, file, &j);
	if (r < 0)
		return r;
	if (!json_get_str(j, "name") || !streq(json_get_str(j, "name"), name))
		return 0;
	(void)is_list_file(file, &single);
	if (single && !json_get(j, "plugins"))
		r = wrap(a, j, ret);
	else
		*ret = j;
	return r < 0 ? r : plugins_check_list(*ret, file);
}

int plugins_find_list(struct arena *a, const char *name, const struct json **ret)
{
	const char *path = variable("NETCONFPATH", LIST_DIRECTORY);
	_cleanup_fd_ int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent **files;
	int r = 0;

	int n = dir < 0 ? -1 : scandir(path, &files, filter, alphasort);
	*ret = NULL;
	if (n < 0 && errno != ENOENT)
		return err_sys("list %s", path);
	/*
	 * An error in a file is dropped unless the file has the list that is looked for, because a
	 * broken file with another list must not matter.
	 */
	for (int i = 0; i < n; i++) {
		if (!*ret) {
			r = read_list(a, dir, files[i]->d_name, name, ret);
			if (r < 0 && !*ret)
				err_clear();
		}
		free(files[i]);
	}
	if (n >= 0)
		free(files);
	if (*ret)
		return r;
	return err_set(ENOENT,
		"--network " PLUGINS_PREFIX "%.100s: no file in %s has a CNI list of that name: "
		"expected a file such as 10-%.100s.conflist",
		name, path, name);
}

int plugins_check_list(const struct json *list, const char *what)
{
	const struct json *plugins = json_get(list, "plugins");

	if (!json_get_str(list, "cniVersion"))
		return err_set(
			EINVAL, "%s: cniVersion: missing, expected one such as \"1.0.0\"", what);
	if (!json_get_str(list, "name") || !*json_get_str(list, "name"))
		return err_set(EINVAL, "%s: name: missing", what);
	if (!plugins || plugins->type != JSON_ARRAY || !plugins->count)
		return err_set(EINVAL, "%s: plugins: expected an array with plug-ins", what);
	for (const struct json *p = plugins->first; p; p = p->next) {
		const char *type = json_get_str(p, "type");

		if (!type || !*type || *type == '.' || strchr(type, '/'))
			return err_set(EINVAL,
				"%s: plugins: type: found \"%.100s\", expected the name of a "
				"plug-in",
				what, type ? type : "");
	}
	return 0;
}

/* --- the configuration that a plug-in gets --- */

static bool is_first_route(const struct json *routes, const struct json *route)
{
	const char *to = json_get_str(route, "dst");

	for (const struct json *r = routes->first; to && r != route; r = r->next)
		if (json_get_str(r, "dst") && streq(json_get_str(r, "dst"), to))
			return false;
	return true;
}

/*
 * Writes the member "ipam" of a plug-in's configuration, with each route only once. The plug-in
 * "bridge" of the CNI project fails if a default route is there twice, and fails only after it has
 * made its interfaces.
 */
static void put_ipam(struct json_out *o, const struct json *ipam)
{
	json_out_object(o, ipam->key);
	for (const struct json *m = ipam->first; m; m = m->next) {
		if (!streq(m->key, "routes") || m->type != JSON_ARRAY) {
			json_out_node(o, m->key, m);
			continue;
		}
		json_out_array(o, "routes");
		for (const struct json *r = m->first; r; r = r->next)
			if (is_first_route(m, r))
				json_out_node(o, NULL, r);
		json_out_end_array(o);
	}
	json_out_end_object(o);
}

static void put_wishes(struct json_out *o, const struct plugins_call *c)
{
	const struct json *can = json_get(c->plugin, "capabilities");

	json_out_object(o, "runtimeConfig");
	for (const struct json *w = c->wishes ? c->wishes->first : NULL; w; w = w->next)
		if (json_get_true(can, w->key))
			json_out_node(o, w->key, w);
	json_out_end_object(o);
}

int plugins_write_conf(struct json_out *o, const struct plugins_call *c)
{
	static const char *const own[] = {
		"cniVersion", "name", "capabilities", "runtimeConfig", "prevResult"};

	json_out_object(o, NULL);
	json_out_str(o, "cniVersion", json_get_str(c->list, "cniVersion"));
	json_out_str(o, "name", json_get_str(c->list, "name"));
	for (const struct json *m = c->plugin->first; m; m = m->next) {
		bool is_own = false;

		for (size_t i = 0; i < ARRAY_SIZE(own); i++)
			is_own = is_own || streq(m->key, own[i]);
		if (is_own)
			continue;
		if (streq(m->key, "ipam") && m->type == JSON_OBJECT)
			put_ipam(o, m);
		else
			json_out_node(o, m->key, m);
	}
	put_wishes(o, c);
	if (c->previous)
		json_out_node(o, "prevResult", c->previous);
	json_out_end_object(o);
	return o->failed;
}

/* --- the answer of a plug-in --- */

static int read_address(const struct json *j, struct attachment *a)
{
	const char *address = json_get_str(j, "address"), *gateway = json_get_str(j, "gateway");
	size_t i = a->address_count;
	unsigned prefix;

	if (!address || ip_parse_subnet(address, &a->addresses[i], &prefix) < 0 ||
		(gateway && ip_parse(gateway, &a->gateways[i]) < 0))
		return err_set(EINVAL, "ips: found \"%.100s\", expected an address with a prefix",
			address ? address : "");
	/*
	 * Only the first address of each family is taken, because the container's files hosts and
	 * resolv.conf name one address of each family.
	 */
	for (size_t k = 0; k < i; k++)
		if (a->addresses[k].family == a->addresses[i].family)
			return 0;
	a->prefixes[i] = (uint8_t)prefix;
	a->address_count++;
	return 0;
}

int plugins_read_result(const struct json *answer, struct plugins_result *ret)
{
	const struct json *ips = json_get(answer, "ips"), *dns = json_get(answer, "dns");
	const struct json *servers = dns ? json_get(dns, "nameservers") : NULL;
	int r = 0;

	if (!json_get_str(answer, "cniVersion"))
		return err_set(EINVAL, "its answer has no cniVersion");
	if (ips && ips->type != JSON_ARRAY)
		return err_set(EINVAL, "ips: expected an array");
	for (const struct json *j = ips ? ips->first : NULL;
		r >= 0 && j && ret->a.address_count < ARRAY_SIZE(ret->a.addresses); j = j->next)
		r = read_address(j, &ret->a);
	if (r >= 0 && servers && servers->type == JSON_ARRAY && servers->count) {
		struct ip ip;

		if (servers->first->type != JSON_STRING || ip_parse(servers->first->text, &ip) < 0)
			return err_set(EINVAL, "dns: nameservers: expected addresses");
		ret->server = servers->first->text;
	}
	return r;
}
