/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements `run --image` and `create --image`.
 *
 * Theory of operation. run_prepare() makes a bundle of the image, and this process then does what
 * `caisson run --bundle` does, so that signals, the terminal and the exit code are the same. In
 * three cases another process does a part of this:
 * - An ordinary user's bundle is made by a child that is the root of a user namespace, because this
 *   process could not leave that namespace again.
 * - For `create` and `run --detach` a child makes the container. The child's standard streams
 *   become those of the container, while this process prints the container's name on the caller's
 *   standard output.
 * - With --rm another child waits for the end of a container in the background and deletes the
 *   container.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/process.h"
#include "base/program.h"
#include "cmd/run_image.h"

static struct spec_strings strings_of(const struct option_list *l)
{
	return (struct spec_strings){.v = l->v, .n = l->n};
}

int run_image_options(struct image_run *r, struct launch_options *ret)
{
	const struct run_options *o = &r->options;

	*ret = (struct launch_options){
		.id = r->name,
		.bundle = r->bundle.dir,
		.root_layers = r->bundle.layers,
		.remove_bundle = true,
		.isolation = o->isolation,
		.hypervisor = o->hypervisor,
		.detach = o->detach,
		.keep = !o->rm,
	};
	if (run_joins(o))
		ret->network = (struct network_options){
			.networks = strings_of(&o->network),
			.ports = strings_of(&o->publish),
			.dns = strings_of(&o->dns),
			.hosts = strings_of(&o->add_host),
		};
	return cmd_prepare_launch(&r->globals, ret);
}

int run_image_wait(pid_t pid, const char *what)
{
	int status;

	int r = process_wait(pid, what, &status);
	if (r < 0)
		return r;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

_Noreturn void run_image_end_child(int r)
{
	int code = r < 0 ? program_fail(r) : r;

	fflush(stderr);
	_exit(code);
}

/* Makes the bundle in a child process, which becomes root of a user namespace. */
static int prepare_in_child(struct image_run *r)
{
	pid_t self = getpid();
	pid_t pid = fork();

	if (pid < 0)
		return err_sys("make a process");
	if (pid == 0)
		run_image_end_child(run_prepare(&r->options, &r->arena, r->name, self, &r->bundle));
	int status = run_image_wait(pid, "the bundle");
	return status == 0 ? run_find_bundle(&r->options, &r->arena, r->name, &r->bundle) : status;
}

/*
 * Makes the bundle with the umask 022, whatever umask the caller has, because the modes of the
 * bundle's directories are part of what the container sees.
 */
static int prepare(struct image_run *r)
{
	mode_t mask = umask(022);
	int result = geteuid() == 0
			     ? run_prepare(&r->options, &r->arena, r->name, getpid(), &r->bundle)
			     : prepare_in_child(r);

	umask(mask);
	return result;
}

/* Makes a random name of 12 hexadecimal digits for the container. */
static int random_name(struct arena *a, const char **ret)
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return err_sys("get random bytes");
	*ret = arena_printf(a, "%012" PRIx64, random & UINT64_C(0xffffffffffff));
	return *ret ? 0 : -ENOMEM;
}

static int start(struct image_run *r)
{
	struct launch_options l;
	int status, result = 0;

	if (r->options.detach || r->create)
		return run_image_detached(r);
	if (!r->options.interactive && !r->options.tty)
		result = fd_set_streams(-EBADF, STDOUT_FILENO, STDERR_FILENO);
	if (result >= 0)
		result = run_image_options(r, &l);
	if (result >= 0)
		result = launch_run(&l, &status);
	return result < 0 ? result : status;
}

static int check_options(const struct run_options *o, bool tty_possible)
{
	if (!o->image)
		return err_set(EINVAL, "--image is missing: it names the image to run");
	if (o->image[0] == '-')
		return err_set(EINVAL,
			"--image %s: expected the name of an image (`caisson run --image IMAGE "
			"--help` lists the options)",
			o->image);
	if (o->tty && !tty_possible)
		return err_set(EINVAL,
			"--tty: a container in the background has no terminal: leave out --tty or "
			"--detach");
	if (o->isolation && !streq(o->isolation, "ns") && !streq(o->isolation, "vm"))
		return err_set(EINVAL, "--isolation %.100s: expected ns or vm", o->isolation);
	if (o->root_disk && !streq(o->root_disk, "share") && !streq(o->root_disk, "erofs"))
		return err_set(EINVAL, "--root-disk %.100s: expected share or erofs", o->root_disk);
	if (run_uses_erofs(o) && !(o->isolation && streq(o->isolation, "vm")))
		return err_set(EINVAL, "--root-disk erofs: only a microVM has a disk: add "
				       "--isolation vm");
	return 0;
}

static int set_root(struct image_run *r, const struct globals *g)
{
	const char *root;
	int result = container_root(&r->arena, g->root, &root);

	if (result < 0)
		return result;
	_cleanup_free_ char *cwd = *root == '/' ? NULL : getcwd(NULL, 0);
	root = arena_printf(&r->arena, "%s%s%s", cwd ? cwd : "", cwd ? "/" : "", root);
	r->globals = *g;
	r->globals.root = r->options.state_root = root;
	return root ? 0 : -ENOMEM;
}

/* Fails if the user has given an option that an image with a program does not have. */
static int refuse_machine_options(const struct image_run *r)
{
	const struct machine_only *m = &r->machine;
	const struct {
		const char *name;
		bool given;
	} all[] = {{"ephemeral", m->ephemeral}, {"vnc", m->vnc}, {"size", m->size},
		{"overlay", m->overlay}, {"format", m->format}, {"cloud-init", m->cloud_init},
		{"vendor-data", m->vendor_data}, {"network-config", m->network_config},
		{"ssh-key", m->ssh_key}, {"ssh-user", m->ssh_user}, {"firmware", m->firmware},
		{"firmware-vars", m->firmware_vars}, {"append", m->append}, {"initrd", m->initrd},
		{"inspect-kernel", m->inspect_kernel}};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (all[i].given)
			return err_set(EINVAL,
				"--%s: it is for images that contain a disk and no program, and "
				"are run with --isolation vm: leave it out",
				all[i].name);
	return 0;
}

/*
 * If root runs the image with --isolation vm, and the image contains a disk and no program, boots
 * the disk as a machine: this process becomes caisson-inside, so the function returns only after a
 * failure. In all other cases refuses the options that only a machine has.
 */
static int try_machine(struct image_run *r)
{
	const struct run_options *o = &r->options;
	bool has_disk = false;
	int result = 0;

	if (!r->create && o->isolation && streq(o->isolation, "vm") && geteuid() == 0)
		result = run_has_disk(o, &r->arena, &has_disk);
	if (result != 0)
		return result;
	return has_disk ? cmd_run_disk(NULL, &r->globals, r->argc, r->argv)
			: refuse_machine_options(r);
}

static int run_image(struct image_run *r, const struct globals *g)
{
	struct run_options *o = &r->options;

	if (!o->isolation && g->vm)
		o->isolation = "vm";
	int result = check_options(o, !o->detach && !r->create);

	if (result >= 0)
		result = run_choose_network(&r->arena, o);
	if (result >= 0)
		result = set_root(r, g);
	o->debug = g->debug;
	r->name = o->name;
	if (result >= 0 && !r->name)
		result = random_name(&r->arena, &r->name);
	if (result >= 0)
		result = try_machine(r);
	if (result == 0)
		result = prepare(r);
	if (result != 0)
		return result;
	result = start(r);
	if (result < 0) {
		char message[ERR_MAX];
		snprintf(message, sizeof(message), "%s", err_msg());
		run_remove_bundle(o, r->name);
		return err_set(-result, "%s", message);
	}
	if (result > 0 && (o->detach || r->create))
		run_remove_bundle(o, r->name);
	return result;
}

int cmd_run_image(const struct command *self, const struct globals *g, int argc, char **argv)
{
	const struct command docker_like = {self->name,
		"--image IMAGE [options] [--] [COMMAND [ARG...]]",
		streq(self->name, "create") ? "Make a container from an image."
					    : "Run a container from an image.",
		"The image's layers are unpacked into the store once, and containers share them. "
		"COMMAND\n"
		"replaces the image's Cmd. Afterwards `caisson exec`, `ps`, `logs`, `stop` and "
		"`rm` "
		"take the\n"
		"container's NAME. If the image contains a disk and no program, --isolation vm "
		"boots the\n"
		"disk as a machine (caisson-machine(7)).\n\n"
		"  caisson run --image debian:12 --rm -it\n"
		"  caisson run --image nginx -d --name web -p 8080:80",
		self->run};
	struct image_run r = {.create = streq(self->name, "create"), .argc = argc};
	struct machine_only *m = &r.machine;
	struct run_options o = {0};
	const struct option_def defs[] = {
		{"image", 0, OPTION_STRING, &o.image, "IMAGE",
			"the image, by its name in the store"},
		{"name", 0, OPTION_STRING, &o.name, "NAME", "the container's ID (default: random)"},
		{"detach", 'd', OPTION_FLAG, &o.detach, NULL,
			"return once it runs, and print its name; `caisson logs` has its output"},
		{"rm", 0, OPTION_FLAG, &o.rm, NULL, "delete the container when it ends"},
		{"interactive", 'i', OPTION_FLAG, &o.interactive, NULL,
			"the program reads this command's standard input"},
		{"tty", 't', OPTION_FLAG, &o.tty, NULL, "the program gets a terminal"},
		{"env", 'e', OPTION_LIST, &o.env, "NAME[=VALUE]",
			"set a variable (without a value: the caller's)"},
		{"env-file", 0, OPTION_LIST, &o.env_file, "FILE", "read variables, one a line"},
		{"volume", 'v', OPTION_LIST, &o.volume, "[DIR|NAME:]PATH[:OPTIONS]",
			"mount a path of the host, or a volume, on PATH (ro: read-only)"},
		{"mount", 0, OPTION_LIST, &o.mount, "type=TYPE,...",
			"the same in words: type=bind|volume|tmpfs,source=,target=,readonly"},
		{"tmpfs", 0, OPTION_LIST, &o.tmpfs, "PATH[:OPTIONS]", "mount a tmpfs"},
		{"workdir", 'w', OPTION_STRING, &o.workdir, "DIR", "in place of the image's"},
		{"user", 'u', OPTION_STRING, &o.user, "USER[:GROUP]", "in place of the image's"},
		{"entrypoint", 0, OPTION_LIST, &o.entrypoint, "PROGRAM",
			"in place of the image's, whose Cmd is left out too; \"\": none"},
		{"hostname", 0, OPTION_STRING, &o.hostname, "NAME", "(default: the container's)"},
		{"label", 'l', OPTION_LIST, &o.label, "NAME=VALUE",
			"an annotation of the container"},
		{"network", 0, OPTION_LIST, &o.network, "NETWORK",
			"none, host, ns:PATH, or a network of `caisson net`: "
			"NAME[:ip=ADDRESS,mac=MAC,alias=NAME] (default: caisson)"},
		{"dns", 0, OPTION_LIST, &o.dns, "ADDRESS",
			"a name server, in place of the network's or the host's"},
		{"add-host", 0, OPTION_LIST, &o.add_host, "NAME:ADDRESS",
			"a line of /etc/hosts; the address host-gateway is the host's"},
		{"publish", 'p', OPTION_LIST, &o.publish, "PORTS",
			"let ports of the host lead to it: [HOST:]PORT:PORT[/tcp|udp|sctp]"},
		{"read-only", 0, OPTION_FLAG, &o.read_only, NULL,
			"the root file system is read-only"},
		{"memory", 'm', OPTION_STRING, &o.memory, "SIZE", "limit, such as 512m"},
		{"cpus", 0, OPTION_STRING, &o.cpus, "NUMBER", "limit, such as 1.5"},
		{"pids-limit", 0, OPTION_STRING, &o.pids_limit, "NUMBER", "limit; -1: none"},
		{"ulimit", 0, OPTION_LIST, &o.ulimit, "NAME=SOFT[:HARD]", "limit of each process"},
		{"cap-add", 0, OPTION_LIST, &o.cap_add, "CAP", "one more capability, or ALL"},
		{"cap-drop", 0, OPTION_LIST, &o.cap_drop, "CAP", "one capability less, or ALL"},
		{"security-opt", 0, OPTION_LIST, &o.security_opt, "OPTION",
			"no-new-privileges, seccomp=unconfined|FILE, apparmor=PROFILE, "
			"label=CONTEXT, systempaths=unconfined"},
		{"device", 0, OPTION_LIST, &o.device, "HOST[:PATH][:rwm]", "a device of the host"},
		{"stop-signal", 0, OPTION_STRING, &o.stop_signal, "SIGNAL",
			"what `caisson stop` sends (default: the image's, else TERM)"},
		{"cgroup-parent", 0, OPTION_STRING, &o.cgroup_parent, "PATH",
			"the cgroup that the container's is made in; a slice with systemd"},
		{"platform", 0, OPTION_STRING, &o.platform, "OS/ARCH[/VARIANT]",
			"of an image for several (default: this machine's)"},
		{"isolation", 0, OPTION_STRING, &o.isolation, "ns|vm",
			"namespaces (default), or a microVM"},
		{"hypervisor", 0, OPTION_STRING, &o.hypervisor, "kvm|qemu|auto",
			"what runs the microVM (default: auto)"},
		{"root-disk", 0, OPTION_STRING, &o.root_disk, "share|erofs",
			"how the microVM gets the image: shared by the host (default), or as a "
			"disk that all microVMs of the image read"},
		{"kernel", 0, OPTION_STRING, &o.kernel, "FILE",
			"the microVM's kernel (default: the installed one)"},
		{"store", 0, OPTION_STRING, &o.store, "DIR",
			"the store (default: that of `caisson image`)"},
		{"quiet", 'q', OPTION_FLAG, &o.quiet, NULL, "no progress, no warnings"},
		{"ephemeral", 0, OPTION_FLAG, &m->ephemeral, NULL,
			"of a disk's machine, as the next options are: drop what it writes"},
		{"size", 0, OPTION_STRING, &m->size, "SIZE", "make its disk that large"},
		{"overlay", 0, OPTION_STRING, &m->overlay, "FILE", "write to this qcow2 overlay"},
		{"format", 0, OPTION_STRING, &m->format, "FORMAT", "the disk's format"},
		{"cloud-init", 0, OPTION_STRING, &m->cloud_init, "FILE", "its user-data"},
		{"vendor-data", 0, OPTION_STRING, &m->vendor_data, "FILE", "its vendor-data"},
		{"network-config", 0, OPTION_STRING, &m->network_config, "FILE",
			"its network configuration"},
		{"ssh-key", 0, OPTION_STRING, &m->ssh_key, "FILE", "public key of who may log in"},
		{"ssh-user", 0, OPTION_STRING, &m->ssh_user, "USER",
			"who `caisson exec` logs in as"},
		{"vnc", 0, OPTION_FLAG, &m->vnc, NULL, "give it a screen on QEMU"},
		{"firmware", 0, OPTION_STRING, &m->firmware, "efi|FILE",
			"boot by EFI firmware on QEMU"},
		{"firmware-vars", 0, OPTION_STRING, &m->firmware_vars, "FILE",
			"the firmware's variables"},
		{"append", 0, OPTION_STRING, &m->append, "WORDS",
			"more words of its kernel's command line"},
		{"initrd", 0, OPTION_STRING, &m->initrd, "FILE", "the initramfs for --kernel"},
		{"inspect-kernel", 0, OPTION_STRING, &m->inspect_kernel, "FILE",
			"kernel of the microVM that looks into the disk"},
		{0},
	};
	struct arguments args = {.max = -1, .stop_at_first = true};

	r.argv = arena_array(&r.arena, (size_t)argc + 1, sizeof(*r.argv));
	if (!r.argv)
		return -ENOMEM;
	memcpy(r.argv, argv, (size_t)argc * sizeof(*argv));
	int result = cmd_parse(&docker_like, defs, argc, argv, &args);
	if (result != 0)
		return result < 0 ? result : 0;
	o.command = args.v;
	r.options = o;
	result = run_image(&r, g);
	arena_release(&r.arena);
	return result;
}
