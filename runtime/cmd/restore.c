/* SPDX-License-Identifier: Apache-2.0 */
/* Implements `restore`, with the options of runc: makes a container from a checkpoint. */
#include "cmd/cmd.h"
#include "launch/criu.h"

int cmd_restore(const struct command *self, const struct globals *g, int argc, char **argv)
{
	struct criu_options criu = CRIU_OPTIONS_INIT;
	struct option_list empty_ns = {0};
	struct launch_options o = {.restore = "checkpoint", .criu = &criu};
	bool flag;
	int status;
	const struct option_def defs[] = {
		{"image-path", 0, OPTION_STRING, &o.restore, "DIR",
			"where the checkpoint is (default: checkpoint)"},
		{"bundle", 'b', OPTION_STRING, &o.bundle, "DIR",
			"the bundle (default: this directory)"},
		{"detach", 'd', OPTION_FLAG, &o.detach, NULL,
			"return once it runs, and leave it running"},
		{"console-socket", 0, OPTION_STRING, &o.console_socket, "SOCKET",
			"Unix socket that gets the terminal's master"},
		{"pid-file", 0, OPTION_STRING, &o.pid_file, "FILE",
			"write the first process's pid to FILE"},
		{"isolation", 0, OPTION_STRING, &o.isolation, "ns|vm",
			"what the container was made with (default: what config.json says)"},
		{"no-pivot", 0, OPTION_FLAG, &flag, NULL, "without effect on a microVM"},
		{"no-subreaper", 0, OPTION_FLAG, &flag, NULL, "accepted, without effect"},
		{"lsm-profile", 0, OPTION_STRING, &criu.lsm_profile, "TYPE:NAME",
			"CRIU: LSM profile of the restored processes"},
		{"lsm-mount-context", 0, OPTION_STRING, &criu.lsm_mount_context, "CONTEXT",
			"CRIU: LSM context of the restored mounts"},
		{"tcp-close", 0, OPTION_FLAG, &criu.tcp_close, NULL,
			"CRIU: close the TCP connections of the checkpoint"},
		CMD_OPTIONS_OF_CRIU(criu, empty_ns),
		{0},
	};
	struct arguments args = {.min = 1, .max = 1};

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	o.id = args.v[0];
	r = cmd_take_empty_ns(&empty_ns, &criu);
	if (r >= 0)
		r = cmd_prepare_launch(g, &o);
	if (r >= 0)
		r = launch_run(&o, &status);
	return r < 0 ? r : status;
}
