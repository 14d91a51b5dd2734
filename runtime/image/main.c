/* SPDX-License-Identifier: Apache-2.0 */
/*
 * caisson-image: the program that `caisson image ...` executes. It is a program of its own, so that
 * caisson itself does not need the libraries for registries and layers.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/libexec.h"
#include "base/log.h"
#include "image/registry_commands.h"

static const struct image_command commands[] = {
	{"import", "[options] SOURCE [NAME]",
		"Copy an image from another tool's form into the store.",
		"SOURCE is oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:REF] or\n"
		"dir:DIR, as skopeo writes them; FILE - is standard input. NAME is the image's\n"
		"name in the store (default: the source's). Prints the names.\n\n"
		"  docker save nginx | caisson image import docker-archive:-\n"
		"  skopeo copy docker://debian:12 oci:d:latest && caisson image import oci:d "
		"debian:12",
		image_cmd_import},
	{"ls", "[options]", "List the images of the store.",
		"SIZE is what the image's blobs take, which images share.", image_cmd_ls},
	{"df", "[options]", "Show what the store takes on the disk.",
		"blobs are images as they were pulled, layers are unpacked, disks are the file "
		"systems\n"
		"of --root-disk erofs. `caisson image prune` removes what nothing needs.",
		image_cmd_df},
	{"inspect", "[options] IMAGE", "Print an image's manifest and configuration, in JSON.",
		NULL, image_cmd_inspect},
	{"history", "[options] IMAGE", "Print how an image was made.", NULL, image_cmd_history},
	{"bundle", "[options] IMAGE DIR [-- COMMAND [ARG...]]",
		"Write a bundle that any OCI runtime runs.",
		"Unpacks the image's layers to DIR/rootfs, and writes its configuration as\n"
		"DIR/config.json. COMMAND replaces the image's Cmd. DIR must be new or empty.\n\n"
		"  caisson image bundle debian:12 b -- echo hello\n"
		"  caisson run --bundle b hello",
		image_cmd_bundle},
	{"unpack", "[options] IMAGE [DIR]", "Unpack an image's layers.",
		"With a DIR, which must be new or empty, all of the image goes there. Without one\n"
		"the layers go into the store, where containers share them, as `caisson run\n"
		"--image` would do it, and the directories are printed in the form that\n"
		"`caisson create --root-layers` takes.",
		image_cmd_unpack},
	{"resolve", "[options] IMAGE", "Have an image ready for `caisson run --image`.",
		"Pulls the image if the store does not have it, unpacks its layers into the "
		"store,\n"
		"and notes what a container needs of it. `caisson run --image` executes this if\n"
		"there is no such note.",
		image_cmd_resolve},
	{"export", "IMAGE TARGET", "Copy an image out of the store.",
		"TARGET is oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:REF] or\n"
		"dir:DIR; FILE - is standard output.\n\n"
		"  caisson image export nginx docker-archive:- | docker load",
		image_cmd_export},
	{"save", "[options] IMAGE...", "Write images into one archive.",
		"The images keep their names. The archive is docker's, or with --format "
		"oci-archive\n"
		"an OCI image layout in a tar.\n\n"
		"  caisson image save nginx debian:12 | ssh other caisson image load",
		image_cmd_save},
	{"load", "[options]", "Read all images of an archive.",
		"The archive is what `docker save`, `podman save` or `caisson image save` wrote; "
		"it\n"
		"may be compressed. Prints the names.",
		image_cmd_load},
	{"commit", "[options] CONTAINER [NAME]", "Make an image of a container.",
		"The image is the one that the container came from, and a layer of what the "
		"container\n"
		"changed. NAME is the new image's name (default: localhost/CONTAINER:latest). Of "
		"a\n"
		"container that runs, `caisson pause` it first. Prints the digest.\n\n"
		"  caisson image commit -c 'CMD [\"sh\"]' web localhost/web:2",
		image_cmd_commit},
	{"diff", "[options] CONTAINER | IMAGE1 IMAGE2",
		"List what a container changed, or how images differ.",
		"A: added, C: changed, D: deleted. A container is one that `caisson run --image` "
		"made.\n\n"
		"  caisson image diff debian:12 localhost/web:2",
		image_cmd_diff},
	{"tag", "IMAGE NAME...", "Give an image more names.", NULL, image_cmd_tag},
	{"rm", "IMAGE...", "Remove names, and what no name needs any more.",
		"While another process uses the store, only the names go; `caisson image prune`\n"
		"frees the disk later.",
		image_cmd_rm},
	{"ahead", "DIGEST", NULL, NULL, image_cmd_ahead},
	{"prune", "", "Remove all that no image needs.", NULL, image_cmd_prune},
	{0},
};

static int print_usage(void)
{
	_cleanup_strbuf_ struct strbuf options = {0};

	if (image_globals_help(&options) < 0)
		return 1;
	printf("Usage: caisson image [options] COMMAND ...\n\n"
	       "Images on this machine: their store, and bundles made of them. A first try:\n\n"
	       "  caisson image pull docker.io/library/debian\n"
	       "  caisson image ls\n"
	       "  caisson image bundle debian b -- echo hello\n"
	       "  caisson run --bundle b hello\n\n"
	       "IMAGE is a name in the store, or at least 8 digits of a digest.\n\nCommands:\n");
	for (const struct image_command *c = image_registry_commands; c->name; c++)
		printf("  %-10s %s\n", c->name, c->summary);
	for (const struct image_command *c = commands; c->name; c++)
		if (c->summary)
			printf("  %-10s %s\n", c->name, c->summary);
	printf("\nOptions:\n%s\n`caisson image COMMAND --help` says more; caisson-image(1) says "
	       "all.\n",
		strbuf_str(&options));
	return 0;
}

/*
 * Executes caisson-registry with the arguments of main(), because they include the global options
 * that precede the subcommand's name.
 */
static int run_registry_program(char **argv)
{
	_cleanup_arena_ struct arena a = {0};
	const char *path;

	int r = libexec_program(&a, REGISTRY_PROGRAM, &path);
	if (r < 0)
		return r;
	execv(path, argv);
	return err_sys("execute %s (build caisson with libcurl)", path);
}

static bool is_registry_command(const char *name)
{
	for (const struct image_command *c = image_registry_commands; c->name; c++)
		if (streq(c->name, name))
			return true;
	return false;
}

static int run(const struct image_globals *g, int n, char **words)
{
	for (const struct image_command *c = commands; c->name; c++)
		if (streq(c->name, words[0])) {
			int r = c->run(c, g, n - 1, words + 1);
			return r < 0 ? program_fail(r) : r;
		}
	if (streq(words[0], "help"))
		return print_usage();
	return program_fail(err_set(EINVAL,
		"unknown command \"image %.100s\": `caisson image --help` lists them", words[0]));
}

int main(int argc, char **argv)
{
	struct image_globals g = {0};
	_cleanup_arena_ struct arena a = {0};
	bool help;

	/*
	 * The umask applies only to directories that contain a layer's files but that the layer
	 * itself does not list, because only these get their mode from mkdir(2). All other modes
	 * are set by fchmod(2).
	 */
	umask(022);
	fd_survive_size_limit();
	/*
	 * A copy of the arguments is kept for caisson-registry, because image_parse_globals()
	 * changes their order.
	 */
	char **words = arena_array(&a, (size_t)argc + 1, sizeof(*words));
	if (!words)
		return program_fail(-ENOMEM);
	memcpy(words, argv, (size_t)argc * sizeof(*words));
	int n = image_parse_globals(&g, argc - 1, argv + 1, &help);
	if (n < 0)
		return program_fail(n);
	if (help || n == 0)
		return print_usage();
	argv[1 + n] = NULL;
	if (is_registry_command(argv[1]))
		return program_fail(run_registry_program(words));
	return run(&g, n, argv + 1);
}
