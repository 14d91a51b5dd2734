/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements the command `inspect`, which says what is on the disk. The text form is made from the
 * JSON form, so that both say the same.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/path.h"
#include "inside/inside.h"

#define TEXT_MAX (64u << 10)

struct report {
	struct json_out *o;
	int failed;
};

static void put_clean(struct json_out *o, const char *key, const char *text)
{
	char clean[1024];

	if (!text || !*text)
		return;
	str_clean(clean, sizeof(clean), text, strlen(text));
	json_out_str(o, key, clean);
}

static void put_devices(const struct inside_guest *g, struct json_out *o)
{
	json_out_array(o, "devices");
	for (size_t i = 0; i < g->ndevices; i++) {
		const struct device *d = &g->devices[i];
		json_out_object(o, NULL);
		json_out_str(o, "device", d->name);
		json_out_u64(o, "size", d->size);
		put_clean(o, "type", d->type);
		put_clean(o, "partition_table", d->table);
		put_clean(o, "label", d->label);
		put_clean(o, "uuid", d->uuid);
		put_clean(o, "partition_uuid", d->part_uuid);
		put_clean(o, "partition_label", d->part_label);
		put_clean(o, "problem", d->note);
		json_out_end_object(o);
	}
	json_out_end_array(o);
}

static void put_release(struct inside_guest *g, struct json_out *o)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	static const char *const names[][2] = {{"distro", "ID"}, {"product_name", "PRETTY_NAME"},
		{"version", "VERSION_ID"}, {"codename", "VERSION_CODENAME"}};

	if (system_read(g, "/etc/os-release", &text, TEXT_MAX) < 0 &&
		system_read(g, "/usr/lib/os-release", &text, TEXT_MAX) < 0) {
		err_clear();
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		put_clean(
			o, names[i][0], system_variable(&g->arena, strbuf_str(&text), names[i][1]));
}

static void put_hostname(struct inside_guest *g, struct json_out *o)
{
	_cleanup_strbuf_ struct strbuf text = {0};

	if (system_read(g, "/etc/hostname", &text, 1024) < 0) {
		err_clear();
		return;
	}
	const char *line = strbuf_str(&text);
	put_clean(o, "hostname", arena_strndup(&g->arena, line, strcspn(line, "\n")));
}

/*
 * Writes an array of the names in the directory `dir` that begin with `prefix`. The names are
 * written without the prefix.
 */
static void put_names(struct inside_guest *g, struct json_out *o, const char *key, const char *dir,
	const char *prefix)
{
	struct dirent **list;
	_cleanup_fd_ int fd = path_open(g->root, dir, O_RDONLY | O_DIRECTORY);
	int n = fd < 0 ? -1 : scandirat(fd, ".", &list, NULL, versionsort);

	err_clear();
	json_out_array(o, key);
	for (int i = 0; i < n; i++) {
		const char *name = list[i]->d_name;
		if (name[0] != '.' && str_starts(name, prefix))
			put_clean(o, NULL, name + strlen(prefix));
		free(list[i]);
	}
	if (n >= 0)
		free(list);
	json_out_end_array(o);
}

static bool is_there(struct inside_guest *g, const char *path)
{
	_cleanup_fd_ int fd = path_open(g->root, path, O_PATH);

	err_clear();
	return fd >= 0;
}

static const char *boot_loader(struct inside_guest *g)
{
	static const char *const marks[][2] = {{"/boot/grub/grub.cfg", "grub"},
		{"/boot/grub2/grub.cfg", "grub"}, {"/boot/loader/loader.conf", "systemd-boot"},
		{"/boot/loader/entries", "boot-loader-specification"},
		{"/efi/loader/loader.conf", "systemd-boot"},
		{"/boot/efi/loader/loader.conf", "systemd-boot"},
		{"/boot/extlinux/extlinux.conf", "extlinux"}, {"/boot/extlinux.conf", "extlinux"},
		{"/etc/lilo.conf", "lilo"}};

	for (size_t i = 0; i < ARRAY_SIZE(marks); i++)
		if (is_there(g, marks[i][0]))
			return marks[i][1];
	return NULL;
}

static const char *package_manager(struct inside_guest *g, const char *format)
{
	static const char *const managers[][3] = {{"deb", "apt", "/usr/bin/apt-get"},
		{"rpm", "dnf", "/usr/bin/dnf"}, {"rpm", "zypper", "/usr/bin/zypper"},
		{"rpm", "yum", "/usr/bin/yum"}, {"apk", "apk", "/sbin/apk"}};

	for (size_t i = 0; format && i < ARRAY_SIZE(managers); i++)
		if (streq(managers[i][0], format) && is_there(g, managers[i][2]))
			return managers[i][1];
	return NULL;
}

static void put_mountpoints(const struct inside_guest *g, struct json_out *o)
{
	json_out_array(o, "mountpoints");
	for (size_t i = 0; i < g->nmounts; i++) {
		json_out_object(o, NULL);
		json_out_str(o, "path", g->mounts[i].path);
		json_out_str(o, "device", g->mounts[i].device);
		json_out_str(o, "type", g->mounts[i].type);
		put_clean(o, "options", g->mounts[i].options);
		json_out_end_object(o);
	}
	json_out_end_array(o);
}

static int add_system(
	void *data, struct inside_guest *g, const struct device *root, const char *options)
{
	struct report *p = data;
	struct json_out *o = p->o;
	uint64_t count;

	/*
	 * If fstab names a file system that cannot be mounted, the error is only printed, because
	 * the rest of the operating system can still be inspected.
	 */
	if (mounts_fstab(g) < 0) {
		fd_say(STDERR_FILENO, "caisson disk", err_msg());
		err_clear();
	}
	json_out_object(o, NULL);
	json_out_str(o, "root", root->name);
	put_clean(o, "root_options", options);
	put_release(g, o);
	put_clean(o, "arch", system_arch(g));
	put_hostname(g, o);
	put_names(g, o, "kernels", "/boot", "vmlinuz-");
	put_names(g, o, "kernel_modules", "/lib/modules", "");
	put_clean(o, "boot_loader", boot_loader(g));
	put_mountpoints(g, o);
	put_clean(o, "package_management", package_manager(g, packages_format(g)));
	int r = packages_write(g, o, &count);
	json_out_u64(o, "package_count", count);
	json_out_end_object(o);
	return r;
}

static void print_list(const struct json *list, const char *what)
{
	if (!list || !list->count)
		return;
	printf("  %-13s", what);
	for (const struct json *j = list->first; j; j = j->next)
		printf("%s%s", j == list->first ? "" : ", ", j->text);
	putchar('\n');
}

static void print_system(const struct json *s)
{
	static const char *const lines[][2] = {{"distro", "distribution"}, {"version", "version"},
		{"arch", "machine"}, {"hostname", "host name"}, {"boot_loader", "boot loader"},
		{"package_format", "packages"}, {"packages_problem", "problem"}};
	const char *name = json_get_str(s, "product_name");
	const struct json *count = json_get(s, "package_count");

	printf("%s on %s\n", name ? name : "An operating system", json_get_str(s, "root"));
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		const char *text = json_get_str(s, lines[i][0]);
		if (!text)
			continue;
		printf("  %-13s", lines[i][1]);
		if (streq(lines[i][0], "package_format") && count)
			printf("%s ", count->text);
		printf("%s\n", text);
	}
	print_list(json_get(s, "kernels"), "kernels");
	for (const struct json *m = json_get(s, "mountpoints")->first; m; m = m->next)
		printf("  %-13s%s on %s (%s)\n", "mount", json_get_str(m, "device"),
			json_get_str(m, "path"), json_get_str(m, "type"));
}

static void print_text(const struct json *all)
{
	const struct json *systems = json_get(all, "operating_systems");

	for (const struct json *s = systems->first; s; s = s->next)
		print_system(s);
	if (!systems->count)
		printf("No operating system\n");
	printf("Devices\n");
	for (const struct json *d = json_get(all, "devices")->first; d; d = d->next) {
		const char *type = json_get_str(d, "type"), *label = json_get_str(d, "label");
		const char *table = json_get_str(d, "partition_table");
		const char *problem = json_get_str(d, "problem");
		printf("  %-13s%s%s%s%s%s, %s bytes%s%s\n", json_get_str(d, "device"),
			type    ? type
			: table ? table
				: "unknown",
			label ? " \"" : "", label ? label : "", label ? "\"" : "",
			!type && table ? " partition table" : "", json_get(d, "size")->text,
			problem ? ": " : "", problem ? problem : "");
	}
}

int guest_inspect(struct inside_guest *g, int argc, char **argv)
{
	_cleanup_json_out_ struct json_out o = {0};
	struct report p = {.o = &o};
	struct json *all;
	const char *text;
	size_t len;

	int r = json_out_init(&o, true);
	if (r < 0)
		return r;
	json_out_object(&o, NULL);
	json_out_array(&o, "operating_systems");
	r = systems_each(g, add_system, &p);
	json_out_end_array(&o);
	put_devices(g, &o);
	json_out_end_object(&o);
	if (r >= 0)
		r = json_out_text(&o, &text, &len);
	if (r < 0)
		return r;
	if (g->options.json)
		return fd_write_all(STDOUT_FILENO, text, len);
	r = json_parse(&g->arena, text, len, "the report", &all);
	if (r < 0)
		return r;
	print_text(all);
	return fflush(stdout) == 0 ? 0 : err_sys("write to standard output");
}
