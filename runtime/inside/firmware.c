/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds EFI firmware (EDK2) for a machine on QEMU, and makes the machine's file of the firmware's
 * variables. A firmware image comes with descriptions in JSON in two directories, as
 * docs/interop/firmware.json of QEMU specifies: the file names, and for which machines the firmware
 * is. The names sort so that the preferred firmware comes first.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "inside/machine.h"

#define DESCRIPTION_MAX (1u << 20)
#define VARS_MAX (UINT64_C(64) << 20) /* largest size in bytes of a file of variables */
#define ANY_FIRMWARE "efi"            /* value of --firmware: what the host has installed */

static const char *const directories[] = {"/etc/qemu/firmware", "/usr/share/qemu/firmware"};

static bool lists(const struct json *list, const char *word)
{
	for (const struct json *i = list ? list->first : NULL; i; i = i->next)
		if (i->type == JSON_STRING && streq(i->text, word))
			return true;
	return false;
}

static bool fits_machine(const struct json *description)
{
	const struct json *targets = json_get(description, "targets");

	for (const struct json *t = targets ? targets->first : NULL; t; t = t->next) {
		const char *arch = json_get_str(t, "architecture");
		const struct json *machines = json_get(t, "machines");
		if (!arch || !streq(arch, "x86_64"))
			continue;
		for (const struct json *m = machines ? machines->first : NULL; m; m = m->next)
			if (m->type == JSON_STRING && str_starts(m->text, "pc-q35-"))
				return true;
	}
	return false;
}

/* Returns the file name in a part of the description if the file is raw, else NULL. */
static const char *raw_file(const struct json *part)
{
	const char *format = json_get_str(part, "format"), *name = json_get_str(part, "filename");

	return format && streq(format, "raw") && name && name[0] == '/' ? name : NULL;
}

/*
 * Takes the firmware of a description if caisson can use it: EFI in flash memory for q35, without
 * system management mode, and without enrolled keys, because firmware with enrolled keys refuses
 * unsigned systems.
 */
static bool take_firmware(const struct json *d, struct firmware *ret)
{
	const struct json *mapping = json_get(d, "mapping"), *features = json_get(d, "features");
	const char *device = json_get_str(mapping, "device");

	if (!lists(json_get(d, "interface-types"), "uefi") || !fits_machine(d) || !device ||
		!streq(device, "flash") || lists(features, "requires-smm") ||
		lists(features, "enrolled-keys"))
		return false;
	ret->code = raw_file(json_get(mapping, "executable"));
	ret->vars = raw_file(json_get(mapping, "nvram-template"));
	return ret->code && ret->vars && access(ret->code, R_OK) == 0;
}

static int only_json(const struct dirent *e)
{
	return str_ends(e->d_name, ".json");
}

/* Looks for firmware in the descriptions in one directory. Returns 1 if there is some. */
static int search_directory(struct arena *a, const char *path, struct firmware *ret)
{
	_cleanup_fd_ int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent **names;
	int n = dir < 0 ? -1 : scandirat(dir, ".", &names, only_json, alphasort), r = 0;

	for (int i = 0; i < n; i++) {
		_cleanup_strbuf_ struct strbuf text = {0};
		struct json *d;
		if (r == 0 && fd_read_file(dir, names[i]->d_name, &text, DESCRIPTION_MAX) >= 0 &&
			json_parse(a, strbuf_str(&text), text.len, names[i]->d_name, &d) >= 0)
			r = take_firmware(d, ret);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	err_clear();
	return r;
}

/*
 * Returns the template of the variables that belongs to a code file by its name: distributions call
 * the two NAME_CODE.fd and NAME_VARS.fd. Returns NULL if there is no such file.
 */
static const char *template_beside(struct arena *a, const char *code)
{
	const char *slash = strrchr(code, '/');
	const char *word = strstr(slash ? slash : code, "CODE");
	const char *path =
		word ? arena_printf(a, "%.*sVARS%s", (int)(word - code), code, word + 4) : NULL;

	return path && access(path, R_OK) == 0 ? path : NULL;
}

int firmware_find(struct arena *a, const char *wanted, struct firmware *ret)
{
	*ret = (struct firmware){0};
	for (size_t i = 0; streq(wanted, ANY_FIRMWARE) && i < ARRAY_SIZE(directories); i++)
		if (search_directory(a, directories[i], ret))
			return 0;
	if (streq(wanted, ANY_FIRMWARE))
		return err_set(ENOENT,
			"--firmware efi: %s and %s describe no EFI firmware for QEMU's machine "
			"q35: apt install ovmf, or name its code with --firmware FILE",
			directories[0], directories[1]);
	_cleanup_free_ char *real = realpath(wanted, NULL);
	if (!real)
		return err_sys("--firmware %s (\"efi\" stands for the installed firmware)", wanted);
	ret->code = arena_strdup(a, real);
	if (!ret->code)
		return -ENOMEM;
	ret->vars = template_beside(a, wanted);
	return 0;
}

int firmware_make_vars(const struct firmware *f, int dir, const char *path)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	_cleanup_free_ char *real = NULL;

	if (!f->vars)
		return err_set(ENOENT,
			"--firmware %s: expected the template of its variables beside it, whose "
			"name has VARS in place of CODE: name a copy of it with --firmware-vars "
			"FILE",
			f->code);
	real = realpath(f->vars, NULL);
	int r = real ? fd_read_file(AT_FDCWD, real, &text, VARS_MAX) : err_sys("%s", f->vars);
	return r < 0 ? r : fd_write_new_file(dir, path, text.s, text.len, 0600);
}
