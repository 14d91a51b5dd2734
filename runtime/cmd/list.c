/* SPDX-License-Identifier: Apache-2.0 */
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/user.h"
#include "cmd/cmd.h"

struct listing {
	const char *root;
	bool quiet;
	struct strbuf *table; /* output of the command: lines of the table, or IDs only */
	struct user_names names;
	struct json_out *json;
};

static int add_line(struct listing *l, struct container *c, const char *status, pid_t pid)
{
	const char *path = c->bundle ? c->bundle : "-", *when = c->created ? c->created : "-";
	char bundle[PATH_MAX], created[64];

	str_clean(bundle, sizeof(bundle), path, strlen(path));
	str_clean(created, sizeof(created), when, strlen(when));
	return strbuf_addf(l->table, "%-24s %-8d %-9s %-32s %-31s %s\n", c->id, pid, status, bundle,
		created, user_name_or_number(&l->names, c->owner));
}

static void add_object(struct listing *l, struct container *c, const char *status, pid_t pid)
{
	struct json_out *o = l->json;

	json_out_object(o, NULL);
	json_out_str(o, "ociVersion", c->oci_version ? c->oci_version : SPEC_VERSION);
	json_out_str(o, "id", c->id);
	json_out_i64(o, "pid", pid);
	json_out_str(o, "status", status);
	json_out_str(o, "bundle", c->bundle ? c->bundle : "");
	json_out_str(o, "rootfs", c->rootfs ? c->rootfs : "");
	json_out_str(o, "created", c->created ? c->created : "");
	if (c->annotations)
		json_out_node(o, "annotations", c->annotations);
	json_out_str(o, "owner", user_name_or_number(&l->names, c->owner));
	json_out_end_object(o);
}

static int add_id(struct listing *l, const char *id)
{
	int r = strbuf_add(l->table, id, strlen(id));

	return r < 0 ? r : strbuf_add(l->table, "\n", 1);
}

static int list_add(void *data, int root_dir, const char *id)
{
	struct listing *l = data;
	_cleanup_container_ struct container c = CONTAINER_INIT;
	enum container_status status = CONTAINER_STOPPED;

	int r = container_open(&c, l->root, id, false);
	if (r >= 0)
		r = container_status(&c, &status);
	/*
	 * Skips a container that was deleted in the meantime, and a directory that does not belong
	 * to a container.
	 */
	if (r == -ENOENT || c.dir < 0)
		return 0;
	/*
	 * A directory without state.json is skipped: either it does not belong to a container, or a
	 * `create` has left it that was killed before it had made anything else.
	 */
	if (r >= 0 && !c.bundle && status != CONTAINER_CREATING) {
		log_warn("%s/%s is not a container's directory: it has no state.json", l->root, id);
		return 0;
	}
	/*
	 * If a container's state.json is damaged, the error is only logged as a warning, so that
	 * the other containers are still listed.
	 */
	if (r < 0) {
		log_warn("%s", err_msg());
		return 0;
	}
	if (l->quiet)
		return add_id(l, id);
	pid_t pid = status == CONTAINER_STOPPED ? 0 : c.pid;
	if (l->json) {
		add_object(l, &c, container_status_name(status), pid);
		return 0;
	}
	return add_line(l, &c, container_status_name(status), pid);
}

/*
 * Adds a container's ID to the list. If the container's directory has a state.json, the file is not
 * read, so that listing many containers is fast.
 */
static int list_add_id(void *data, int root_dir, const char *id)
{
	char path[NAME_MAX + sizeof("/state.json")];

	/* An ID of more than NAME_MAX bytes cannot be the name of a directory. */
	if (strlen(id) <= NAME_MAX) {
		stpcpy(stpcpy(path, id), "/state.json");
		if (faccessat(root_dir, path, F_OK, 0) == 0)
			return add_id(data, id);
	}
	return list_add(data, root_dir, id);
}

int cmd_list(const struct command *self, const struct globals *g, int argc, char **argv)
{
	const char *format = "table";
	bool quiet = false;
	const struct option_def defs[] = {
		{"format", 'f', OPTION_STRING, &format, "table|json",
			"how to print it (default: table)"},
		{"quiet", 'q', OPTION_FLAG, &quiet, NULL, "only the IDs"},
		{0},
	};
	struct arguments args = {.max = 0};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf table = {0};
	_cleanup_json_out_ struct json_out json = {0};
	struct listing l = {.table = &table};

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	if (!streq(format, "table") && !streq(format, "json"))
		return err_set(EINVAL, "invalid format option: --format %s: expected table or json",
			format);
	if (streq(format, "json") && !quiet) {
		r = json_out_init(&json, false);
		l.json = &json;
		json_out_array(&json, NULL);
	} else if (!quiet) {
		r = strbuf_addf(&table, "%-24s %-8s %-9s %-32s %-31s %s\n", "ID", "PID", "STATUS",
			"BUNDLE", "CREATED", "OWNER");
	}
	l.quiet = quiet;
	if (r >= 0)
		r = container_root(&a, g->root, &l.root);
	if (r >= 0)
		r = container_each(l.root, quiet ? list_add_id : list_add, &l);
	user_names_release(&l.names);
	if (r < 0)
		return r;
	if (!l.json)
		return program_print(strbuf_str(&table), table.len);
	json_out_end_array(&json);
	return program_print_json(&json);
}
