/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares the parts of `caisson run --disk`: machine.c parses its options, and machine_bundle.c
 * makes the machine's bundle.
 */
#pragma once
#include "inside/cloud.h"
#include "inside/inside.h"

struct machine_options {
	const char *disk, *overlay, *size, *memory, *cpus, *hypervisor;
	uint64_t memory_bytes, ncpus; /* the numbers of --memory and --cpus, or the defaults */
	const char *kernel, *initrd, *append, *isolation;
	/* values of --firmware and --firmware-vars; firmware NULL: the kernel is booted directly */
	const char *firmware, *firmware_vars;
	const char
		*ssh_user; /* the user as whom `caisson exec` logs in; NULL: the disk names him */
	/*
	 * the container image IMAGE of --disk image:IMAGE or --image IMAGE, the directory of the
	 * store that it is in, and the platform of an image for several platforms
	 */
	const char *image, *store, *platform;
	/* whether the kernel or the initramfs is a file of the store, which may remove it later */
	bool fetched;
	bool is_run_image; /* whether the command is `run --image` */
	/* options of the microVM that looks into the disk before the machine boots */
	struct inside_options look;
	struct cloud cloud;
	struct option_list networks, ports, dns;
	const char *pid_file, *console_socket;
	bool ephemeral, detach, keep, vnc;
	/* --rm of `run --image`; without this option a machine stays after its end */
	bool rm;
	bool quiet;
	const char *name;
};

/* The bundle of one machine: a directory that caisson removes when it deletes the machine. */
struct machine_bundle {
	const char *path; /* path of the bundle; NULL: the bundle was not made */
	int dir;
	/*
	 * paths of the files of --overlay and --firmware-vars, which are removed after a failure;
	 * NULL: this command has not made the file
	 */
	const char *made, *made_vars;
	/* absolute paths of the EFI firmware and its variables, or NULL */
	const char *firmware, *firmware_vars;
	/* absolute path of the image that the machine writes to; NULL: it has no disk */
	const char *disk;
	const char *format; /* format of the image `disk`, named as in vm.image.format */
	/* where the backing files of the image `disk` may be, as --backing says it, or NULL */
	const char *backing;
};

/* The files of an EFI firmware. */
struct firmware {
	const char *code;
	/* template of the file of variables; NULL: none is known */
	const char *vars;
};

/*
 * firmware.c: finds the firmware that --firmware names, or the installed one if the value is "efi".
 */
int firmware_find(struct arena *a, const char *wanted, struct firmware *ret) must_check;
/* Copies the template of the variables to the new file `path` of the directory `dir`. */
int firmware_make_vars(const struct firmware *f, int dir, const char *path) must_check;

/*
 * containerdisk.c: sets o->disk to the disk in the container image o->image. Returns 1 if
 * caisson-image has failed and has printed why.
 */
int machine_find_containerdisk(struct arena *a, struct machine_options *o) must_check;

/*
 * containerdisk.c: if *file, the value of --kernel or --initrd, is a URL, lets caisson-image fetch
 * the file into the store, and sets *file to its path there. Returns 1 if caisson-image has failed
 * and has printed why.
 */
int machine_fetch(struct arena *a, struct machine_options *o, const char **file) must_check;

int machine_bundle_make(
	struct arena *a, const struct machine_options *o, struct machine_bundle *ret) must_check;
