/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the bundle of a machine: takes from the disk what it boots, makes an overlay, and writes
 * the seed's files and config.json. The files that come from the disk are hostile. So they are only
 * copied here, and nothing in them is parsed but the words of the kernel's command line.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/data_dir.h"
#include "base/libexec.h"
#include "base/log.h"
#include "base/process.h"
#include "images/disk/lock.h"
#include "inside/boot.h"
#include "inside/machine.h"

/* directory of the machines in the directory of data_dir_find() */
#define MACHINES "machines"
/* variable that names another directory */
#define MACHINES_VARIABLE "CAISSON_MACHINES"
#define WORD_LIST_MAX 2048
#define OVERLAY "disk.qcow2"
#define VARS "firmware-vars.fd" /* file in the bundle with the variables of the EFI firmware */

/*
 * Makes the directory of the bundles of all machines of this user, which nobody else may enter, if
 * it does not exist. *ret is its path.
 */
static int make_machines(struct arena *a, const char **ret)
{
	const char *path = getenv(MACHINES_VARIABLE);
	char data[PATH_MAX];
	int r = 0;

	if (path && path[0] != '/')
		return err_set(EINVAL, MACHINES_VARIABLE "=%s: expected an absolute path", path);
	if (!path) {
		r = data_dir_find(data, sizeof(data));
		path = arena_printf(a, "%s/" MACHINES, data);
		if (r < 0 || !path)
			return r < 0 ? r : -ENOMEM;
		if (geteuid() == 0 && mkdir(data, 0711) < 0 && errno != EEXIST)
			return err_sys("create %s", data);
	}
	*ret = path;
	return data_dir_make(path);
}

static int make_directory(
	struct arena *a, const struct machine_options *o, struct machine_bundle *ret)
{
	const char *machines;
	int r = make_machines(a, &machines);

	if (r < 0)
		return r;
	char *path = arena_printf(a, "%s/%.64s-XXXXXX", machines, o->name);
	if (!path)
		return -ENOMEM;
	if (strchr(o->name, '/'))
		return err_set(EINVAL, "NAME: \"%s\": expected no slash in it", o->name);
	if (!mkdtemp(path))
		return err_sys("create a directory in %s (" MACHINES_VARIABLE " names another one)",
			machines);
	ret->path = path;
	ret->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (ret->dir < 0 || mkdirat(ret->dir, "rootfs", 0700) < 0 ||
		mkdirat(ret->dir, "seed", 0700) < 0)
		return err_sys("create the machine's directory %s", path);
	return 0;
}

/* --- the image of the machine's disk --- */

/*
 * Fails if another process uses the image. The caller calls this function before anything is made
 * for the machine.
 */
static int check_lock(const char *path, bool write)
{
	_cleanup_fd_ int fd = open(path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return err_sys("--disk %s", path);
	int r = disk_lock(fd, path, write, false);
	if (r == -EAGAIN && write)
		return err_set(EAGAIN,
			"--disk %s, or give the machine an image of its own with --overlay FILE",
			err_msg());
	return r < 0 ? err_ctx(r, "--disk") : 0;
}

/*
 * Runs `caisson-disk create` to make the overlay. Returns 0 if it succeeds, and 1 if it fails and
 * has printed why.
 */
static int create_overlay(
	struct arena *a, const char *overlay, const struct inside_run *disk, const char *size)
{
	const char *program;
	int status, r = libexec_program(a, "caisson-disk", &program);
	const char *format = streq(disk->format, "vhd") ? "vpc" : disk->format;
	const char *const words[] = {"caisson-disk", "create", "-f", "qcow2", "--whole", "-b",
		disk->disk, "-F", format, overlay, size, NULL};

	if (r < 0)
		return r;
	pid_t pid = fork();
	if (pid == 0) {
		dup2(STDERR_FILENO, STDOUT_FILENO);
		execv(program, (char *const *)words);
		fprintf(stderr, "caisson: execute %s: %s\n", program, strerror(errno));
		_exit(1);
	}
	r = pid < 0 ? err_sys("make a process") : process_wait(pid, program, &status);
	if (r < 0)
		return r;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1;
}

/*
 * Returns whether the machine writes to an overlay. The disk of a container image always gets one
 * unless the writes are dropped, because all users of the image share the disk.
 */
static bool has_overlay(const struct machine_options *o)
{
	return o->overlay || o->size || (o->image && !o->ephemeral);
}

/*
 * Decides which image the machine writes to: the disk image in *run, or an overlay of it. Returns 1
 * if `caisson-disk create` could not make the overlay.
 */
static int choose_image(struct arena *a, const struct machine_options *o,
	const struct inside_run *run, struct machine_bundle *b)
{
	bool written = streq(run->format, "raw") || streq(run->format, "qcow2");
	bool overlay = has_overlay(o), is_there = false;

	b->disk = run->disk;
	b->format = run->format;
	/*
	 * --backing is about the files that the disk names. An overlay of a container image's disk
	 * has that disk as backing file, which caisson-disk allows when it makes the overlay.
	 */
	b->backing = overlay && o->image ? NULL : o->look.backing;
	if (!overlay && !o->ephemeral && !written)
		return err_set(ENOTSUP,
			"--disk %s: caisson only reads %s images: add --ephemeral, --size or "
			"--overlay FILE",
			o->disk, run->format);
	int r = check_lock(run->disk, !overlay && !o->ephemeral);
	if (r < 0 || !overlay)
		return r;
	const char *path = o->overlay ? o->overlay : arena_printf(a, "%s/" OVERLAY, b->path);
	if (!path)
		return -ENOMEM;
	is_there = access(path, F_OK) == 0;
	if (is_there && o->size)
		return err_set(EEXIST,
			"--size %s: the overlay %s is there already: grow it with `caisson disk "
			"resize %s %s`, and leave --size out",
			o->size, path, path, o->size);
	r = is_there ? check_lock(path, true) : create_overlay(a, path, run, o->size);
	if (r != 0)
		return r;
	if (o->overlay && !is_there)
		b->made = path;
	_cleanup_free_ char *real = realpath(path, NULL);
	b->disk = real ? arena_strdup(a, real) : NULL;
	b->format = "qcow2";
	/*
	 * b->backing stays as it is, because an overlay that caisson-disk made contains where its
	 * backing file may be.
	 */
	return b->disk ? 0 : real ? -ENOMEM : err_sys("--overlay %s", path);
}

/* --- what the machine boots --- */

/*
 * Gives the file `path` a second name in the bundle: a symbolic link, or a hard link if the store
 * may remove the file's first name.
 */
static int link_file(const struct machine_bundle *b, const char *path, const char *name, bool hard)
{
	_cleanup_free_ char *real = realpath(path, NULL);
	struct stat st;

	if (!real || stat(real, &st) < 0)
		return err_sys("--%s %s", name, path);
	if (!S_ISREG(st.st_mode))
		return err_set(EINVAL, "--%s %s: expected a file", name, path);
	if (hard && linkat(AT_FDCWD, real, b->dir, name, 0) == 0)
		return 0;
	return symlinkat(real, b->dir, name) < 0 ? err_sys("link %s", name) : 0;
}

/*
 * Finds the EFI firmware, and makes the file of its variables unless the file of --firmware-vars
 * exists.
 */
static int prepare_firmware(
	struct arena *a, const struct machine_options *o, struct machine_bundle *b)
{
	struct firmware f;
	const char *given = o->firmware_vars;
	int r = firmware_find(a, o->firmware, &f);

	if (r < 0)
		return r;
	b->firmware = f.code;
	b->firmware_vars = given ? given : arena_printf(a, "%s/" VARS, b->path);
	if (!b->firmware_vars)
		return -ENOMEM;
	if (!given)
		return firmware_make_vars(&f, b->dir, VARS);
	if (access(given, F_OK) < 0) {
		r = firmware_make_vars(&f, AT_FDCWD, given);
		b->made_vars = r < 0 ? NULL : given;
	}
	_cleanup_free_ char *real = r < 0 ? NULL : realpath(given, NULL);
	if (r < 0 || !real)
		return r < 0 ? r : err_sys("--firmware-vars %s", given);
	b->firmware_vars = arena_strdup(a, real);
	return b->firmware_vars ? 0 : -ENOMEM;
}

static int prepare_boot(struct arena *a, const struct machine_options *o, struct machine_bundle *b)
{
	int r = 0;

	if (o->firmware)
		return prepare_firmware(a, o, b);
	if (!o->kernel)
		return inside_take_boot(a, &o->look, o->disk, b->dir);
	r = link_file(b, o->kernel, BOOT_KERNEL, o->fetched);
	return r < 0 || !o->initrd ? r : link_file(b, o->initrd, BOOT_INITRD, o->fetched);
}

/* --- the bundle's config.json --- */

/*
 * Writes an array of the words in `line` and in `more`, which are parts of the kernel's command
 * line.
 */
static int put_words(struct json_out *o, const char *key, const char *line, const char *more)
{
	json_out_array(o, key);
	for (int i = 0; i < 2; i++) {
		char word[WORD_LIST_MAX];
		const char *at = i == 0 ? line : more;
		while (at && *at) {
			at += strspn(at, " \n");
			size_t n = strcspn(at, " \n");
			if (n >= sizeof(word))
				return err_set(E2BIG, "--append: a word of more than %d bytes",
					WORD_LIST_MAX);
			snprintf(word, sizeof(word), "%.*s", (int)n, at);
			if (n > 0)
				json_out_str(o, NULL, word);
			at += n;
		}
	}
	json_out_end_array(o);
	return 0;
}

static int put_kernel(struct arena *a, const struct machine_options *o,
	const struct machine_bundle *b, struct json_out *out)
{
	_cleanup_strbuf_ struct strbuf line = {0};
	bool initrd = faccessat(b->dir, BOOT_INITRD, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	const char *kernel = arena_printf(a, "%s/" BOOT_KERNEL, b->path);
	const char *path = arena_printf(a, "%s/" BOOT_INITRD, b->path);
	int r = 0;

	if (!kernel || !path)
		return -ENOMEM;
	if (!o->kernel)
		r = fd_read_regular(b->dir, BOOT_CMDLINE, &line, WORD_LIST_MAX);
	if (r < 0)
		return r;
	json_out_object(out, "kernel");
	json_out_str(out, "path", kernel);
	if (initrd)
		json_out_str(out, "initrd", path);
	r = put_words(out, "parameters", strbuf_str(&line), o->append);
	json_out_end_object(out);
	return r;
}

static void put_hardware(const struct machine_options *o, struct json_out *out)
{
	json_out_object(out, "hwConfig");
	json_out_u64(out, "memory", o->memory_bytes);
	json_out_u64(out, "vcpus", o->ncpus);
	json_out_end_object(out);
}

/*
 * Returns whether ssh and its configuration can read the text as nothing but the name of a user.
 */
static bool is_user(const char *user)
{
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";

	return *user && !strchr("-.", user[0]) && !user[strspn(user, letters)];
}

/* Takes the user of --ssh-user. */
static int check_user(const char *user, struct strbuf *ret)
{
	if (!is_user(user))
		return err_set(EINVAL,
			"--ssh-user %s: expected letters, digits, \"_\", \".\" and \"-\"", user);
	return strbuf_add(ret, user, strlen(user));
}

/*
 * Reads the name of the user as whom ssh logs in: the user whom the disk names, or else root. The
 * name on the disk is hostile input.
 */
static int read_user(const struct machine_bundle *b, struct strbuf *ret)
{
	int r = 0;

	if (faccessat(b->dir, BOOT_USER, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		r = fd_read_regular(b->dir, BOOT_USER, ret, 64);
	if (r < 0)
		return r;
	const char *user = strbuf_str(ret);
	if (strlen(user) == ret->len && (ret->len == 0 || is_user(user)))
		return ret->len == 0 ? strbuf_add(ret, "root", 4) : 0;
	log_warn("--ssh-key: the disk's cloud.cfg names the user \"%s\": expected letters, digits, "
		 "\"_\", \".\" and \"-\": `caisson exec` logs in as root",
		user);
	strbuf_reset(ret);
	return strbuf_add(ret, "root", 4);
}

/*
 * Writes annotations by which `caisson exec` logs in to the machine by ssh: the user's name, and
 * the path of the private key, which is the path of --ssh-key without ".pub".
 */
static int put_ssh(struct arena *a, const struct machine_options *o, const struct machine_bundle *b,
	struct json_out *out)
{
	_cleanup_strbuf_ struct strbuf user = {0};
	const char *path = o->cloud.ssh_key;

	if (!path)
		return 0;
	int r = o->ssh_user ? check_user(o->ssh_user, &user) : read_user(b, &user);
	if (r < 0)
		return r;
	json_out_str(out, "io.caisson.vm.ssh.user", strbuf_str(&user));
	if (!str_ends(path, ".pub"))
		return 0;
	path = arena_strndup(a, path, strlen(path) - strlen(".pub"));
	_cleanup_free_ char *real = path ? realpath(path, NULL) : NULL;
	if (real)
		json_out_str(out, "io.caisson.vm.ssh.key", real);
	return 0;
}

static int put_annotations(struct arena *a, const struct machine_options *o,
	const struct machine_bundle *b, struct json_out *out)
{
	const char *seed = arena_printf(a, "%s/seed", b->path);

	if (!seed)
		return -ENOMEM;
	json_out_object(out, "annotations");
	json_out_str(out, "io.caisson.vm.guest", "foreign");
	json_out_str(out, "io.caisson.vm.seed", seed);
	/*
	 * With --ephemeral and --size, no option drops what the machine writes, because the overlay
	 * in the machine's directory is removed with the machine anyway.
	 */
	if (b->disk)
		json_out_str(out, "io.caisson.vm.image.snapshot",
			o->ephemeral && !o->size ? "true" : "false");
	if (b->backing)
		json_out_str(out, "io.caisson.vm.image.backing", b->backing);
	if (o->vnc)
		json_out_str(out, "io.caisson.vm.vnc", "true");
	if (b->firmware) {
		json_out_str(out, "io.caisson.vm.firmware", b->firmware);
		json_out_str(out, "io.caisson.vm.firmware.vars", b->firmware_vars);
	}
	int r = put_ssh(a, o, b, out);
	json_out_end_object(out);
	return r;
}

static void put_container(const struct machine_options *o, struct json_out *out)
{
	json_out_str(out, "ociVersion", "1.0.2");
	json_out_object(out, "root");
	json_out_str(out, "path", "rootfs");
	json_out_end_object(out);
	json_out_object(out, "process");
	json_out_bool(out, "terminal", o->console_socket || (!o->detach && isatty(STDIN_FILENO)));
	json_out_str(out, "cwd", "/");
	json_out_array(out, "args");
	json_out_str(out, NULL, "init");
	json_out_end_array(out);
	json_out_end_object(out);
	json_out_object(out, "linux");
	inside_put_namespaces(out);
	json_out_end_object(out);
}

static int write_config(
	struct arena *a, const struct machine_options *o, const struct machine_bundle *b)
{
	_cleanup_json_out_ struct json_out out = {0};
	const char *text;
	size_t len;

	int r = json_out_init(&out, true);
	if (r < 0)
		return r;
	json_out_object(&out, NULL);
	put_container(o, &out);
	json_out_object(&out, "vm");
	if (!o->firmware)
		r = put_kernel(a, o, b, &out);
	if (b->disk) {
		json_out_object(&out, "image");
		json_out_str(&out, "path", b->disk);
		json_out_str(&out, "format", b->format);
		json_out_end_object(&out);
	}
	put_hardware(o, &out);
	json_out_end_object(&out);
	if (r >= 0)
		r = put_annotations(a, o, b, &out);
	json_out_end_object(&out);
	if (r >= 0)
		r = json_out_text(&out, &text, &len);
	return r < 0 ? r : fd_replace_file(b->dir, "config.json", text, len, 0600);
}

static int write_seed(const struct machine_options *o, const struct machine_bundle *b)
{
	_cleanup_fd_ int seed = openat(b->dir, "seed", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return seed < 0 ? err_sys("open %s/seed", b->path) : cloud_write(&o->cloud, seed);
}

int machine_bundle_make(
	struct arena *a, const struct machine_options *o, struct machine_bundle *ret)
{
	static const struct inside_command none = {.name = "--disk"};
	struct inside_run run;

	int r = o->disk ? inside_prepare(a, &none, &o->look, o->disk, &run) : 0;
	if (r >= 0)
		r = make_directory(a, o, ret);
	/*
	 * The files for cloud-init, which the user has given, are checked first, because looking
	 * into the disk takes long.
	 */
	if (r >= 0)
		r = write_seed(o, ret);
	if (r >= 0 && o->disk)
		r = choose_image(a, o, &run, ret);
	if (r == 0)
		r = prepare_boot(a, o, ret);
	return r == 0 ? write_config(a, o, ret) : r;
}
