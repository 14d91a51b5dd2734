/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaches disks and volumes that are disks. The hypervisor serves a raw image itself, by the
 * descriptor that the monitor gets. For another format the command starts caisson-disk
 * (engine/disk_process.h), which goes on after the command has ended, in the container's cgroup and
 * in the same jail as the server of vm.image, until the device is detached.
 */
#include <linux/virtio_blk.h>
#include <poll.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/libexec.h"
#include "base/log.h"
#include "engine/disk_process.h"
#include "images/disk/lock.h"
#include "launch/hotplug_internal.h"
#include "launch/live_list.h"
#include "machine/image.h"
#include "monitor/control.h"

/* how long, in ms, the command waits for the end of a caisson-disk that is not needed */
#define UNUSED_END_MS 10000

struct disk {
	const char *kind; /* LIVE_DISK or LIVE_VOLUME */
	const char *source, *target;
	const char *serial;        /* up to VIRTIO_BLK_ID_BYTES bytes */
	const char *format;        /* as vm.image.format */
	const char *backing, *key; /* as in struct disk_process_options */
	bool read_only;
};

/*
 * The descriptors that the monitor gets: that of the image, or caisson-disk's vhost-user socket,
 * pidfd, and socket for control.
 */
struct disk_fds {
	int v[3];
	unsigned n;
	/* pid of caisson-disk, a child of the command; 0: no process serves the disk */
	pid_t server;
};

static void close_fds(struct disk_fds *f)
{
	for (size_t i = 0; i < ARRAY_SIZE(f->v); i++)
		fd_close(&f->v[i]);
}

/*
 * Waits until caisson-disk has ended, which is not needed after a failure. It has the image's lock
 * until then, so the next attempt would fail.
 */
static void await_end(pid_t server)
{
	_cleanup_fd_ int pidfd = server > 0 ? pidfd_open(server, 0) : -EBADF;
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	if (pidfd >= 0)
		(void)poll(&p, 1, UNUSED_END_MS);
}

/* Parses one of the options behind the second colon. */
static int add_option(struct disk *d, const char *option)
{
	const struct {
		const char *name, **value;
	} texts[] = {{"serial=", &d->serial}, {"format=", &d->format}, {"backing=", &d->backing},
		{"key=", &d->key}};

	if (streq(option, "ro") || streq(option, "rw")) {
		d->read_only = streq(option, "ro");
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (str_starts(option, texts[i].name)) {
			*texts[i].value = option + strlen(texts[i].name);
			return 0;
		}
	return err_set(EINVAL,
		"option %s: expected ro, rw, format=NAME, serial=TEXT, backing=on|off|DIR or "
		"key=FILE",
		option);
}

static int check_options(const struct disk *d)
{
	bool writable;
	const char *format = machine_image_format(d->format, &writable);

	if (strlen(d->serial) > VIRTIO_BLK_ID_BYTES)
		return err_set(EINVAL, "serial=%s: expected up to %d bytes", d->serial,
			VIRTIO_BLK_ID_BYTES);
	if (!format)
		return err_set(EINVAL, "format=%s: expected raw, qcow2, vdi, vmdk, vhd or vhdx",
			d->format);
	if (!writable && !d->read_only)
		return err_set(
			ENOTSUP, "format=%s: caisson only reads such images: add ro", d->format);
	if (streq(format, "raw") && (d->backing || d->key))
		return err_set(EINVAL,
			"%s: a raw image has no backing file and no key: name the image's format "
			"by format=",
			d->backing ? "backing" : "key");
	return 0;
}

static int parse_disk(struct container *c, const char *text, struct disk *ret)
{
	char *parts[3], *save;

	int r = live_list_split(&c->arena, text,
		"SOURCE:TARGET[:OPTIONS], with the path of an image or a block device, and that of "
		"the node in the container, such as /dev/data",
		parts);
	if (r < 0)
		return r;
	*ret = (struct disk){.kind = LIVE_DISK,
		.source = parts[0],
		.target = parts[1],
		.serial = "",
		.format = "raw"};
	/* SOURCE:/dev/data,ro would make a node of the name "data,ro". */
	if (strchr(ret->target, ','))
		return err_set(EINVAL,
			"target %s: expected no comma: the options stand behind a second colon",
			ret->target);
	for (char *o = parts[2] ? strtok_r(parts[2], ",", &save) : NULL; o && r >= 0;
		o = strtok_r(NULL, ",", &save))
		r = add_option(ret, o);
	return r < 0 ? r : check_options(ret);
}

static int open_raw(const struct disk *d, struct disk_fds *ret)
{
	struct stat st;

	_cleanup_fd_ int fd = open(
		d->source, (d->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys("source %s", d->source);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(
			EINVAL, "source %s: expected a regular file or a block device", d->source);
	int r = disk_lock(fd, d->source, !d->read_only, false);
	if (r < 0)
		return r;
	*ret = (struct disk_fds){.v = {take_fd(&fd), -EBADF, -EBADF}, .n = 1};
	return 0;
}

static int start_server(struct container *c, const struct disk *d, struct disk_fds *ret)
{
	bool writable;
	struct disk_process_options o = {.field = "source",
		.image = d->source,
		.format = machine_image_format(d->format, &writable),
		.serial = d->serial,
		.backing = d->backing,
		.key = d->key,
		.read_only = d->read_only,
		.monitor = c->pid,
		.errors = log_fd()};

	int r = libexec_program(&c->arena, "caisson-disk", &o.program);
	if (r < 0)
		return r;
	_cleanup_fd_ int sock = -EBADF, control = -EBADF;
	pid_t pid = disk_process_start(&o, &sock, &control);
	if (pid < 0)
		return pid;
	ret->server = pid;
	/* If this fails, caisson-disk ends, because the socket is closed. */
	r = cg_attach(&c->arena, &c->cgroup, NULL, NULL, pid);
	_cleanup_fd_ int pidfd = r < 0 ? r : pidfd_open(pid, 0);
	if (pidfd < 0)
		return r < 0 ? r : err_sys("open caisson-disk's process");
	*ret = (struct disk_fds){
		.v = {take_fd(&sock), take_fd(&pidfd), take_fd(&control)}, .n = 3, .server = pid};
	return 0;
}

/*
 * Closes the descriptors once the monitor has them, because caisson-disk ends when all are closed.
 */
static int send_disk(struct container *c, const struct disk *d, struct disk_fds *fds)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	_cleanup_agent_frame_ struct agent_frame reply = {0};

	_cleanup_fd_ int sock = control_connect(c->dir);
	int r = sock < 0 ? sock : hotplug_write(&w, "attach", d->kind, d->target);
	if (r < 0)
		return r;
	json_out_str(&w.json, "serial", d->serial);
	json_out_bool(&w.json, "readOnly", d->read_only);
	r = control_send_fds(sock, &w, fds->v, fds->n);
	close_fds(fds);
	return r < 0 ? r : control_wait(sock, HOTPLUG_CALL_MS, &reply);
}

static int add(struct container *c, const struct disk *d)
{
	struct disk_fds fds = {.v = {-EBADF, -EBADF, -EBADF}};

	int r = streq(d->format, "raw") ? open_raw(d, &fds) : start_server(c, d, &fds);
	if (r >= 0)
		r = live_list_note(
			c, &(struct live_entry){
				   .kind = d->kind, .source = d->source, .target = d->target});
	const bool noted = r > 0;
	if (r >= 0)
		r = send_disk(c, d, &fds);
	close_fds(&fds);
	if (r >= 0 || r == -ETIMEDOUT)
		return r;
	await_end(fds.server);
	return noted ? live_list_undo(c, d->kind, d->target, r) : r;
}

int hotplug_add_disk(struct container *c, const char *text)
{
	struct disk d = {0};

	int r = hotplug_refuse_namespaces(c, "--add-disk");
	if (r >= 0)
		r = parse_disk(c, text, &d);
	if (r >= 0)
		r = add(c, &d);
	return r < 0 ? err_ctx(r, "--add-disk %.200s", text) : 0;
}

static int remove_disk(struct container *c, const char *kind, const char *target)
{
	int r = hotplug_detach(c, kind, target, false);

	return r == -ENOENT ? live_list_undo(c, kind, target, r)
	       : r < 0      ? r
			    : live_list_forget(c, kind, target);
}

int hotplug_remove_disk(struct container *c, const char *target)
{
	int r = hotplug_refuse_namespaces(c, "--rm-disk");

	if (r >= 0)
		r = remove_disk(c, LIVE_DISK, target);
	return r < 0 ? err_ctx(r, "--rm-disk %.200s", target) : 0;
}

int hotplug_add_volume(struct container *c, const char *image, const char *target, bool read_only)
{
	return add(c, &(struct disk){.kind = LIVE_VOLUME,
			      .source = image,
			      .target = target,
			      .serial = "",
			      .format = "qcow2",
			      .read_only = read_only});
}

int hotplug_remove_volume(struct container *c, const char *target)
{
	return remove_disk(c, LIVE_VOLUME, target);
}
