/* SPDX-License-Identifier: Apache-2.0 */
/*
 * caisson-disk, the program behind `caisson disk`. It is a program of its own, so that `caisson`
 * carries no compression library. Each subcommand is a file with a run function, which returns an
 * exit code, or -errno with the message set.
 */
#pragma once
#include <stdio.h>
#include <stdlib.h>

#include "base/fd.h"
#include "base/json.h"
#include "cmd/options.h"
#include "images/disk/disk.h"
#include "images/disk/qcow2.h"

struct tool_command {
	const char *name;
	const char *usage;   /* behind "caisson disk NAME " */
	const char *summary; /* one line */
	const char *text;    /* what --help says more */
	int (*run)(const struct tool_command *self, int argc, char **argv);
};

int tool_create(const struct tool_command *self, int argc, char **argv);
int tool_info(const struct tool_command *self, int argc, char **argv);
int tool_map(const struct tool_command *self, int argc, char **argv);
int tool_convert(const struct tool_command *self, int argc, char **argv);
int tool_resize(const struct tool_command *self, int argc, char **argv);
int tool_snapshot(const struct tool_command *self, int argc, char **argv);
int tool_commit(const struct tool_command *self, int argc, char **argv);
int tool_rebase(const struct tool_command *self, int argc, char **argv);
int tool_check(const struct tool_command *self, int argc, char **argv);
int tool_compare(const struct tool_command *self, int argc, char **argv);

/*
 * Parses options; prints --help itself. 1: help was printed. The number of arguments is checked,
 * and their number is *ret_n.
 */
int tool_parse(const struct tool_command *self, const struct option_def *defs, int argc,
	char **argv, int *ret_n, int min, int max) must_check;

/* How an image of the command line is opened. */
struct tool_image {
	const char *path, *format; /* format NULL: the file name's ending says it */
	const char *backing;       /* --backing: "on", "off", or a directory */
	const char *backing_format;
	bool write, shared, alone, unsafe, ignore_dirty, discard_zeroed;

	struct disk *disk;
	struct disk_dir dir;
	char *dir_path, *real_path;
};

#define TOOL_IMAGE_INIT .dir = {.fd = -EBADF}
void tool_image_release(struct tool_image *i);
#define _cleanup_image_ __attribute__((cleanup(tool_image_release), unused))
int tool_open(struct tool_image *i) must_check;

/*
 * Rows of an option table that mean the same in every subcommand. `image` is a
 * struct tool_image, and `to` is the variable that gets the option's value.
 */
#define TOOL_OPTIONS_BACKING(image) \
	{"backing", 0, OPTION_STRING, &(image).backing, "on|off|DIR", \
		"where backing files may be: on: beside the image"}, \
	{ \
		"backing-format", 0, OPTION_STRING, &(image).backing_format, "FORMAT", \
			"the format of backing files for which the image names none" \
	}
#define TOOL_OPTIONS_JSON(json, output) \
	{"json", 0, OPTION_FLAG, &(json), NULL, "print JSON"}, \
	{ \
		"output", 0, OPTION_STRING, &(output), "human|json", "how to print it" \
	}
#define TOOL_OPTION_SHARE(image, verb) \
	{ \
		"force-share", 'U', OPTION_FLAG, &(image).shared, NULL, \
			verb " although another process writes the image" \
	}
#define TOOL_OPTION_PROGRESS(to) \
	{ \
		"progress", 'p', OPTION_FLAG, &(to), NULL, "show how far it is" \
	}
#define TOOL_OPTION_QUIET(to) \
	{ \
		"quiet", 'q', OPTION_FLAG, &(to), NULL, "print nothing" \
	}

/* The options that tool_open() uses: for what opens the backing file by itself. */
int tool_use_directory(struct tool_image *i, struct disk_options *o) must_check;

/* The format that a file's name ends in, or an error that asks for it. option: "-f" */
int tool_format(const char *path, const char *format, const char *option, const char **ret)
	must_check;

/* "10G" and the like; what: the option or argument, for the message. Rounded up to sectors. */
int tool_size(const char *text, const char *what, uint64_t *ret) must_check;
const char *tool_human(uint64_t bytes, char *buf, size_t size);

/* The list of snapshots, as `info` and `snapshot -l` print it. */
int tool_add_snapshots(struct strbuf *out, const struct qcow2_snapshots *all) must_check;

int tool_print(const char *text, size_t len) must_check;
int tool_print_json(struct json_out *o) must_check;

/* -o NAME=VALUE,NAME=VALUE: of what create and convert make. */
struct tool_target {
	const char *path, *format;
	struct qcow2_create qcow2;
	bool nocow;
};
int tool_parse_target(const struct option_list *o, struct tool_target *t, struct arena *a)
	must_check;
/* Makes the file, of t->qcow2.size bytes. */
int tool_make_target(const struct tool_target *t) must_check;

/* Remembers, out of the image's content, beneath which directory its backing file may be. */
int tool_allow_backing(const char *path, const char *backing) must_check;

/* Work on a disk in pieces, by several threads. */
struct tool_work {
	struct disk *disk;
	uint64_t end;
	uint64_t piece; /* the largest one, and pieces begin at multiples of `align` */
	uint64_t align;
	unsigned threads;
	bool all; /* pieces that read as zeros too; else only those that have data */
	bool top; /* only what the first image of the chain has */
	bool progress;
	const char *what;
	/* Runs in several threads at a time. Returns 0, or 1 to end the work, or -errno. */
	int (*process)(struct tool_work *w, void *context, const struct disk_extent *e);
	int (*context_new)(struct tool_work *w, void **ret); /* one for each thread */
	void (*context_free)(void *context);
	void *data;
};
int tool_run(struct tool_work *w) must_check;
