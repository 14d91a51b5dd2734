/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the block devices of the guest, asks blkid(8) what is on each of them, and activates volume
 * groups, encrypted devices and RAIDs, which contain further devices. Repeats this until no new
 * device appears, because such devices can contain each other.
 */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "inside/inside.h"

#define ROUNDS_MAX 8

static const char *const no_text = "";

static int read_number(const char *device, const char *file, uint64_t *ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/class/block/%s/%s", device, file);
	int r = fd_read_file(AT_FDCWD, path, &text, 64);
	*ret = r < 0 ? 0 : strtoull(strbuf_str(&text), NULL, 10);
	return r;
}

/*
 * Sets the device's name and paths. The name of a device of device mapper is the mapper's, such as
 * "vg-root"; that of every other device is the kernel's.
 */
static int name_device(struct inside_guest *g, const char *kernel_name, struct device *d)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	char path[PATH_MAX];

	d->path = arena_printf(&g->arena, "/dev/%s", kernel_name);
	snprintf(path, sizeof(path), "/sys/class/block/%s/dm/name", kernel_name);
	if (fd_read_file(AT_FDCWD, path, &text, 256) >= 0 && text.len > 1) {
		text.s[strcspn(text.s, "\n")] = '\0';
		d->name = arena_strdup(&g->arena, text.s);
		d->usual_path = arena_printf(&g->arena, "/dev/mapper/%s", text.s);
	} else {
		d->name = arena_strdup(&g->arena, kernel_name);
		d->usual_path = d->path;
	}
	err_clear();
	return d->name && d->path && d->usual_path ? 0 : -ENOMEM;
}

/*
 * Copies the value of the line "KEY=VALUE" in the output of blkid. Returns "" if the output has no
 * such line.
 */
static const char *value_of(struct inside_guest *g, const char *text, const char *key)
{
	size_t len = strlen(key);

	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n')
		if (strncmp(line, key, len) == 0 && line[len] == '=')
			return arena_strndup(
				       &g->arena, line + len + 1, strcspn(line + len + 1, "\n"))
				       ?: no_text;
	return no_text;
}

/*
 * Asks blkid what is on the device. blkid exits with 2 if it finds nothing, and with 8 if it finds
 * several file systems, between which it does not decide.
 */
static int probe(struct inside_guest *g, struct device *d)
{
	const char *const argv[] = {"blkid", "-p", "-o", "export", d->path, NULL};
	_cleanup_strbuf_ struct strbuf out = {0};
	int r = guest_run(argv, &out);

	if (r < 0)
		return r;
	if (r == 127)
		return err_set(ENOENT, "this host has no blkid, which finds out what is on a disk: "
				       "install util-linux");
	const char *text = strbuf_str(&out);
	d->type = value_of(g, text, "TYPE");
	d->usage = value_of(g, text, "USAGE");
	d->label = value_of(g, text, "LABEL");
	d->uuid = value_of(g, text, "UUID");
	d->table = value_of(g, text, "PTTYPE");
	d->part_uuid = value_of(g, text, "PART_ENTRY_UUID");
	d->part_label = value_of(g, text, "PART_ENTRY_NAME");
	if (r == 8)
		d->note = "it has the marks of several file systems: name its type with --mount "
			  "DEVICE:PATH:fstype=TYPE";
	return 0;
}

static bool is_known(const struct inside_guest *g, unsigned major, unsigned minor)
{
	for (size_t i = 0; i < g->ndevices; i++)
		if (g->devices[i].major == major && g->devices[i].minor == minor)
			return true;
	return false;
}

static int add_device(struct inside_guest *g, const char *kernel_name, bool *ret_new)
{
	struct device *d = &g->devices[g->ndevices];
	_cleanup_strbuf_ struct strbuf numbers = {0};
	char path[PATH_MAX];
	unsigned major, minor;
	uint64_t sectors, partition;

	snprintf(path, sizeof(path), "/sys/class/block/%s/dev", kernel_name);
	if (fd_read_file(AT_FDCWD, path, &numbers, 64) < 0 ||
		sscanf(strbuf_str(&numbers), "%u:%u", &major, &minor) != 2 ||
		is_known(g, major, minor)) {
		err_clear();
		return 0;
	}
	if (read_number(kernel_name, "size", &sectors) < 0 || sectors == 0) {
		err_clear();
		return 0;
	}
	if (g->ndevices == DEVICES_MAX)
		return err_set(E2BIG, "the disk has more than %d devices in it", DEVICES_MAX);
	*d = (struct device){.major = major, .minor = minor, .size = sectors * 512};
	if (read_number(kernel_name, "partition", &partition) < 0)
		err_clear();
	d->partition = (unsigned)partition;
	int r = name_device(g, kernel_name, d);
	if (r >= 0)
		r = probe(g, d);
	g->ndevices++;
	*ret_new = true;
	return r;
}

/* Says whether a device of this name can be the disk or a part of it. */
static bool is_of_disk(const char *name)
{
	return str_starts(name, "vd") || str_starts(name, "dm-") || str_starts(name, "md");
}

static int find_new(struct inside_guest *g, bool *ret_new)
{
	struct dirent **list;
	int n = scandir("/sys/class/block", &list, NULL, versionsort), r = 0;

	*ret_new = false;
	if (n < 0)
		return err_sys("list the block devices");
	for (int i = 0; i < n; i++) {
		if (r >= 0 && is_of_disk(list[i]->d_name))
			r = add_device(g, list[i]->d_name, ret_new);
		free(list[i]);
	}
	free(list);
	return r;
}

static void note(struct device *d, int r, const char *missing, const char *failed)
{
	if (r < 0)
		err_clear();
	if (r == 127)
		d->note = missing;
	else if (r != 0)
		d->note = failed;
}

static const char *const volume_modules[] = {"dm_mod", "dm_snapshot", "dm_thin_pool", "dm_mirror",
	"dm_raid", "raid0", "raid1", "raid456", "raid10"};
static const char *const crypt_modules[] = {"dm_mod", "dm_crypt", "aes_generic", "aesni_intel",
	"xts", "cbc", "ecb", "essiv", "sha1_generic", "sha256_generic", "sha512_generic",
	"algif_skcipher", "algif_hash", "af_alg", "serpent_generic", "twofish_generic"};
static const char *const raid_modules[] = {
	"md_mod", "raid0", "raid1", "raid456", "raid10", "linear"};

int devices_load_all(struct inside_guest *g)
{
	int r = guest_load(g, volume_modules, ARRAY_SIZE(volume_modules));

	if (r >= 0)
		r = guest_load(g, crypt_modules, ARRAY_SIZE(crypt_modules));
	return r < 0 ? r : guest_load(g, raid_modules, ARRAY_SIZE(raid_modules));
}

static int open_volumes(struct inside_guest *g, struct device *d)
{
	const char *const argv[] = {"lvm", "vgchange", "--activate", "y", "--sysinit", NULL};

	int r = guest_load(g, volume_modules, ARRAY_SIZE(volume_modules));
	if (r < 0)
		return r;
	note(d, guest_run(argv, NULL), "the host has no lvm: install lvm2",
		"lvm could not activate its volumes");
	return 0;
}

/*
 * Finds the file with the passphrase of the encrypted device: a file that --key gives for this
 * device, or else one that it gives for all devices.
 */
static bool find_key(const struct inside_guest *g, const struct device *d, char path[64])
{
	const struct option_list *keys = &g->options.keys;
	bool found = false;

	for (size_t i = 0; i < keys->n; i++) {
		const char *colon = strchr(keys->v[i], ':');
		_cleanup_free_ char *name =
			colon ? strndup(keys->v[i], (size_t)(colon - keys->v[i])) : NULL;
		bool own = name && devices_named(g, name) == d;
		if (!own && (colon || found))
			continue;
		snprintf(path, 64, INSIDE_KEYS "/%zu", i);
		found = true;
		if (own)
			break;
	}
	return found;
}

static int open_encrypted(struct inside_guest *g, struct device *d)
{
	char key[64];

	int r = guest_load(g, crypt_modules, ARRAY_SIZE(crypt_modules));
	const char *name = arena_printf(&g->arena, "luks-%s", d->name);
	if (r < 0 || !name)
		return r < 0 ? r : -ENOMEM;
	if (!find_key(g, d, key)) {
		d->note = "it is encrypted: name a file with the passphrase with --key";
		return 0;
	}
	const char *const argv[] = {"cryptsetup", "open", "--batch-mode", "--tries", "1",
		"--key-file", key, d->path, name, NULL};
	note(d, guest_run(argv, NULL), "the host has no cryptsetup: install it",
		"cryptsetup could not open it: is the passphrase right?");
	return 0;
}

static int open_raid(struct inside_guest *g, struct device *d)
{
	const char *const argv[] = {"mdadm", "--assemble", "--scan", "--run", "--readonly", NULL};

	int r = guest_load(g, raid_modules, ARRAY_SIZE(raid_modules));
	if (r < 0)
		return r;
	note(d, guest_run(argv, NULL), "the host has no mdadm: install it",
		"mdadm could not assemble it");
	return 0;
}

static int open_one(struct inside_guest *g, struct device *d)
{
	d->opened = true;
	if (streq(d->type, "LVM2_member"))
		return open_volumes(g, d);
	if (streq(d->type, "crypto_LUKS"))
		return open_encrypted(g, d);
	if (streq(d->type, "linux_raid_member"))
		return open_raid(g, d);
	return 0;
}

int devices_find(struct inside_guest *g)
{
	for (int round = 0; round < ROUNDS_MAX; round++) {
		bool new;
		int r = find_new(g, &new);
		if (r < 0 || !new)
			return r;
		for (size_t i = 0; i < g->ndevices && r >= 0; i++)
			if (!g->devices[i].opened)
				r = open_one(g, &g->devices[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

bool device_has_files(const struct device *d)
{
	return streq(d->usage, "filesystem");
}

/*
 * Says whether a name such as "vg/root" is this device of device mapper, which is called "vg-root".
 */
static bool is_volume(const struct device *d, const char *text)
{
	const char *slash = strchr(text, '/');
	char name[256];

	if (!slash)
		return false;
	/*
	 * Device mapper writes a "-" in the name of a volume group or volume as "--", because a
	 * single "-" stands between the two names.
	 */
	size_t n = 0;
	for (const char *p = text; *p && n + 2 < sizeof(name); p++) {
		if (*p == '-')
			name[n++] = '-';
		name[n++] = *p == '/' ? '-' : *p;
	}
	name[n] = '\0';
	return streq(d->name, name);
}

/*
 * Says whether `text`, the rest of a name behind "/dev/", is the device `d`. The disk is vda in
 * this guest, but fstab may call it sda, hda, xvda or nvme0n1, as it was called where the system
 * ran.
 */
static bool is_name(const struct device *d, const char *text)
{
	static const char *const disks[] = {
		"vda", "sda", "hda", "xvda", "nvme0n1", "mmcblk0", "disk/by-id/"};

	if (streq(d->name, text) || (str_starts(text, "mapper/") && streq(d->name, text + 7)) ||
		is_volume(d, text))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(disks) && str_starts(d->name, "vda"); i++) {
		if (!str_starts(text, disks[i]))
			continue;
		const char *rest = text + strlen(disks[i]);
		rest += *rest == 'p' && rest[1];
		if (streq(rest, d->name + strlen("vda")))
			return true;
	}
	return false;
}

static bool is_tagged(const struct device *d, const char *tag, size_t len, const char *value)
{
	const struct {
		const char *tag, *by, *value;
	} tags[] = {{"UUID", "/dev/disk/by-uuid", d->uuid},
		{"LABEL", "/dev/disk/by-label", d->label},
		{"PARTUUID", "/dev/disk/by-partuuid", d->part_uuid},
		{"PARTLABEL", "/dev/disk/by-partlabel", d->part_label}};

	for (size_t i = 0; i < ARRAY_SIZE(tags); i++)
		if ((strlen(tags[i].tag) == len && strncmp(tags[i].tag, tag, len) == 0) ||
			(strlen(tags[i].by) == len && strncmp(tags[i].by, tag, len) == 0))
			return *tags[i].value && strcasecmp(tags[i].value, value) == 0;
	return false;
}

const struct device *devices_named(const struct inside_guest *g, const char *text)
{
	const char *equals = strchr(text, '='), *slash = strrchr(text, '/');
	const char *split = equals ? equals : str_starts(text, "/dev/disk/by-") ? slash : NULL;
	_cleanup_free_ char *value = split ? strdup(split + 1) : NULL;

	/* The value may be quoted, as fstab(5) allows. */
	if (value && value[0] == '"') {
		memmove(value, value + 1, strlen(value));
		value[strcspn(value, "\"")] = '\0';
	}
	for (size_t i = 0; i < g->ndevices; i++) {
		const struct device *d = &g->devices[i];
		if (value ? is_tagged(d, text, (size_t)(split - text), value)
			  : is_name(d, str_starts(text, "/dev/") ? text + 5 : text))
			return d;
	}
	return NULL;
}
