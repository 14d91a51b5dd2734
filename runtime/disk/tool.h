/* SPDX-License-Identifier: Apache-2.0 */
/*
 * caisson-disk: the program that `caisson disk` executes. caisson-disk is a program of its own, so
 * that `caisson` needs no compression libraries. Each subcommand is a file with a run function,
 * which returns an exit code, or -errno with the message set.
 */
#pragma once
#include <stdio.h>
#include <stdlib.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/program.h"
#include "cmd/options.h"
#include "images/disk/disk.h"
#include "images/disk/qcow2.h"

struct tool_command {
	const char *name;
	/* arguments of the subcommand in its usage line, after "caisson disk NAME " */
	const char *usage;
	const char *summary; /* what the subcommand does, in one line */
	const char *text;    /* further text for the subcommand's --help */
	int (*run)(const struct tool_command *self, int argc, char **argv);
	bool hidden; /* whether `caisson disk --help` leaves the subcommand out */
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
int tool_inside(const struct tool_command *self, int argc, char **argv);
int tool_serve(const struct tool_command *self, int argc, char **argv);

/*
 * Parses the options of a subcommand. If --help was given, prints the help and returns 1, else
 * returns 0. *ret_n is the number of arguments, which must be in the range from min to max.
 */
int tool_parse(const struct tool_command *self, const struct option_def *defs, int argc,
	char **argv, int *ret_n, int min, int max) must_check;

/* Returns an error if the subcommand was given only n arguments, and needs `min`. */
int tool_need_arguments(const struct tool_command *self, int n, int min) must_check;

/* The passphrase of an image, in the file that an option names. */
struct tool_key {
	/* path of the file with the passphrase; "-": standard input; NULL: no option was given */
	const char *file;
	uint8_t *bytes;
	struct disk_key key;
};

/*
 * Reads the whole file that k->file names. *ret is the passphrase, or NULL if k->file is NULL.
 * `option` is the name of the option in error messages.
 */
int tool_key_load(struct tool_key *k, const char *option, const struct disk_key **ret) must_check;
/* Wipes and frees the bytes of the passphrase. */
void tool_key_release(struct tool_key *k);
#define _cleanup_key_ __attribute__((cleanup(tool_key_release), unused))

/* An image on the command line, and how to open it. */
struct tool_image {
	/* path and format of the image; if format is NULL, the ending of the file name decides */
	const char *path, *format;
	const char *backing; /* value of --backing: "on", "off", or a directory */
	const char *backing_format;
	const struct disk_key *key;
	bool write, shared, alone, chain, unsafe, ignore_dirty, discard_zeroed;

	struct disk *disk;
	struct disk_dir dir;
	char *dir_path, *real_path;
};

#define TOOL_IMAGE_INIT .dir = {.fd = -EBADF}
void tool_image_release(struct tool_image *i);
#define _cleanup_image_ __attribute__((cleanup(tool_image_release), unused))
int tool_open(struct tool_image *i) must_check;

/*
 * Rows of an option table for the options that mean the same in every subcommand. `image` is a
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
#define TOOL_OPTION_KEY(key) \
	{ \
		"key", 0, OPTION_STRING, &(key).file, "FILE", \
			"the file has the passphrase of the image, if it is encrypted" \
	}
#define TOOL_OPTION_PROGRESS(to) \
	{ \
		"progress", 'p', OPTION_FLAG, &(to), NULL, "show how far it is" \
	}
#define TOOL_OPTION_QUIET(to) \
	{ \
		"quiet", 'q', OPTION_FLAG, &(to), NULL, "print nothing" \
	}

/*
 * Finds the format by the ending of the file name. If the ending is unknown, returns an error whose
 * message asks the user for `option`, such as "-f".
 */
int tool_format(const char *path, const char *format, const char *option, const char **ret)
	must_check;

/*
 * Parses a size such as "10G" and rounds it up to whole sectors. `what` is the name of the option
 * or argument, which error messages use.
 */
int tool_size(const char *text, const char *what, uint64_t *ret) must_check;
const char *tool_human(uint64_t bytes, char *buf, size_t size);

/*
 * Adds the formatted text to *out as one line. The text may contain foreign text: str_clean() makes
 * it harmless for a terminal.
 */
int tool_add_line(struct strbuf *out, const char *fmt, ...) must_check printf_like(2, 3);

/* Add to the output the facts that only the image's format has. */
int tool_json_facts(struct json_out *o, const struct disk_fact *facts) must_check;
int tool_add_facts(struct strbuf *out, const struct disk_fact *facts) must_check;

/*
 * Adds the list of snapshots to *out, in the form in which `caisson disk info` and `caisson disk
 * snapshot -l` print it.
 */
int tool_add_snapshots(struct strbuf *out, const struct qcow2_snapshots *all) must_check;

/*
 * The values of the options -o encrypt.NAME=VALUE. `cipher`, `mode`, `iv` and `hash` are indexes
 * into the lists of values that are known.
 */
struct tool_encrypt {
	/* name of one of the options encrypt.NAME that were given; NULL: none was given */
	const char *any;
	const char *format;
	unsigned cipher, mode, iv, hash;
	uint64_t ms; /* value of encrypt.iter-time in milliseconds; 0: not given */
};
int tool_parse_encrypt(const char *key, const char *value, struct tool_encrypt *e) must_check;
/*
 * Checks that the options encrypt.NAME fit together and that there is a passphrase, which the user
 * gives with the option `option`.
 */
int tool_use_encrypt(const struct tool_encrypt *e, const struct disk_key *key, const char *option,
	struct luks_create *ret) must_check;

/*
 * The image file that `caisson disk create` or `convert` makes, as the options -o
 * NAME=VALUE,NAME=VALUE describe it.
 */
struct tool_target {
	const char *path, *format;
	struct qcow2_create qcow2;
	struct tool_encrypt encrypt;
	struct luks_create luks;
	bool nocow;
	/* whether tool_make_target() has made the files at `path` and at `data_path` */
	bool made, data_made;
	/* signalfd of the signals that end the command, or -EBADF */
	int interrupt;
	char *data_path; /* path of the external data file, in the arena of tool_parse_target() */
};
/*
 * If the options -o ask for it (`-o help`), prints the options that the target's format has and
 * returns 1, else returns 0. t->path and t->format are what the command line says, or NULL.
 * `letter` is the option that names the format.
 */
int tool_list_options(const struct option_list *o, const struct tool_target *t, const char *letter)
	must_check;
int tool_parse_target(const struct option_list *o, struct tool_target *t, struct arena *a)
	must_check;
/*
 * If the new image is to be encrypted, stores the passphrase in *t. `option` is the option that
 * names the passphrase's file.
 */
int tool_target_key(struct tool_target *t, const struct disk_key *key, const char *option)
	must_check;
/*
 * Opens the backing file of an image that is to be made, with its own backing files, in *i. Refuses
 * a backing file that the new image would overwrite, or that needs a file which it would overwrite.
 * `option` is the option that names the backing file.
 */
int tool_open_base(const struct tool_target *t, const char *option, struct tool_image *i,
	struct arena *a) must_check;

/*
 * Makes the image file for a disk of t->qcow2.size bytes. If that fails, files that did not exist
 * before are removed.
 */
int tool_make_target(struct tool_target *t) must_check;
/* Removes the files that tool_make_target() has made and that did not exist before. */
void tool_remove_target(struct tool_target *t);

/*
 * Returns the path of a file that the image at `path` names as `name`, or NULL with a message if
 * there is no memory.
 */
char *tool_beside(const char *path, const char *name, struct arena *a);

/*
 * Finds the deepest directory above both the image at `path`, which need not be there yet, and its
 * backing file, whose name is relative to the image. The caller frees *ret.
 */
int tool_common_directory(const char *path, const char *backing, char **ret) must_check;

/*
 * Stores beneath which directory the backing file of an image may be. The directory is stored in an
 * extended attribute of the image's file, not in the image.
 */
int tool_allow_backing(const char *path, const char *backing) must_check;

/* Work that several threads do on a disk, piece by piece. */
struct tool_work {
	struct disk *disk;
	uint64_t end;
	uint64_t piece; /* largest piece in bytes; pieces begin at multiples of `align` */
	uint64_t align;
	unsigned threads;
	/* whether pieces that are zeros are processed too, and not only those with data */
	bool all;
	/*
	 * whether only data of the first image of the chain is processed, and not data of its
	 * backing files
	 */
	bool top;
	/* `top`: size of the backing file that the disk has to which the data is copied, or 0 */
	uint64_t target_backing;
	bool progress;
	const char *what;
	/*
	 * Processes one piece. Runs in several threads at the same time. Returns 0 to go on, 1 to
	 * end the work, or -errno.
	 */
	int (*process)(struct tool_work *w, void *context, const struct disk_extent *e);
	/*
	 * Makes the argument `context` of process(). Each thread of the work calls the function
	 * once.
	 */
	int (*context_new)(struct tool_work *w, void **ret);
	void (*context_free)(void *context);
	void *data;
};
int tool_run(struct tool_work *w) must_check;

/*
 * Blocks SIGUSR1, which asks a command for its progress: it does not end the command, and
 * tool_run() answers it.
 */
int tool_hold_progress_signal(void) must_check;

/*
 * Lets the microVM that runs with the image `path` make its disk `size` bytes large (running.c).
 * Returns 1 if that is done, or 0 if no microVM uses the image.
 */
int tool_resize_running(const char *path, uint64_t size) must_check;
