/* SPDX-License-Identifier: Apache-2.0 */
/* `caisson run --disk`: machine.c parses its options, and machine_bundle.c makes the bundle. */
#pragma once
#include "inside/cloud.h"
#include "inside/inside.h"

struct machine_options {
	const char *disk, *overlay, *size, *memory, *cpus, *hypervisor;
	const char *kernel, *initrd, *append, *isolation;
	const char *image, *store;  /* --disk image:IMAGE: an image of containers */
	struct inside_options look; /* of the microVM that looks into the disk */
	struct cloud cloud;
	struct option_list networks, ports, dns;
	const char *pid_file, *console_socket;
	bool ephemeral, detach, keep;
	const char *name;
};

/* The machine's bundle: a directory that is the machine's alone, and is removed with it. */
struct machine_bundle {
	const char *path; /* NULL: it was not made */
	int dir;
	const char *disk;    /* absolute path of the image that the machine writes to */
	const char *format;  /* its format, as vm.image.format has it */
	const char *backing; /* where its backing files may be, or NULL */
};

/* containerdisk.c: sets `disk` to the one in `image`. Returns 1 after an error of caisson-image. */
int machine_find_containerdisk(struct arena *a, struct machine_options *o) must_check;

int machine_bundle_make(
	struct arena *a, const struct machine_options *o, struct machine_bundle *ret) must_check;
