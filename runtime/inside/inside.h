/* SPDX-License-Identifier: Apache-2.0 */
/*
 * caisson-inside: what `caisson disk` executes to look into a disk, and to copy into or out of it.
 *
 * The program has two roles. On the host it makes a bundle and becomes `caisson run` with it, in a
 * microVM without a network. The bundle's root file system is a few directories of the host,
 * read-only, and the disk is the microVM's /dev/vda. In the guest the same program is the
 * container's process: it finds the file systems of the disk, lets the guest's kernel mount them
 * beneath SYSROOT, and does what was asked for. So no kernel but the guest's ever reads a file
 * system that someone else has made.
 *
 *	main.c     the table of commands
 *	host.c     the options of a command, and what becomes of them
 *	bundle.c   the bundle
 *	copy.c     `cp` on the host: packs what goes in, and unpacks what comes out
 *	guest.c    the guest's role: sets the guest up, and calls the command
 *	devices.c  block devices, and what is on them
 *	mounts.c   mounts of file systems
 *	list.c     ls, cat, df, shell
 *	pack.c     makes a tar of files
 *	archive.c  tar-out, tar-in
 *	system.c   what operating system is on a file system
 *	packages.c its packages
 *	inspect.c  inspect
 *	boot.c     what the operating system boots
 *
 * `caisson run --disk` is the same program too, on the host only:
 *
 *	machine.c  the options, and what becomes of them
 *	machine_bundle.c  the bundle of the machine
 *	cloud.c    the files for cloud-init
 *	containerdisk.c  the disk in an image of containers
 */
#pragma once
#include "base/fd.h"
#include "base/json.h"
#include "cmd/options.h"

#define INSIDE_PROGRAM "/inside/caisson-inside" /* path of this program in the guest */
#define INSIDE_GUEST "--in-guest"               /* first word of the guest's role */
#define INSIDE_BOOT "boot"                      /* the command of boot.c */
#define INSIDE_MACHINE "--machine"              /* first word of `caisson run --disk` */
#define INSIDE_MODULES "/modules"               /* the modules of the guest's kernel */
#define INSIDE_KEYS "/keys"                     /* files with the keys of encrypted devices */
#define INSIDE_KEYS_MAX 8
#define SYSROOT "/sysroot"
/* What caisson tells this program in its environment: its own path, and the value of --root. */
#define RUNTIME_VARIABLE "CAISSON_DISK_RUNTIME"
#define STATE_VARIABLE "CAISSON_DISK_STATE"

/* The options of the commands. The host parses them, and hands those on that the guest needs. */
struct inside_options {
	/* of the host only */
	const char *format, *backing, *image_key, *kernel, *hypervisor, *memory;
	/* of both */
	struct option_list mounts, keys;
	bool write, is_long, recursive, human, inodes, json, archive, quote;
	const char *as; /* name that the first source of a copy gets */
};

struct inside_guest;

struct inside_command {
	const char *name, *usage, *summary, *text;
	int min, max;    /* number of arguments behind DISK */
	unsigned extras; /* INSIDE_... options that the command has */
	bool write;      /* the command writes to the disk */
	/* NULL: the guest does all of it */
	int (*host)(
		const struct inside_command *self, struct inside_options *o, int argc, char **argv);
	int (*guest)(struct inside_guest *g, int argc, char **argv);
};

#define INSIDE_LONG 1u
#define INSIDE_RECURSIVE 2u
#define INSIDE_HUMAN 4u
#define INSIDE_INODES 8u
#define INSIDE_JSON 16u
#define INSIDE_ARCHIVE 32u
#define INSIDE_WRITE 64u
#define INSIDE_REST 128u /* all words behind DISK are arguments */

extern const struct inside_command inside_commands[];

/* --- the host --- */

/* The command `boot` as a part of `caisson run --disk`: takes what boots into a directory. */
int inside_take_boot(struct arena *a, const struct inside_options *o, const char *disk, int dir)
	must_check;
int inside_machine(int argc, char **argv) must_check; /* `caisson run --disk` */
int inside_host(const struct inside_command *c, int argc, char **argv) must_check;
int inside_guest(int argc, char **argv) must_check;

/* The microVM that does a command. */
struct inside_run {
	const struct inside_command *command;
	const struct inside_options *options;
	const char *disk; /* absolute path */
	const char *format;
	bool write, terminal;
	/* words of the guest's command line behind the command's options */
	char **words;
	int nwords;
};

/* Makes the bundle in a new directory, whose path is *ret. */
int inside_make_bundle(struct arena *a, const struct inside_run *r, const char **ret) must_check;
/* Writes linux.namespaces, as a microVM needs them. */
void inside_put_namespaces(struct json_out *o);
void inside_remove_bundle(const char *dir);
/* Becomes `caisson run` with the bundle. Returns only after a failure. */
int inside_become_run(struct arena *a, const struct inside_run *r, const char *bundle) must_check;
/* Makes the bundle and becomes `caisson run` of it. Returns only after a failure. */
int inside_execute(struct arena *a, const struct inside_run *r) must_check;
/*
 * Starts `caisson run` with the bundle, in a child. One end of a pipe is its standard input or
 * output, and *ret_end the other one. Returns the child's pid.
 */
int inside_start_run(struct arena *a, const struct inside_run *run, const char *bundle, bool in,
	int *ret_end) must_check;
/*
 * Waits for `caisson run`. Returns r, which is what became of the data, or the exit code of
 * `caisson run`, which has said why it failed, if that was first.
 */
int inside_end_run(pid_t pid, int r) must_check;
/* Fills *ret from the options; `disk` is the argument DISK. */
int inside_prepare(struct arena *a, const struct inside_command *c, const struct inside_options *o,
	const char *disk, struct inside_run *ret) must_check;

int inside_host_cp(const struct inside_command *self, struct inside_options *o, int argc,
	char **argv) must_check;
int inside_host_tar(const struct inside_command *self, struct inside_options *o, int argc,
	char **argv) must_check;

/* --- both: tar --- */

/*
 * Makes a tar (PAX) on `out` of the files `names` in the directory `dir`. `as` is the name that the
 * first of them gets in the tar; NULL: its own. Symbolic links are not followed.
 */
struct pack;
int pack_start(struct pack **ret, int out) must_check;
int pack_add(struct pack *p, int dir, const char *name, const char *as) must_check;
int pack_finish(struct pack *p) must_check;
void pack_free(struct pack *p);

struct tree_options;
struct tar_entry;
/*
 * Unpacks a tar from `in` into the directory `root`. `edit` may change an entry, and returns 1 to
 * take it, 0 to leave it out, or -errno.
 */
int inside_unpack(int in, int root, const struct tree_options *options,
	int (*edit)(void *data, struct tar_entry *e), void *data) must_check;

/* --- the guest --- */

#define DEVICES_MAX 128

/* A block device of the guest, and what blkid(8) finds on it. Texts are "" if it finds nothing. */
struct device {
	const char *name; /* such as "vda1" or "vg-root" */
	const char *path; /* such as "/dev/vda1" or "/dev/mapper/vg-root" */
	const char *type; /* file system, or another kind of content, such as "LVM2_member" */
	const char *usage, *label, *uuid, *part_uuid, *part_label, *table;
	uint64_t size;
	unsigned major, minor;
	unsigned partition; /* 0: none */
	bool opened;        /* what is in it (LVM, LUKS, RAID) was activated */
	const char *note;   /* why what is in it is not there; NULL: no reason to be */
};

struct mounted {
	const char *device, *path, *type, *options;
};

struct inside_guest {
	struct arena arena;
	struct inside_options options;
	struct device devices[DEVICES_MAX];
	size_t ndevices;
	struct mounted mounts[DEVICES_MAX];
	size_t nmounts;
	const struct modules *modules; /* NULL: all drivers are built in */
	int modules_dir;
	int root; /* descriptor of SYSROOT once a file system is mounted there */
};

/* Finds the devices, and activates volume groups, encrypted devices and RAIDs. */
int devices_find(struct inside_guest *g) must_check;
/* Loads the drivers for all of these kinds of devices, for programs of the shell. */
int devices_load_all(struct inside_guest *g) must_check;
bool device_has_files(const struct device *d);
/*
 * Returns the device that a text names as in fstab(5): UUID=..., LABEL=..., /dev/sda1; or NULL.
 */
const struct device *devices_named(const struct inside_guest *g, const char *text);
/* Loads modules by name if the kernel has them; a module that is missing is no error. */
int guest_load(struct inside_guest *g, const char *const *names, size_t n) must_check;
/* Runs a program and returns its exit code; its output is added to *out if that is not NULL. */
int guest_run(const char *const *argv, struct strbuf *out) must_check;
/* Runs a program with the streams of this one, and returns its exit code. */
int guest_wait(char **argv) must_check;

/* Mounts what the options or the disk's own fstab say. */
int mounts_make(struct inside_guest *g) must_check;
/* Mounts one file system on SYSROOT, and sets g->root; mounts_clear() takes all mounts away. */
int mounts_try(struct inside_guest *g, const struct device *d, const char *options) must_check;
/* Loads the drivers of the usual file systems, for programs of the shell. */
void mounts_load_all(struct inside_guest *g);
int mounts_fstab(struct inside_guest *g) must_check;
void mounts_clear(struct inside_guest *g);
/* Adds a list of the file systems to the message of an error. */
int mounts_err_list(const struct inside_guest *g, const char *text);

/* Calls f for each operating system on the disk, while its file systems are mounted. */
int systems_each(struct inside_guest *g,
	int (*f)(
		void *data, struct inside_guest *g, const struct device *root, const char *options),
	void *data) must_check;
bool system_is_here(const struct inside_guest *g);
/* Value of a variable in a file such as os-release, or NULL. */
const char *system_variable(struct arena *a, const char *text, const char *name);
int system_read(const struct inside_guest *g, const char *path, struct strbuf *ret, size_t max)
	must_check;
/* Machine of an ELF program of the system, such as "x86_64", or NULL. */
const char *system_arch(struct inside_guest *g);

/* Writes the members package_format, package_management and packages. Returns their number. */
int packages_write(struct inside_guest *g, struct json_out *o, uint64_t *ret) must_check;
const char *packages_format(const struct inside_guest *g);

int guest_ls(struct inside_guest *g, int argc, char **argv) must_check;
int guest_cat(struct inside_guest *g, int argc, char **argv) must_check;
int guest_df(struct inside_guest *g, int argc, char **argv) must_check;
int guest_shell(struct inside_guest *g, int argc, char **argv) must_check;
int guest_tar_out(struct inside_guest *g, int argc, char **argv) must_check;
int guest_tar_in(struct inside_guest *g, int argc, char **argv) must_check;
int guest_cp(struct inside_guest *g, int argc, char **argv) must_check;
int guest_boot(struct inside_guest *g, int argc, char **argv) must_check;
int guest_inspect(struct inside_guest *g, int argc, char **argv) must_check;
