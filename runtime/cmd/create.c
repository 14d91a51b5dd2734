/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements `create` and `run`. Both have the same options, except for those that concern a
 * container in the foreground.
 */
#include "cmd/cmd.h"
#include "launch/launch.h"

int cmd_prepare_launch(const struct globals *g, struct launch_options *o)
{
	int r = cmd_manager(g, &o->cgroup_manager);

	if (r >= 0 && g->rootless && !streq(g->rootless, "auto")) {
		if (!streq(g->rootless, "true") && !streq(g->rootless, "false"))
			return err_set(
				EINVAL, "--rootless %s: expected true, false or auto", g->rootless);
		o->rootless_cgroup = streq(g->rootless, "true");
	}
	o->root = g->root;
	if (!o->isolation && g->vm)
		o->isolation = "vm";
	return r < 0 ? r : cmd_preserve(&o->preserve_fds);
}

struct parsed {
	struct launch_options o;
	/*
	 * memory for the values of the options that may be given several times; pointers in `o`
	 * lead here
	 */
	struct option_list networks, ports, dns, hosts;
};

#define NETWORK_OPTIONS 4

/*
 * Copies the table of options `defs` to ret without the rows that have no name, and adds the rows
 * for networks.
 */
static void put_options(struct parsed *p, const struct option_def *defs, struct option_def *ret)
{
	const struct option_def network[NETWORK_OPTIONS] = {
		{"network", 0, OPTION_LIST, &p->networks, "NETWORK",
			"join a network of `caisson net`: NAME[:ip=ADDRESS,mac=MAC,alias=NAME]; "
			"none; host"},
		{"publish", 'p', OPTION_LIST, &p->ports, "PORTS",
			"let ports of the host lead to it: [HOST:]PORT:PORT[/tcp|udp|sctp]"},
		{"dns", 0, OPTION_LIST, &p->dns, "ADDRESS",
			"with --network or -p: a name server, in place of the network's or the "
			"host's"},
		{"add-host", 0, OPTION_LIST, &p->hosts, "NAME:ADDRESS",
			"with --network or -p: a line of /etc/hosts; host-gateway: the host's "
			"address"},
	};

	for (; defs->name; defs++)
		if (defs->name[0])
			*ret++ = *defs;
	for (size_t i = 0; i < NETWORK_OPTIONS; i++)
		*ret++ = network[i];
	*ret = (struct option_def){0};
}

static struct spec_strings strings_of(const struct option_list *l)
{
	return (struct spec_strings){.v = l->v, .n = l->n};
}

/*
 * The options of `run --image` and `run --disk` that a bundle's `run` and `create` do not have.
 * `field` is what has the same effect in the bundle's config.json; NULL: nothing has.
 */
static const struct other_option {
	const char *name;
	char letter;
	bool image, disk;
	const char *field;
} other_options[] = {
	{"memory", 'm', true, true, "vm.hwConfig.memory or linux.resources.memory"},
	{"cpus", 0, true, true, "vm.hwConfig.vcpus or linux.resources.cpu"},
	{"hostname", 0, true, true, "hostname"},
	{"platform", 0, true, true, NULL},
	{"quiet", 'q', true, true, NULL},
	{"store", 0, true, true, NULL},
	{"disk", 0, false, true, "vm.image"},
	{"append", 0, false, true, "vm.kernel.parameters"},
	{"initrd", 0, false, true, "vm.kernel.initrd"},
	{"kernel", 0, true, true, "vm.kernel.path"},
	{"format", 0, false, true, "vm.image.format"},
	{"backing", 0, false, true, NULL},
	{"cloud-init", 0, false, true, NULL},
	{"ephemeral", 0, false, true, NULL},
	{"firmware", 0, false, true, NULL},
	{"firmware-vars", 0, false, true, NULL},
	{"inspect-kernel", 0, false, true, NULL},
	{"network-config", 0, false, true, NULL},
	{"overlay", 0, false, true, NULL},
	{"size", 0, false, true, NULL},
	{"ssh-key", 0, false, true, NULL},
	{"ssh-user", 0, false, true, NULL},
	{"vendor-data", 0, false, true, NULL},
	{"vnc", 0, false, true, NULL},
	{"cap-add", 0, true, false, "process.capabilities"},
	{"cap-drop", 0, true, false, "process.capabilities"},
	{"cgroup-parent", 0, true, false, "linux.cgroupsPath"},
	{"device", 0, true, false, "linux.devices"},
	{"entrypoint", 0, true, false, "process.args"},
	{"env", 'e', true, false, "process.env"},
	{"env-file", 0, true, false, "process.env"},
	{"interactive", 'i', true, false, NULL},
	{"label", 'l', true, false, "annotations"},
	{"mount", 0, true, false, "mounts"},
	{"name", 0, true, false, NULL},
	{"pids-limit", 0, true, false, "linux.resources.pids"},
	{"read-only", 0, true, false, "root.readonly"},
	{"rm", 0, true, false, NULL},
	{"root-disk", 0, true, false, NULL},
	{"security-opt", 0, true, false, NULL},
	{"stop-signal", 0, true, false, NULL},
	{"tmpfs", 0, true, false, "mounts"},
	{"tty", 't', true, false, "process.terminal"},
	{"ulimit", 0, true, false, "process.rlimits"},
	{"user", 'u', true, false, "process.user"},
	{"volume", 'v', true, false, "mounts"},
	{"workdir", 'w', true, false, "process.cwd"},
};

static const struct other_option *find_other(const char *word)
{
	const bool is_long = word[0] == '-' && word[1] == '-';
	const char *name = word + (is_long ? 2 : 1);
	size_t len = strcspn(name, "=");

	if (word[0] != '-')
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(other_options); i++) {
		const struct other_option *o = &other_options[i];
		if ((strlen(o->name) == len && strncmp(o->name, name, len) == 0) ||
			(!is_long && o->letter && o->letter == name[0]))
			return o;
	}
	return NULL;
}

/*
 * The caller calls this after it has failed to parse the command line, with the result r. If the
 * user has given an option of `run --image` or `run --disk`, names what the option belongs to.
 */
static int explain_other_option(const struct command *self, int argc, char **argv, bool run, int r)
{
	const struct other_option *o = NULL;
	_cleanup_strbuf_ struct strbuf field = {0};
	int i = -1;

	while (!o && ++i < argc && !streq(argv[i], "--"))
		o = find_other(argv[i]);
	if (!o)
		return r;
	if (o->field &&
		strbuf_addf(&field, ", or set %s in the bundle's config.json", o->field) < 0)
		return -ENOMEM;
	if (!run && !o->image)
		return err_set(EINVAL,
			"%s: --%s is an option of `caisson run --disk FILE`, which boots a disk as "
			"a machine: leave it out%s",
			self->name, o->name, strbuf_str(&field));
	return err_set(EINVAL, "%s: --%s needs %s%s%s: add %s%s%s, or leave it out%s", self->name,
		o->name, o->image ? "--image" : "", o->image && o->disk && run ? " or " : "",
		o->disk && run ? "--disk" : "", o->image ? "--image IMAGE" : "",
		o->image && o->disk && run ? " or " : "", o->disk && run ? "--disk FILE" : "",
		strbuf_str(&field));
}

static int parse_launch_options(
	const struct command *self, int argc, char **argv, bool run, struct parsed *p)
{
	struct launch_options *o = &p->o;
	bool ignored;
	const struct option_def defs[] = {
		{"bundle", 'b', OPTION_STRING, &o->bundle, "DIR",
			"the bundle (default: this directory)"},
		{"config", 'f', OPTION_STRING, &o->config, "FILE",
			"the configuration: in this directory, or in the bundle (default: "
			"config.json)"},
		{"console-socket", 0, OPTION_STRING, &o->console_socket, "SOCKET",
			"Unix socket that gets the terminal's master"},
		{"pidfd-socket", 0, OPTION_STRING, &o->pidfd_socket, "SOCKET",
			"Unix socket that gets a pidfd of the container's first process"},
		{"pid-file", 0, OPTION_STRING, &o->pid_file, "FILE",
			"write the first process's pid to FILE"},
		{"preserve-fds", 0, OPTION_COUNT, &o->preserve_fds, "N",
			"hand descriptors 3 to 2+N to the program"},
		{"root-layers", 0, OPTION_STRING, &o->root_layers, "DIR:NAME[:NAME...]",
			"root.path is an overlay of these directories of DIR, the topmost first; "
			"upper and work of the bundle hold what is written"},
		{"remove-bundle", 0, OPTION_FLAG, &o->remove_bundle, NULL,
			"the bundle is the container's alone: remove its directory with it"},
		{"timeline", 0, OPTION_STRING, &o->timeline, "FILE",
			"write where the time of the start went to FILE: a .svg, .json or .html"},
		{"no-pivot", 0, OPTION_FLAG, &o->no_pivot, NULL,
			"move the root instead of pivot_root: for an initramfs"},
		{"no-new-keyring", 0, OPTION_FLAG, &o->no_new_keyring, NULL,
			"keep the caller's session keyring"},
		{"no-subreaper", 0, OPTION_FLAG, &ignored, NULL, "accepted, without effect"},
		{"isolation", 0, OPTION_STRING, &o->isolation, "ns|vm",
			"namespaces, or a microVM (default: what config.json says, else ns)"},
		{"hypervisor", 0, OPTION_STRING, &o->hypervisor, "kvm|qemu|auto",
			"what runs the microVM (default: auto: KVM if usable, else QEMU)"},
		{"template", 0, OPTION_STRING, &o->template, "auto|off|refresh",
			"start a microVM from a booted one in the cache (default: auto)"},
		{run ? "detach" : "", run ? 'd' : 0, OPTION_FLAG, &o->detach, NULL,
			"return once it runs, and leave it running"},
		{run ? "keep" : "", 0, OPTION_FLAG, &o->keep, NULL,
			"do not delete the container when it ends"},
		{0},
	};
	/*
	 * `used` is the table without the rows --detach and --keep if the command is `create`, for
	 * which the names in these rows are empty.
	 */
	struct option_def used[ARRAY_SIZE(defs) + NETWORK_OPTIONS];
	struct arguments args = {.min = 1, .max = 1};

	put_options(p, defs, used);
	int r = cmd_parse(self, used, argc, argv, &args);
	if (r < 0)
		r = explain_other_option(self, argc, argv, run, r);
	if (r == 0)
		o->id = args.v[0];
	o->network.networks = strings_of(&p->networks);
	o->network.ports = strings_of(&p->ports);
	o->network.dns = strings_of(&p->dns);
	o->network.hosts = strings_of(&p->hosts);
	return r;
}

int cmd_create(const struct command *self, const struct globals *g, int argc, char **argv)
{
	struct parsed p = {0};

	if (cmd_has_option(argc, argv, "--image"))
		return cmd_run_image(self, g, argc, argv);
	int r = parse_launch_options(self, argc, argv, false, &p);
	if (r != 0)
		return r < 0 ? r : 0;
	r = cmd_prepare_launch(g, &p.o);
	return r < 0 ? r : launch_create(&p.o);
}

int cmd_run(const struct command *self, const struct globals *g, int argc, char **argv)
{
	/* --initrd and --append need one of the first two, as `run --disk` says then. */
	static const char *const of_machines[] = {"--disk", "--kernel", "--initrd", "--append"};
	struct parsed p = {0};
	int status;

	if (cmd_has_option(argc, argv, "--image"))
		return cmd_run_image(self, g, argc, argv);
	for (size_t i = 0; i < ARRAY_SIZE(of_machines); i++)
		if (cmd_has_option(argc, argv, of_machines[i]))
			return cmd_run_disk(self, g, argc, argv);
	int r = parse_launch_options(self, argc, argv, true, &p);
	if (r != 0)
		return r < 0 ? r : 0;
	r = cmd_prepare_launch(g, &p.o);
	if (r >= 0)
		r = launch_run(&p.o, &status);
	return r < 0 ? r : status;
}
