/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/image.h"

#include <linux/virtio_blk.h>
#include <unistd.h>

#define CACHE "io.caisson.vm.image-cache"
#define BACKING "io.caisson.vm.image.backing"
#define KEY "io.caisson.vm.image.key"
#define SERIAL "io.caisson.vm.image.serial"
#define SNAPSHOT "io.caisson.vm.image.snapshot"
#define WERROR "io.caisson.vm.image.werror"
#define RERROR "io.caisson.vm.image.rerror"
/*
 * largest number of queues; more would only cost memory, because the threads of all queues wait for
 * the same image file
 */
#define QUEUES_MAX 4

/* A value of vm.image.format, and the name of that format in images/disk. */
struct format {
	const char *name, *disk;
	bool can_write;
};

static const struct format formats[] = {
	{"raw", "raw", true},
	{"qcow2", "qcow2", true},
	{"vdi", "vdi", false},
	{"vmdk", "vmdk", false},
	{"vhd", "vpc", false},
	{"vhdx", "vhdx", false},
};

static const struct format *find_format(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
		if (streq(formats[i].name, name))
			return &formats[i];
	return NULL;
}

const char *machine_image_format(const char *name, bool *ret_can_write)
{
	const struct format *f = find_format(name);

	*ret_can_write = f && f->can_write;
	return f ? f->disk : NULL;
}

static int decide_cache(const struct spec *s, struct machine_config *m)
{
	const char *cache = spec_annotation(s, CACHE);

	if (cache && !streq(cache, "writeback") && !streq(cache, "writethrough") &&
		!streq(cache, "none"))
		return err_set(EINVAL,
			"annotation " CACHE ": \"%s\": expected writeback (the host's page "
			"cache), writethrough (the same, and each write is on the disk before the "
			"guest goes on) or none (direct I/O)",
			cache);
	m->image_direct = cache && streq(cache, "none");
	m->image_write_through = cache && streq(cache, "writethrough");
	return 0;
}

static int decide_serial(const struct spec *s, struct machine_config *m)
{
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
	const char *serial = spec_annotation(s, SERIAL);

	/* QEMU separates options by commas. */
	if (serial && (!*serial || strlen(serial) > VIRTIO_BLK_ID_BYTES ||
			      serial[strspn(serial, letters)]))
		return err_set(EINVAL,
			"annotation " SERIAL
			": \"%s\": expected 1 to %d letters, digits, \"_\", \".\" and \"-\"",
			serial, VIRTIO_BLK_ID_BYTES);
	m->image_serial = serial;
	return 0;
}

const char *machine_image_serial(const struct machine_config *m)
{
	return m->image_serial ? m->image_serial : "image";
}

const char *machine_on_error_name(enum blk_on_error policy)
{
	static const char *const names[] = {[BLK_ERROR_REPORT] = "report",
		[BLK_ERROR_STOP] = "stop",
		[BLK_ERROR_ENOSPC] = "enospc"};

	return names[policy];
}

static int decide_on_error(const struct spec *s, const char *annotation, enum blk_on_error *policy)
{
	const char *text = spec_annotation(s, annotation);

	for (int i = BLK_ERROR_REPORT; text && i <= BLK_ERROR_ENOSPC; i++)
		if (streq(text, machine_on_error_name((enum blk_on_error)i))) {
			*policy = (enum blk_on_error)i;
			return 0;
		}
	return text ? err_set(EINVAL,
			      "annotation %s: \"%s\": expected report (the guest sees an I/O "
			      "error), stop (the machine pauses) or enospc (it pauses if the host "
			      "has no space left)",
			      annotation, text)
		    : 0;
}

static int decide_errors(const struct spec *s, struct machine_config *m)
{
	/* These are QEMU's defaults. */
	m->image_werror = BLK_ERROR_ENOSPC;
	m->image_rerror = BLK_ERROR_REPORT;
	int r = decide_on_error(s, WERROR, &m->image_werror);
	return r < 0 ? r : decide_on_error(s, RERROR, &m->image_rerror);
}

static int decide_backing(const struct spec *s, struct machine_config *m)
{
	const char *backing = m->image_backing = spec_annotation(s, BACKING);

	if (!backing)
		return 0;
	if (!streq(backing, "on") && !streq(backing, "off") && backing[0] != '/')
		return err_set(EINVAL,
			"annotation " BACKING
			": \"%s\": expected off, on (backing files are in the directory of the "
			"image) or the absolute path of the directory that they are in",
			backing);
	if (streq(m->image_format, "raw") && !streq(backing, "off"))
		return err_set(EINVAL,
			"annotation " BACKING
			": \"%s\": the image is raw, and only qcow2 and VHD images have backing "
			"files: name its format in vm.image.format",
			backing);
	return 0;
}

static int decide_key(const struct spec *s, struct machine_config *m)
{
	const char *key = m->image_key = spec_annotation(s, KEY);

	if (!key)
		return 0;
	if (key[0] != '/')
		return err_set(EINVAL,
			"annotation " KEY
			": \"%s\": expected the absolute path of a file with the passphrase of the "
			"encrypted image",
			key);
	if (!streq(m->image_format, "qcow2"))
		return err_set(EINVAL,
			"annotation " KEY
			": \"%s\": the image is %s, and only qcow2 images are encrypted: name its "
			"format in vm.image.format",
			key, m->image_format);
	return access(key, R_OK) < 0 ? err_sys("annotation " KEY ": %s", key) : 0;
}

static int decide_use(const struct spec *s, struct machine_config *m)
{
	const char *use = spec_annotation(s, SPEC_IMAGE_USE);
	const char *snapshot = spec_annotation(s, SNAPSHOT);

	if (use && !streq(use, "root") && !streq(use, SPEC_IMAGE_OVERLAY) && !streq(use, "disk"))
		return err_set(EINVAL,
			"annotation " SPEC_IMAGE_USE
			": \"%s\": expected root (vm.image is the root file system), overlay (the "
			"same, and what is written stays in the guest's memory) or disk (it is "
			"/dev/vda, and root.path is the root file system)",
			use);
	if (snapshot && !streq(snapshot, "true") && !streq(snapshot, "false"))
		return err_set(EINVAL,
			"annotation " SNAPSHOT
			": \"%s\": expected true (what the guest writes to vm.image is dropped at "
			"the end) or false",
			snapshot);
	m->image_snapshot = snapshot && streq(snapshot, "true");
	return 0;
}

/*
 * Decides how caisson-disk serves the image. caisson-disk serves every image that is not raw, and
 * also a raw image whose writes are dropped at the machine's end, because it keeps these writes in
 * a qcow2 overlay.
 */
static int decide_server(
	const struct machine_request *q, const struct format *f, struct machine_config *m)
{
	if (!f->can_write && !m->image_read_only && !m->image_snapshot)
		return err_set(ENOTSUP,
			"vm.image.format: \"%s\": caisson only reads such images: set "
			"root.readonly, or write to a qcow2 overlay: `caisson disk create -f qcow2 "
			"-b %s -F %s OVERLAY.qcow2`",
			f->name, m->image, f->disk);
	if (m->image_direct)
		return err_set(ENOTSUP,
			"annotation " CACHE
			": \"none\": direct I/O is for raw images, and %s \"%s\": "
			"expected writeback or writethrough",
			streq(f->disk, "raw") ? "annotation " SNAPSHOT " is" : "vm.image.format is",
			streq(f->disk, "raw") ? "true" : f->name);
	if (access(q->disk, X_OK) < 0)
		return err_sys("vm.image.format: \"%s\": the program that serves such images, %s "
			       "(set CAISSON_LIBEXEC to where it is)",
			f->name, q->disk);
	m->image_server = q->disk;
	m->image_queues = m->cpus < QUEUES_MAX ? m->cpus : QUEUES_MAX;
	return 0;
}

int machine_decide_image(
	const struct spec *s, const struct machine_request *q, struct machine_config *m)
{
	int r = decide_cache(s, m);

	if (r >= 0)
		r = decide_serial(s, m);
	if (r >= 0)
		r = decide_use(s, m);
	if (r >= 0)
		r = decide_errors(s, m);
	if (r < 0 || !s->vm || !s->vm->image_path)
		return r;
	const struct format *f = find_format(s->vm->image_format);
	if (!f)
		return err_set(ENOTSUP, "vm.image.format: \"%s\": caisson does not know it",
			s->vm->image_format);
	m->image = s->vm->image_path;
	m->image_format = f->disk;
	m->image_read_only =
		spec_image_is_overlay(s) || (spec_image_is_root(s) && s->root_readonly);
	bool kept = !m->image_read_only && !m->image_snapshot;
	if (access(m->image, kept ? R_OK | W_OK : R_OK) < 0)
		return err_sys("vm.image.path: %s", m->image);
	if (!streq(f->disk, "raw") || m->image_snapshot)
		r = decide_server(q, f, m);
	if (r >= 0)
		r = decide_backing(s, m);
	return r < 0 ? r : decide_key(s, m);
}
