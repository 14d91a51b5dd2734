/* SPDX-License-Identifier: Apache-2.0 */
/* The table of subcommands of `caisson disk`. */
#include "base/fd.h"
#include "base/libexec.h"
#include "disk/tool.h"

static const struct tool_command commands[] = {
	{"create", "[options] FILE [SIZE]", "Make an empty disk image, or an overlay of another.",
		"SIZE is a number with k, M, G or T. With -b it may be left out: then it is that "
		"of "
		"the\n"
		"backing file. The overlay keeps what is written, the backing file stays as it "
		"is:\n\n"
		"  caisson disk create -f qcow2 disk.qcow2 20G\n"
		"  caisson disk create -f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2\n\n"
		"-o takes, for qcow2: compat=0.10|1.1, cluster_size=SIZE, refcount_bits=N,\n"
		"compression_type=zlib|zstd, extended_l2=on|off, lazy_refcounts=on|off,\n"
		"preallocation=off|metadata|falloc|full, data_file=FILE, data_file_raw=on|off,\n"
		"and for an encrypted image encrypt.format=luks,\n"
		"encrypt.cipher-alg=aes-256|aes-128, encrypt.cipher-mode=xts|cbc,\n"
		"encrypt.ivgen-alg=plain64|essiv, encrypt.ivgen-hash-alg=sha256,\n"
		"encrypt.hash-alg=sha256|sha1|sha512, encrypt.iter-time=MILLISECONDS;\n"
		"for raw: preallocation=off|falloc|full. `-o help` says what they mean.",
		tool_create},
	{"info", "[options] FILE", "Tell what an image is: format, sizes, backing file, snapshots.",
		"Only the headers are read, so a disk of a terabyte takes no longer than a small "
		"one.\n"
		"With --backing-chain the backing files are told too, from FILE downwards (in JSON "
		"an\n"
		"array), as far as --backing allows them.",
		tool_info},
	{"map", "[options] FILE", "List which parts of a disk have data, and where.",
		"Through the whole chain of backing files: depth 0 is FILE itself.", tool_map},
	{"convert", "[options] SOURCE TARGET", "Copy a disk into an image of another format.",
		"What reads as zeros stays unallocated in TARGET. The copy has no backing file, "
		"unless\n"
		"-B names one that the source has too.\n\n"
		"  caisson disk convert -f qcow2 -O raw disk.qcow2 disk.raw\n"
		"  caisson disk convert -f raw -O qcow2 -c -o compression_type=zstd disk.raw "
		"small.qcow2",
		tool_convert},
	{"resize", "[options] FILE SIZE", "Change a disk's size.",
		"SIZE is the new size, or with + or - in front the difference. A smaller size "
		"loses "
		"data\n"
		"and needs --shrink. The file system inside is not changed.",
		tool_resize},
	{"snapshot", "[options] FILE",
		"List, take, apply or delete snapshots inside a qcow2 image.",
		"  caisson disk snapshot -f qcow2 -c before-update disk.qcow2\n"
		"  caisson disk snapshot -f qcow2 -a before-update disk.qcow2",
		tool_snapshot},
	{"commit", "[options] FILE", "Write an overlay's changes into its backing file.",
		"The overlay is empty afterwards, unless -d is given.", tool_commit},
	{"rebase", "[options] FILE", "Give an overlay another backing file, or none.",
		"The disk stays as it is: what differs between the old and the new backing file is "
		"copied\n"
		"into FILE. With -u only the name is changed, for a backing file that was moved.",
		tool_rebase},
	{"check", "[options] FILE", "Check an image's tables, and repair them.",
		"The exit code is 0 if all is well, 2 with errors, 3 with only leaked clusters "
		"(space "
		"that\n"
		"is lost, but nothing else), 63 if the format has no check, 1 if it could not be "
		"done.",
		tool_check},
	{"compare", "[options] FILE1 FILE2", "Say whether two disks have the same content.",
		"The exit code is 0 if they do, 1 if they differ, 2 if it could not be found out.",
		tool_compare},
	{"ls", "[options] DISK [PATH...]", "List directories in a disk.", NULL, tool_inside},
	{"cat", "[options] DISK FILE...", "Print files in a disk.", NULL, tool_inside},
	{"cp", "[options] DISK SOURCE... TARGET", "Copy files out of a disk, or into it.", NULL,
		tool_inside},
	{"tar-out", "[options] DISK DIR [FILE]", "Make a tar of a directory in a disk.", NULL,
		tool_inside},
	{"tar-in", "[options] DISK DIR [FILE]", "Unpack a tar into a directory in a disk.", NULL,
		tool_inside},
	{"df", "[options] DISK", "Say how full the file systems in a disk are.", NULL, tool_inside},
	{"inspect", "[options] DISK", "Say what operating system is in a disk.", NULL, tool_inside},
	{"shell", "[options] DISK [COMMAND...]", "Get a shell beside a disk.", NULL, tool_inside},
	{"mount", "[options] DISK DIR", "Mount the file systems in a disk on a directory.", NULL,
		tool_inside},
	{"umount", "DIR", "Unmount a disk, and wait until everything is written to it.", NULL,
		tool_inside},
	{"serve", "[options] FILE", "Serve a disk to a virtual machine.",
		"caisson starts it for a microVM. It speaks vhost-user on a socket that it "
		"inherits.",
		tool_serve, .hidden = true},
	{0},
};

/*
 * Executes caisson-inside for the commands that look into a disk. caisson-inside is a program of
 * its own, because only it needs libarchive. argv are the arguments behind the command's name.
 */
int tool_inside(const struct tool_command *self, int argc, char **argv)
{
	_cleanup_arena_ struct arena a = {0};
	const char *path;
	int r = libexec_program(&a, "caisson-inside", &path);

	if (r < 0)
		return r;
	execv(path, argv - 2);
	return err_sys("execute %s (build caisson with libarchive, or set " LIBEXEC_VARIABLE
		       " to the directory it is in)",
		path);
}

static int print_usage(void)
{
	_cleanup_strbuf_ struct strbuf out = {0};

	int r = strbuf_addf(&out, "Usage: caisson disk COMMAND [options] FILE ...\n\n"
				  "Disk images of virtual machines, with qemu-img's words. The "
				  "format is always named, "
				  "with\n"
				  "-f or by the ending of the file's name, because a guest can "
				  "write what it likes into "
				  "a raw\n"
				  "image. Formats:");
	for (size_t i = 0; r >= 0 && disk_format_names(i); i++)
		r = strbuf_addf(&out, " %s", disk_format_names(i));
	if (r >= 0)
		r = strbuf_addf(&out, "\n\nCommands:\n");
	for (const struct tool_command *c = commands; c->name && r >= 0; c++)
		if (!c->hidden)
			r = strbuf_addf(&out, "  %-10s %s\n", c->name, c->summary);
	if (r >= 0)
		r = strbuf_addf(&out, "\n`caisson disk COMMAND --help` says more.\n");
	return r < 0 ? r : program_print(strbuf_str(&out), out.len);
}

/* Commands of qemu-img that there are not here, and what to use in their place. */
static const char *const instead[][2] = {
	{"amend", "`caisson disk convert -o` makes a copy with other properties"},
	{"bench", "fio(1) measures a disk in the machine that uses it"},
	{"bitmap", "qemu-img makes bitmaps, and caisson keeps them valid"},
	{"dd", "`caisson disk convert` copies a disk to or from a raw image, of which dd(1) takes "
	       "parts"},
	{"measure", "`caisson disk map` tells how much data a disk has"},
};

static int unknown_command(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(instead); i++)
		if (streq(instead[i][0], name))
			return err_set(
				EINVAL, "disk: there is no command %s: %s", name, instead[i][1]);
	return err_set(
		EINVAL, "disk: unknown command \"%s\": `caisson disk --help` lists them", name);
}

static int start(const struct tool_command *c, int argc, char **argv)
{
	/* What caisson-inside and `serve` start would inherit the signal blocked. */
	int r = c->run == tool_inside || c->run == tool_serve ? 0 : tool_hold_progress_signal();

	return r < 0 ? r : c->run(c, argc, argv);
}

static int run(int argc, char **argv)
{
	if (argc < 2 || streq(argv[1], "--help") || streq(argv[1], "-h") || streq(argv[1], "help"))
		return print_usage();
	for (const struct tool_command *c = commands; c->name; c++)
		if (streq(c->name, argv[1]))
			return start(c, argc - 2, argv + 2);
	return unknown_command(argv[1]);
}

int main(int argc, char **argv)
{
	fd_survive_size_limit();
	int r = run(argc, argv);

	if (r >= 0)
		return r;
	fd_say(STDERR_FILENO, "caisson disk", *err_msg() ? err_msg() : strerror(-r));
	return argc > 1 && streq(argv[1], "compare") ? 2 : 1;
}
