/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements `caisson run --disk`, which executes caisson-inside. caisson-inside makes the bundle
 * of a machine with a foreign guest (SPEC_GUEST in spec/spec.h), and executes `caisson run
 * --bundle` with it.
 */
#include "inside/machine.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/random.h>
#include <sys/wait.h>

#include "base/interrupt.h"
#include "base/process.h"
#include "machine/size.h"

#define IMAGE_PREFIX "image:"
#define MEMORY_DEFAULT (UINT64_C(1) << 30)
/* room for the options of `caisson run`; three of them are lists, with two words for each value */
#define WORDS_MAX 800

static const char text[] =
	"Usage: caisson run --isolation vm --disk FILE [options] [NAME]\n\n"
	"Boot the operating system that is on a disk, such as a cloud image.\n\n"
	"Its own kernel and init run in a virtual machine. cloud-init in it is configured by\n"
	"--cloud-init and --ssh-key, and by the networks that the machine joins. `caisson console\n"
	"NAME` shows its serial console, `exec` runs commands by ssh, and `kill` presses the "
	"power\n"
	"button. Writes go to the disk unless --ephemeral, --overlay or --size is given. Without\n"
	"--disk, the machine boots the kernel of --kernel and has no disk.\n\n"
	"  caisson run --isolation vm --disk debian.qcow2 --ephemeral\n"
	"  caisson run --isolation vm --disk debian.qcow2 --size 20G --ssh-key ~/.ssh/id.pub \\\n"
	"      --cloud-init user-data -p 2222:22 -d web\n\n"
	"Options:\n";

static int print_help(const struct option_def *defs)
{
	_cleanup_strbuf_ struct strbuf out = {0};

	int r = strbuf_addf(&out, "%s", text);
	if (r >= 0)
		r = options_help(defs, &out);
	if (r >= 0)
		r = fd_write_all(STDOUT_FILENO, strbuf_str(&out), out.len);
	return r < 0 ? err_set(-r, "write to standard output: %s", err_text(-r)) : 0;
}

static int check_options(const struct machine_options *o)
{
	uint64_t size;

	if (o->initrd && !o->kernel)
		return err_set(EINVAL,
			"--initrd %s: it is the initramfs of the kernel of --kernel: give --kernel "
			"too",
			o->initrd);
	if (!o->disk && !o->kernel)
		return err_set(EINVAL,
			"--disk: expected the file of a disk image, or --kernel without a disk");
	if (!o->isolation || !streq(o->isolation, "vm"))
		return err_set(EINVAL,
			"--%s %s: an operating system of its own needs a machine of its own: add "
			"--isolation vm",
			o->disk ? "disk" : "kernel", o->disk ? o->disk : o->kernel);
	const char *needs = o->disk           ? NULL
			    : o->ephemeral    ? "ephemeral"
			    : o->overlay      ? "overlay"
			    : o->size         ? "size"
			    : o->firmware     ? "firmware"
			    : o->look.format  ? "format"
			    : o->look.backing ? "backing"
					      : NULL;
	if (needs)
		return err_set(EINVAL, "--%s: the machine has no disk: leave it out, or add --disk",
			needs);
	if (o->is_run_image && o->rm && o->detach)
		return err_set(EINVAL,
			"--rm: a machine in the background stays until `caisson rm %s`: leave out "
			"--rm or --detach",
			o->name ? o->name : "NAME");
	if (o->size && str_to_size(o->size, &size) < 0)
		return err_set(EINVAL, "--size %s: expected a size such as 20G", o->size);
	if (o->ephemeral && o->overlay)
		return err_set(EINVAL,
			"--ephemeral: what is written would be dropped, but --overlay %s keeps it: "
			"leave one of them out",
			o->overlay);
	if (o->firmware && (o->kernel || o->append))
		return err_set(EINVAL,
			"--%s: the firmware starts the boot loader of the disk, which chooses the "
			"kernel and its command line: leave out --%s or --firmware",
			o->kernel ? "kernel" : "append", o->kernel ? "kernel" : "append");
	if ((o->firmware || o->vnc) && o->hypervisor && streq(o->hypervisor, "kvm"))
		return err_set(ENOTSUP,
			"--%s: the built-in monitor has no firmware and no screen, and boots only "
			"a kernel: choose --hypervisor qemu, or leave out --%s",
			o->firmware ? "firmware" : "vnc", o->firmware ? "firmware" : "vnc");
	if (o->firmware_vars && !o->firmware)
		return err_set(EINVAL,
			"--firmware-vars %s: without --firmware there is none: add "
			"--firmware efi",
			o->firmware_vars);
	return 0;
}

/* Reads the sizes of --memory and --cpus. */
static int read_sizes(struct machine_options *o)
{
	o->memory_bytes = MEMORY_DEFAULT;
	o->ncpus = 1;
	if (o->cpus && str_to_u64(o->cpus, &o->ncpus) < 0)
		return err_set(EINVAL, "--cpus %s: expected a number from 1", o->cpus);
	int r = inside_memory(o->memory, &o->memory_bytes);
	return r < 0 ? r : machine_check_cpus("--cpus", o->ncpus);
}

/* Makes a random name of 12 hexadecimal digits for a machine to which the user gave no name. */
static int random_name(struct arena *a, const char **ret)
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return err_sys("get random bytes");
	*ret = arena_printf(a, "%012" PRIx64, random & UINT64_C(0xffffffffffff));
	return *ret ? 0 : -ENOMEM;
}

struct words {
	const char *v[WORDS_MAX];
	size_t n;
};

static void add(struct words *w, const char *option, const char *value)
{
	if (!value)
		return;
	w->v[w->n++] = option;
	w->v[w->n++] = value;
}

static void add_list(struct words *w, const char *option, const struct option_list *l)
{
	for (size_t i = 0; i < l->n && w->n + 32 < WORDS_MAX; i++)
		add(w, option, l->v[i]);
}

/*
 * Executes `caisson run` with the machine's bundle in this process. Returns only after a failure.
 */
static int become_run(const struct machine_options *o, const struct machine_bundle *b)
{
	const char *runtime = getenv(RUNTIME_VARIABLE);
	struct words w = {.v = {runtime}, .n = 1};

	add(&w, "--root", getenv(STATE_VARIABLE));
	w.v[w.n++] = "run";
	add(&w, "--isolation", "vm");
	add(&w, "--bundle", b->path);
	w.v[w.n++] = "--remove-bundle";
	add(&w, "--hypervisor", o->hypervisor);
	add(&w, "--pid-file", o->pid_file);
	add(&w, "--console-socket", o->console_socket);
	add_list(&w, "--network", &o->networks);
	add_list(&w, "--publish", &o->ports);
	add_list(&w, "--dns", &o->dns);
	if (o->detach)
		w.v[w.n++] = "--detach";
	if (o->keep)
		w.v[w.n++] = "--keep";
	w.v[w.n++] = "--";
	w.v[w.n++] = o->name;
	w.v[w.n] = NULL;
	execv(runtime, (char *const *)w.v);
	return err_sys("execute %s", runtime);
}

/*
 * Executes `caisson run` in a child process, and prints the machine's name if the child succeeds,
 * as `run --image --detach` does for containers. Returns 1 if `caisson run` has failed, after it
 * has printed why and has removed the bundle.
 */
static int run_in_background(
	const struct machine_options *o, const struct machine_bundle *b, int interrupt)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return err_sys("make a process");
	if (pid == 0) {
		dup2(STDERR_FILENO, STDOUT_FILENO);
		if (become_run(o, b) < 0)
			fd_say(STDERR_FILENO, "caisson", err_msg());
		_exit(1);
	}
	_cleanup_fd_ int ended = pidfd_open(pid, 0);
	if (ended >= 0 && interrupt_wait(interrupt, ended) < 0)
		kill(pid, SIGTERM);
	int r = process_wait(pid, "caisson", &status);
	if (r < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return r < 0 ? r : 1;
	printf("%s\n", o->name);
	return fflush(stdout) == 0 ? 0 : err_sys("write to standard output");
}

static int run_machine(struct arena *a, struct machine_options *o)
{
	struct machine_bundle b = {.dir = -EBADF};
	_cleanup_fd_ int interrupt = -EBADF;
	bool is_running = false;

	if (o->is_run_image) {
		o->disk = arena_printf(a, IMAGE_PREFIX "%s", o->image);
		o->keep = !o->rm;
		if (!o->disk)
			return -ENOMEM;
	}
	if (o->disk && str_starts(o->disk, IMAGE_PREFIX))
		o->image = o->disk + strlen(IMAGE_PREFIX);
	int r = check_options(o);

	if (r >= 0)
		r = read_sizes(o);
	if (r >= 0 && !getenv(RUNTIME_VARIABLE))
		return err_set(EINVAL, "this program is executed by `caisson run --disk`");
	if (r >= 0 && !o->name)
		r = random_name(a, &o->name);
	o->cloud.id = o->name;
	if (r >= 0 && o->image)
		r = machine_find_containerdisk(a, o);
	if (r == 0)
		r = machine_fetch(a, o, &o->kernel);
	if (r == 0)
		r = machine_fetch(a, o, &o->initrd);
	if (r == 0) {
		interrupt = interrupt_block();
		r = interrupt < 0 ? interrupt : machine_bundle_make(a, o, &b);
	}
	/*
	 * The signals stay blocked when `caisson run` is executed. It blocks them itself before it
	 * makes the container, and undoes what has been made if one has come.
	 */
	if (r == 0)
		r = interrupt_read(interrupt);
	if (r == 0 && o->is_run_image && o->detach) {
		r = run_in_background(o, &b, interrupt);
		is_running = r == 0;
	} else if (r == 0) {
		r = become_run(o, &b);
	}
	/*
	 * The bundle and the overlay are removed only after a failure. If become_run() succeeds, it
	 * does not return, and if `caisson run` fails, it has removed the bundle itself.
	 */
	if (b.made && !is_running)
		unlink(b.made);
	if (b.made_vars && !is_running)
		unlink(b.made_vars);
	if (b.path && !is_running && access(b.path, F_OK) == 0)
		inside_remove_bundle(b.path);
	fd_close(&b.dir);
	return r;
}

int inside_machine(int argc, char **argv)
{
	_cleanup_arena_ struct arena a = {0};
	struct machine_options o = {0};
	bool help, ignored;
	const struct option_def defs[] = {
		{"disk", 0, OPTION_STRING, &o.disk, "FILE|image:IMAGE",
			"the disk image to boot, or an image of containers with a "
			"/disk/NAME.qcow2"},
		{"store", 0, OPTION_STRING, &o.store, "DIR",
			"with --disk image:IMAGE: the store (default: that of `caisson image`)"},
		{"platform", 0, OPTION_STRING, &o.platform, "OS/ARCH[/VARIANT]",
			"with --disk image:IMAGE: of an image for several (default: this "
			"machine's)"},
		{"quiet", 'q', OPTION_FLAG, &o.quiet, NULL,
			"with --disk image:IMAGE: no progress, no warnings"},
		{"format", 0, OPTION_STRING, &o.look.format, "FORMAT",
			"its format (default: the ending of the file's name)"},
		{"backing", 0, OPTION_STRING, &o.look.backing, "on|off|DIR",
			"where its backing files may be: on: beside it (default: off)"},
		{"ephemeral", 0, OPTION_FLAG, &o.ephemeral, NULL,
			"drop what is written when the machine ends"},
		{"overlay", 0, OPTION_STRING, &o.overlay, "FILE",
			"write to this qcow2 overlay of the disk, which is made if it is missing"},
		{"size", 0, OPTION_STRING, &o.size, "SIZE",
			"make the disk that large, such as 20G, in an overlay; without --overlay "
			"it is removed with the machine"},
		{"cloud-init", 0, OPTION_STRING, &o.cloud.user_data, "FILE",
			"user-data for cloud-init"},
		{"vendor-data", 0, OPTION_STRING, &o.cloud.vendor_data, "FILE",
			"vendor-data for cloud-init"},
		{"network-config", 0, OPTION_STRING, &o.cloud.network_config, "FILE",
			"in place of what the machine's networks say"},
		{"ssh-key", 0, OPTION_STRING, &o.cloud.ssh_key, "FILE",
			"public key of who may log in; `caisson exec` uses FILE without .pub"},
		{"hostname", 0, OPTION_STRING, &o.cloud.hostname, "NAME", "(default: NAME)"},
		{"network", 0, OPTION_LIST, &o.networks, "NETWORK",
			"join a network of `caisson net`: NAME[:ip=ADDRESS,mac=MAC,alias=NAME]"},
		{"publish", 'p', OPTION_LIST, &o.ports, "PORTS",
			"let ports of the host lead to it: [HOST:]PORT:PORT[/tcp|udp|sctp]"},
		{"dns", 0, OPTION_LIST, &o.dns, "ADDRESS", "a name server"},
		{"memory", 'm', OPTION_STRING, &o.memory, "SIZE", "its memory (default: 1G)"},
		{"cpus", 0, OPTION_STRING, &o.cpus, "NUMBER", "its CPUs (default: 1)"},
		{"kernel", 0, OPTION_STRING, &o.kernel, "FILE",
			"a kernel, in place of the one on the disk: a file, a URL with @sha256:HEX "
			"if it is known, or oci://NAME#FILE"},
		{"initrd", 0, OPTION_STRING, &o.initrd, "FILE",
			"the initramfs for --kernel, named in the same ways"},
		{"append", 0, OPTION_STRING, &o.append, "WORDS",
			"more words of the kernel's command line"},
		{"firmware", 0, OPTION_STRING, &o.firmware, "efi|FILE",
			"boot by EFI firmware on QEMU, as a PC does; efi: the installed one"},
		{"firmware-vars", 0, OPTION_STRING, &o.firmware_vars, "FILE",
			"the firmware's variables, made if missing (default: kept with the "
			"machine)"},
		{"vnc", 0, OPTION_FLAG, &o.vnc, NULL,
			"give it a screen on QEMU, which `caisson console --vnc` shows to viewers"},
		{"ssh-user", 0, OPTION_STRING, &o.ssh_user, "USER",
			"with --ssh-key: who `caisson exec` logs in as (default: the image's "
			"usual user)"},
		{"detach", 'd', OPTION_FLAG, &o.detach, NULL,
			"return once it runs, and leave it running"},
		{"keep", 0, OPTION_FLAG, &o.keep, NULL, "do not delete the machine when it ends"},
		{"pid-file", 0, OPTION_STRING, &o.pid_file, "FILE",
			"write the pid of the machine's process to FILE"},
		{"console-socket", 0, OPTION_STRING, &o.console_socket, "SOCKET",
			"Unix socket that gets the master of the terminal"},
		{"isolation", 0, OPTION_STRING, &o.isolation, "vm", "has to be vm"},
		{"hypervisor", 0, OPTION_STRING, &o.hypervisor, "kvm|qemu|auto",
			"what runs the machine (default: auto)"},
		{"inspect-kernel", 0, OPTION_STRING, &o.look.kernel, "FILE",
			"kernel of the microVM that looks into the disk (default: the host's)"},
		/*
		 * The options below are those of `run --image`. They have no help text here,
		 * because `run --image --help` describes them. The machine's console is on the
		 * terminal anyway, so --interactive and --tty change nothing.
		 */
		{"image", 0, OPTION_STRING, &o.image, NULL, NULL},
		{"name", 0, OPTION_STRING, &o.name, NULL, NULL},
		{"rm", 0, OPTION_FLAG, &o.rm, NULL, NULL},
		{"interactive", 'i', OPTION_FLAG, &ignored, NULL, NULL},
		{"tty", 't', OPTION_FLAG, &ignored, NULL, NULL},
		{0},
	};

	int n = options_parse(defs, argc, argv, false, &help);
	o.is_run_image = o.image != NULL;
	if (n < 0)
		return o.image ? err_ctx(n,
					 "--image %s: the image contains a disk, which boots as a "
					 "machine with the options of caisson-machine(7)",
					 o.image)
			       : err_ctx(n, "run --disk");
	if (help)
		return print_help(defs);
	if (n > 1)
		return err_set(EINVAL,
			"run: too many arguments: expected NAME: with --disk the machine starts "
			"its own init, and no COMMAND");
	if (n)
		o.name = argv[0];
	o.look.hypervisor = o.hypervisor;
	o.look.kernel_option = "--inspect-kernel";
	return run_machine(&a, &o);
}
