/* SPDX-License-Identifier: Apache-2.0 */
/*
 * caisson-inside: what `caisson disk` executes to look into a disk, and to copy into or out of it.
 *
 * The program has two roles. On the host it makes a bundle and becomes `caisson run` with it, in a
 * microVM without a network. The bundle's root file system is a few directories of the host,
 * read-only, and the disk is /dev/vda of the microVM. In the guest the same program is the
 * container's process: it finds the file systems of the disk, lets the guest's kernel mount them
 * beneath SYSROOT, and carries out the command. So only the guest's kernel, and never the host's,
 * reads the file systems of a disk.
 *
 * 	main.c     the table of commands
 * 	host.c     the options of a command, and what becomes of them
 * 	bundle.c   the bundle
 * 	guard.c    what is removed if the command is killed
 * 	copy.c     `cp` on the host: packs what goes in, and unpacks what comes out
 * 	guest.c    the guest's role: sets the guest up, and calls the command
 * 	devices.c  block devices, and what is on them
 * 	mounts.c   mounts of file systems
 * 	list.c     ls, cat, df, shell
 * 	pack.c     makes a tar of files
 * 	archive.c  tar-out, tar-in
 * 	system.c   what operating system is on a file system
 * 	packages.c its packages
 * 	inspect.c  inspect
 * 	boot.c     what the operating system boots
 * 	mount.c    mount and umount on the host
 * 	export.c   mount in the guest
 * 	agent.c    `caisson machine install-agent`, which looks into a disk as `caisson disk` does
 *
 * `caisson run --disk` is the same program too, on the host only:
 *
 * 	machine.c  the options, and what becomes of them
 * 	machine_bundle.c  the bundle of the machine
 * 	cloud.c    the files for cloud-init
 * 	containerdisk.c  the disk in an image of containers, and a kernel from the network
 * 	firmware.c the EFI firmware and its variables
 */
#pragma once
#include "base/fd.h"
#include "base/json.h"
#include "base/libexec.h"
#include "cmd/options.h"

/* path of this program, caisson-inside, in the guest */
#define INSIDE_PROGRAM "/inside/caisson-inside"
#define INSIDE_GUEST "--in-guest"    /* first argument of caisson-inside in the guest */
#define INSIDE_BOOT "boot"           /* name of the command that boot.c implements */
#define INSIDE_AGENT "install-agent" /* name of the command that agent.c implements */
/* first argument of caisson-inside if `caisson run --disk` executes it */
#define INSIDE_MACHINE "--machine"
#define INSIDE_MODULES "/modules" /* directory in the guest with the modules of its kernel */
/* directory in the guest with the passphrase files of encrypted devices */
#define INSIDE_KEYS "/keys"
#define INSIDE_KEYS_MAX 8
#define SYSROOT "/sysroot"
/* what the guest of `mount` sends once the file systems are mounted; FUSE replies follow */
#define INSIDE_READY "caisson-mounted\n"

/*
 * The options of a command. The host parses them, and hands those that the guest needs on to the
 * guest.
 */
struct inside_options {
	/* options that only the host uses */
	const char *format, *backing, *image_key, *kernel, *hypervisor, *memory;
	const char *kernel_option; /* name of the option of `kernel`; NULL: --kernel */
	/* options that the host hands on to the guest */
	struct option_list mounts, keys;
	bool write, is_long, recursive, human, inodes, json, archive, quote, allow_other;
	const char *as; /* name that the first source of a copy gets in the tar */
};

struct inside_guest;

struct inside_command {
	const char *name, *usage, *summary, *text;
	int min, max; /* how many arguments may follow DISK */
	/* bits of INSIDE_...: the options that the command has besides the common ones */
	unsigned extras;
	bool write; /* whether the command writes to the disk */
	/* does the command's part on the host; NULL: the guest does all of the command */
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
#define INSIDE_ALLOW_OTHER 256u
#define INSIDE_REST 128u /* all words behind DISK are arguments, even if they begin with "-" */

extern const struct inside_command inside_commands[];

/* Returns the command of caisson to which the subcommand `name` belongs: "disk" or "machine". */
static inline const char *inside_group(const char *name)
{
	return streq(name, INSIDE_AGENT) ? "machine" : "disk";
}

/* --- functions on the host --- */

/*
 * Runs the command `boot` for `caisson run --disk`: takes what the disk's operating system boots,
 * such as its kernel, from the disk into the directory `dir`.
 */
int inside_take_boot(struct arena *a, const struct inside_options *o, const char *disk, int dir)
	must_check;
int inside_machine(int argc, char **argv) must_check; /* implements `caisson run --disk` */
int inside_host(const struct inside_command *c, int argc, char **argv) must_check;
int inside_guest(int argc, char **argv) must_check;

/* What the host has to know to run a command in a microVM. */
struct inside_run {
	const struct inside_command *command;
	const struct inside_options *options;
	const char *disk; /* absolute path of the disk image */
	const char *format;
	bool write, terminal;
	/* arguments that follow the options on the guest's command line */
	char **words;
	int nwords;
	const char *target; /* where `mount` mounts the disk on the host; NULL: nowhere */
	pid_t *relay; /* the pid of the relay of `mount`, in memory that all processes share */
};

/* The bundle of a microVM, and the container that `caisson run` makes from it. */
struct inside_bundle {
	char *path;
	const char *id; /* the container's ID */
	/*
	 * descriptor with a lock that lasts until the last process of the command has ended
	 * (guard.c)
	 */
	int lock;
};

/*
 * Makes the directory of a bundle, and a process that removes the directory and the container if
 * the command is killed.
 */
int inside_begin(struct arena *a, const struct inside_run *r, struct inside_bundle *ret) must_check;
/*
 * Makes the kernel kill this process, a child of the process `parent`, when the parent ends. The
 * setting stays when this process executes another program.
 */
int inside_end_with(pid_t parent) must_check;
/* Takes away the mount of a `caisson disk mount` whose relay has ended. */
void inside_drop_mount(const struct inside_run *run);

/* Makes the bundle of the microVM in a new directory. */
int inside_make_bundle(struct arena *a, const struct inside_run *r, struct inside_bundle *ret)
	must_check;
/*
 * Writes linux.namespaces of config.json, with the namespaces that the bundle of a microVM needs.
 */
void inside_put_namespaces(struct json_out *o);
void inside_remove_bundle(const char *dir);
/*
 * Begins a command line of caisson with the words that name the program and the state directory,
 * three at most. Returns their number, or 0 if `caisson disk` has not executed this program.
 */
size_t inside_begin_words(const char **words);
/* Executes `caisson run` with the bundle in this process. Returns only after a failure. */
int inside_become_run(struct arena *a, const struct inside_run *r, const struct inside_bundle *b)
	must_check;
/*
 * Makes the bundle of the microVM and executes `caisson run` with it in this process. Returns only
 * after a failure.
 */
int inside_execute(struct arena *a, const struct inside_run *r) must_check;
/*
 * Reads the size that the user gave with --memory and checks that a microVM can have it. Leaves
 * *ret as it is if `given` is NULL.
 */
int inside_memory(const char *given, uint64_t *ret) must_check;
/* Fills *ret from the command and its options. `disk` is the command's argument DISK. */
int inside_prepare(struct arena *a, const struct inside_command *c, const struct inside_options *o,
	const char *disk, struct inside_run *ret) must_check;

int inside_host_cp(const struct inside_command *self, struct inside_options *o, int argc,
	char **argv) must_check;
int inside_host_mount(const struct inside_command *self, struct inside_options *o, int argc,
	char **argv) must_check;
int inside_host_umount(const struct inside_command *self, struct inside_options *o, int argc,
	char **argv) must_check;
int inside_host_agent(const struct inside_command *self, struct inside_options *o, int argc,
	char **argv) must_check;
int inside_host_tar(const struct inside_command *self, struct inside_options *o, int argc,
	char **argv) must_check;

/* --- functions of pack.c and archive.c, on the host and in the guest --- */

/*
 * pack_start() begins a tar (PAX), which is written to the descriptor `out`. pack_add() adds the
 * file or directory `name` of the directory `dir`. `as` is its name in the tar, or NULL if it keeps
 * its name. Symbolic links are not followed.
 */
struct pack;
int pack_start(struct pack **ret, int out) must_check;
int pack_add(struct pack *p, int dir, const char *name, const char *as) must_check;
int pack_finish(struct pack *p) must_check;
void pack_free(struct pack *p);

struct tree_options;
struct tar_entry;
/*
 * Unpacks the tar from the descriptor `in` into the directory `root`. edit() may change an entry of
 * the tar, and returns 1 to unpack the entry, 0 to leave it out, or -errno.
 */
int inside_unpack(int in, int root, const struct tree_options *options,
	int (*edit)(void *data, struct tar_entry *e), void *data) must_check;

/* --- functions in the guest --- */

#define DEVICES_MAX 128

/*
 * A block device of the guest, and what blkid(8) finds on it. A text that blkid does not find is
 * "".
 */
struct device {
	const char *name; /* name of the device, such as "vda1" or "vg-root" */
	const char *path; /* path of the device in the guest, such as "/dev/vda1" or "/dev/dm-0" */
	const char *usual_path; /* the path by which users know it, such as "/dev/mapper/vg-root" */
	/*
	 * what is on the device: the type of its file system, or another type, such as
	 * "LVM2_member"
	 */
	const char *type;
	const char *usage, *label, *uuid, *part_uuid, *part_label, *table;
	uint64_t size;
	unsigned major, minor;
	unsigned partition; /* number of the partition on its disk; 0: the device is no partition */
	bool opened;        /* whether the LVM, LUKS or RAID on the device was activated */
	/* why the content of the device cannot be used; NULL: nothing is known against it */
	const char *note;
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
	/* list of the modules of the guest's kernel; NULL: all drivers are built in */
	const struct modules *modules;
	int modules_dir;
	int root; /* descriptor of SYSROOT once a file system is mounted there */
};

/*
 * Finds the block devices of the disk, and activates volume groups, encrypted devices and RAIDs on
 * them.
 */
int devices_find(struct inside_guest *g) must_check;
/*
 * Loads the drivers of volume groups, encrypted devices and RAIDs, because the user of `caisson
 * disk shell` may run programs that need them.
 */
int devices_load_all(struct inside_guest *g) must_check;
bool device_has_files(const struct device *d);
/*
 * Returns the device that the text names as in fstab(5), such as UUID=..., LABEL=... or /dev/sda1.
 * Returns NULL if the disk has no such device.
 */
const struct device *devices_named(const struct inside_guest *g, const char *text);
/* Loads modules by their names. A module that the guest's kernel does not have is no error. */
int guest_load(struct inside_guest *g, const char *const *names, size_t n) must_check;
/*
 * Runs a program and returns its exit code. If `out` is not NULL, appends the program's standard
 * output to *out.
 */
int guest_run(const char *const *argv, struct strbuf *out) must_check;
/* Runs a program with the standard streams of this process, and returns the program's exit code. */
int guest_wait(char **argv) must_check;

/* Mounts the file systems that the options --mount or else the disk's own fstab name. */
int mounts_make(struct inside_guest *g) must_check;
/*
 * Mounts the file system of one device on SYSROOT, and sets g->root. mounts_clear() unmounts all
 * that is mounted on and beneath SYSROOT.
 */
int mounts_try(struct inside_guest *g, const struct device *d, const char *options) must_check;
/*
 * Loads the drivers of the usual file systems, because the user of `caisson disk shell` may mount
 * file systems there.
 */
void mounts_load_all(struct inside_guest *g);
int mounts_fstab(struct inside_guest *g) must_check;
void mounts_clear(struct inside_guest *g);
/*
 * Sets an error message from the format `text`, whose %s becomes a list of the file systems on the
 * disk. Returns -EINVAL.
 */
int mounts_err_list(const struct inside_guest *g, const char *text);

/*
 * Calls f for each operating system on the disk, while its root file system is mounted on SYSROOT.
 */
int systems_each(struct inside_guest *g,
	int (*f)(
		void *data, struct inside_guest *g, const struct device *root, const char *options),
	void *data) must_check;
bool system_is_here(const struct inside_guest *g);
/*
 * Returns the value of a variable in the text of a file such as os-release, or NULL if the text
 * does not set the variable.
 */
const char *system_variable(struct arena *a, const char *text, const char *name);
int system_read(const struct inside_guest *g, const char *path, struct strbuf *ret, size_t max)
	must_check;
/*
 * Returns the machine type of the operating system, such as "x86_64", which the header of one of
 * its ELF programs names. Returns NULL if no program tells it.
 */
const char *system_arch(struct inside_guest *g);

/*
 * Writes the members package_format and packages about the mounted operating system. *ret is the
 * number of its packages.
 */
int packages_write(struct inside_guest *g, struct json_out *o, uint64_t *ret) must_check;
const char *packages_format(const struct inside_guest *g);

int guest_ls(struct inside_guest *g, int argc, char **argv) must_check;
int guest_cat(struct inside_guest *g, int argc, char **argv) must_check;
int guest_df(struct inside_guest *g, int argc, char **argv) must_check;
int guest_shell(struct inside_guest *g, int argc, char **argv) must_check;
int guest_tar_out(struct inside_guest *g, int argc, char **argv) must_check;
int guest_tar_in(struct inside_guest *g, int argc, char **argv) must_check;
int guest_cp(struct inside_guest *g, int argc, char **argv) must_check;
int guest_mount(struct inside_guest *g, int argc, char **argv) must_check;
int guest_boot(struct inside_guest *g, int argc, char **argv) must_check;
int guest_install_agent(struct inside_guest *g, int argc, char **argv) must_check;
int guest_inspect(struct inside_guest *g, int argc, char **argv) must_check;
