/* SPDX-License-Identifier: Apache-2.0 */
/* Holds the table of those commands of `caisson disk` that look into a disk. */
#include <stdio.h>

#include "base/fd.h"
#include "inside/inside.h"

const struct inside_command inside_commands[] = {
	{"ls", "[options] DISK [PATH...]", "List directories in a disk.",
		"  caisson disk ls debian.qcow2 /etc\n"
		"  caisson disk ls -lR debian.qcow2 /boot",
		0, -1, INSIDE_LONG | INSIDE_RECURSIVE, false, NULL, guest_ls},
	{"cat", "[options] DISK FILE...", "Print files in a disk.",
		"  caisson disk cat debian.qcow2 /etc/fstab", 1, -1, 0, false, NULL, guest_cat},
	{"cp", "[options] DISK SOURCE... TARGET", "Copy files out of a disk, or into it.",
		"Paths in the disk begin with \":\". Into the disk goes what the host has:\n\n"
		"  caisson disk cp debian.qcow2 :/etc/fstab :/var/log .\n"
		"  caisson disk cp debian.qcow2 id.pub :/root/.ssh/authorized_keys\n\n"
		"Copies belong to who makes them (in the disk: to root), have no set-user-ID bits "
		"and\n"
		"no extended attributes; -a keeps all of that. Devices and FIFOs of a disk are "
		"not\n"
		"copied out.",
		2, -1, INSIDE_ARCHIVE, false, inside_host_cp, guest_cp},
	{"tar-out", "[options] DISK DIR [FILE]", "Make a tar of a directory in a disk.",
		"It goes to FILE, or to standard output.\n\n"
		"  caisson disk tar-out debian.qcow2 /home home.tar",
		1, 2, 0, false, inside_host_tar, guest_tar_out},
	{"tar-in", "[options] DISK DIR [FILE]", "Unpack a tar into a directory in a disk.",
		"It comes from FILE, or from standard input, and is not compressed.\n\n"
		"  caisson disk tar-in debian.qcow2 /srv site.tar",
		1, 2, 0, true, inside_host_tar, guest_tar_in},
	{"df", "[options] DISK", "Say how full the file systems in a disk are.",
		"  caisson disk df -h debian.qcow2", 0, 0,
		INSIDE_HUMAN | INSIDE_INODES | INSIDE_JSON, false, NULL, guest_df},
	{"inspect", "[options] DISK", "Say what operating system is in a disk.",
		"Its distribution and version, kernels, boot loader, mounts, and its packages "
		"(with --json).\n\n"
		"  caisson disk inspect debian.qcow2\n"
		"  caisson disk inspect --json debian.qcow2",
		0, 0, INSIDE_JSON, false, NULL, guest_inspect},
	{"shell", "[options] DISK [COMMAND...]", "Get a shell beside a disk.",
		"The disk's file systems are mounted on " SYSROOT ", read-only unless --write is "
		"given. The\n"
		"shell and the programs are the host's, in a microVM.\n\n"
		"  caisson disk shell --write debian.qcow2\n"
		"  caisson disk shell debian.qcow2 du -s " SYSROOT "/var",
		0, -1, INSIDE_WRITE | INSIDE_REST, false, NULL, guest_shell},
	{"mount", "[options] DISK DIR", "Mount the file systems in a disk on a directory.",
		"A microVM mounts them, and the host gets them by FUSE: read-only unless --write "
		"is given,\n"
		"without devices and set-user-ID bits, for root alone unless --allow-other is "
		"given.\n\n"
		"  caisson disk mount debian.qcow2 /mnt\n"
		"  caisson disk umount /mnt",
		1, 1, INSIDE_WRITE | INSIDE_ALLOW_OTHER, false, inside_host_mount, guest_mount},
	{"umount", "DIR", "Unmount a disk, and wait until everything is written to it.",
		"  caisson disk umount /mnt", 0, 0, 0, false, inside_host_umount, NULL},
	{INSIDE_AGENT, "[options] DISK", "Put caisson's agent into the operating system of a disk.",
		"A machine that `caisson run --disk` boots from the disk then takes `exec`, `ps` "
		"and\n"
		"`stop` by the agent, without ssh and without a network. The agent is a service "
		"of\n"
		"systemd or OpenRC. The command replaces an older agent. The disk must not be in "
		"use.\n\n"
		"  caisson machine install-agent debian.qcow2\n"
		"  caisson run --isolation vm --disk debian.qcow2 -d web && caisson exec web id",
		0, 0, 0, true, inside_host_agent, guest_install_agent},
	/* not for users; inside_take_boot() runs it */
	{INSIDE_BOOT, "", "", "", 0, 0, 0, false, NULL, guest_boot},
	{0},
};

static int run(int argc, char **argv)
{
	if (argc > 1 && streq(argv[1], INSIDE_GUEST))
		return inside_guest(argc - 2, argv + 2);
	if (argc > 1 && streq(argv[1], INSIDE_MACHINE))
		return inside_machine(argc - 2, argv + 2);
	for (const struct inside_command *c = inside_commands; argc > 1 && c->name; c++)
		if (streq(c->name, argv[1]) && !streq(c->name, INSIDE_BOOT))
			return inside_host(c, argc - 2, argv + 2);
	return err_set(EINVAL, "this program is executed by `caisson disk`");
}

int main(int argc, char **argv)
{
	fd_survive_size_limit();
	int r = run(argc, argv);

	if (r >= 0)
		return r;
	const bool guest = argc > 2 && streq(argv[1], INSIDE_GUEST);
	const char *command = guest ? argv[2] : argc > 1 ? argv[1] : "";
	const char *who = streq(command, INSIDE_MACHINE)            ? "caisson"
			  : streq(inside_group(command), "machine") ? "caisson machine"
								    : "caisson disk";
	fd_say(STDERR_FILENO, who, *err_msg() ? err_msg() : strerror(-r));
	return 1;
}
