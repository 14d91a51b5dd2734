/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the bundle of the microVM. Its root file system has no file of its own: the programs and
 * libraries are the host's, from the directories in `shared`, read-only. The guest needs these
 * directories because the tools that open volume groups, encrypted devices and databases of
 * packages are in them, if the host has these tools. The guest gets no other directory of the host,
 * such as /etc or /usr/local.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/libexec.h"
#include "base/remove.h"
#include "images/guest/guest_kernel.h"
#include "inside/inside.h"

#define MEMORY_DEFAULT (UINT64_C(1) << 30)
#define WORDS_MAX 32

/*
 * Directories of the host that the guest gets read-only. If such a directory is a symbolic link on
 * the host, the guest gets the same link.
 */
static const char *const shared[] = {"/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib64",
	"/usr/libexec", "/bin", "/sbin", "/lib", "/lib64"};

static const char *const made[] = {
	"usr", "inside", "modules", "keys", "sysroot", "proc", "sys", "dev", "tmp", "run", "etc"};

/*
 * The capabilities that are needed to mount, to use device mapper, and to read and write any file
 * of a disk. They endanger nothing, because the guest contains only the disk, and the microVM
 * confines the process.
 */
static const char *const capabilities[] = {"CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_DAC_OVERRIDE",
	"CAP_DAC_READ_SEARCH", "CAP_CHOWN", "CAP_FOWNER", "CAP_FSETID", "CAP_SETFCAP", "CAP_MKNOD",
	"CAP_SYS_CHROOT", "CAP_SETUID", "CAP_SETGID", "CAP_LINUX_IMMUTABLE", "CAP_IPC_LOCK",
	"CAP_SYS_RESOURCE", "CAP_KILL", "CAP_SYS_RAWIO", "CAP_MAC_ADMIN", "CAP_MAC_OVERRIDE"};

static void put_strings(struct json_out *o, const char *key, const char *const *v, size_t n)
{
	json_out_array(o, key);
	for (size_t i = 0; i < n; i++)
		json_out_str(o, NULL, v[i]);
	json_out_end_array(o);
}

static void put_mount(
	struct json_out *o, const char *destination, const char *type, const char *source)
{
	/*
	 * In an ordinary user's namespace Linux copies no mount of the host without those beneath
	 * it, such as one on /usr/lib/modules.
	 */
	const char *bind = geteuid() == 0 ? "bind" : "rbind";

	json_out_object(o, NULL);
	json_out_str(o, "destination", destination);
	json_out_str(o, "source", source);
	if (type) {
		json_out_str(o, "type", type);
	} else {
		json_out_str(o, "type", "bind");
		put_strings(o, "options", (const char *const[]){bind, "ro", "nosuid", "nodev"}, 4);
	}
	json_out_end_object(o);
}

/*
 * Adds a directory of the host to the bundle's root, as a read-only mount or, if it is a symbolic
 * link, as a link. Does nothing if the host does not have it.
 */
static int share_directory(struct json_out *o, int root, const char *path)
{
	char target[PATH_MAX];
	struct stat st;

	if (lstat(path, &st) < 0)
		return 0;
	if (S_ISLNK(st.st_mode)) {
		ssize_t n = readlink(path, target, sizeof(target) - 1);
		if (n < 0)
			return err_sys("read the symbolic link %s", path);
		target[n] = '\0';
		return symlinkat(target, root, path + 1) < 0 ? err_sys("link %s", path) : 0;
	}
	if (!S_ISDIR(st.st_mode))
		return 0;
	if (mkdirat(root, path + 1, 0755) < 0)
		return err_sys("create %s", path);
	put_mount(o, path, NULL, path);
	return 0;
}

static int make_file(int root, const char *path)
{
	_cleanup_fd_ int fd = openat(root, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return fd < 0 ? err_sys("create %s", path) : 0;
}

/* Mounts `file`, a file of the host, read-only at `path` in the guest. */
static int share_file(struct json_out *o, int root, const char *path, const char *file)
{
	_cleanup_free_ char *real = realpath(file, NULL);

	if (!real)
		return err_sys("%s", file);
	int r = make_file(root, path + 1);
	if (r >= 0)
		put_mount(o, path, NULL, real);
	return r;
}

static int put_mounts(
	const struct inside_run *run, struct json_out *o, int root, const struct guest_kernel *k)
{
	const struct option_list *keys = &run->options->keys;
	char self[PATH_MAX], path[64];
	int r = 0;

	json_out_array(o, "mounts");
	put_mount(o, "/proc", "proc", "proc");
	put_mount(o, "/sys", "sysfs", "sysfs");
	put_mount(o, "/tmp", "tmpfs", "tmpfs");
	put_mount(o, "/run", "tmpfs", "tmpfs");
	put_mount(o, "/etc", "tmpfs", "tmpfs");
	for (size_t i = 0; i < ARRAY_SIZE(shared) && r >= 0; i++)
		r = share_directory(o, root, shared[i]);
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (r < 0 || n < 0)
		return r < 0 ? r : err_sys("find this program");
	self[n] = '\0';
	r = share_file(o, root, INSIDE_PROGRAM, self);
	if (r >= 0 && k->modules)
		put_mount(o, INSIDE_MODULES, NULL, k->modules);
	for (size_t i = 0; i < keys->n && r >= 0; i++) {
		const char *colon = strchr(keys->v[i], ':');
		snprintf(path, sizeof(path), INSIDE_KEYS "/%zu", i);
		r = share_file(o, root, path, colon ? colon + 1 : keys->v[i]);
		r = r < 0 ? err_ctx(r, "--key") : r;
	}
	json_out_end_array(o);
	return r;
}

static void put_list(struct json_out *o, const char *option, const struct option_list *l)
{
	for (size_t i = 0; i < l->n; i++) {
		json_out_str(o, NULL, option);
		json_out_str(o, NULL, l->v[i]);
	}
}

/*
 * Writes an argument that may have any bytes, such as a file name of the disk. JSON has only UTF-8,
 * so the guest undoes by str_unescape() what is escaped here.
 */
static void put_bytes(struct json_out *o, const char *text)
{
	_cleanup_strbuf_ struct strbuf s = {0};
	int r = 0;

	for (; *text && r >= 0; text++)
		r = *text == '\\' || (unsigned char)*text >= 0x80
			    ? strbuf_addf(&s, "\\%03o", (unsigned char)*text)
			    : strbuf_add(&s, text, 1);
	if (r < 0)
		o->failed = r;
	json_out_str(o, NULL, strbuf_str(&s));
}

/* Writes the arguments of the program in the guest, which inside_guest() in guest.c parses. */
static void put_args(const struct inside_run *run, struct json_out *o)
{
	const struct inside_options *p = run->options;
	const struct {
		bool set;
		const char *name;
	} flags[] = {{run->write, "--write"}, {p->is_long, "--long"}, {p->recursive, "--recursive"},
		{p->human, "--human-readable"}, {p->inodes, "--inodes"}, {p->json, "--json"},
		{p->archive, "--archive"}, {p->quote, "--quote"}};

	json_out_array(o, "args");
	json_out_str(o, NULL, INSIDE_PROGRAM);
	json_out_str(o, NULL, INSIDE_GUEST);
	json_out_str(o, NULL, run->command->name);
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (flags[i].set)
			json_out_str(o, NULL, flags[i].name);
	put_list(o, "--mount", &p->mounts);
	put_list(o, "--key", &p->keys);
	if (p->as) {
		json_out_str(o, NULL, "--as");
		put_bytes(o, p->as);
	}
	json_out_str(o, NULL, "--");
	for (int i = 0; i < run->nwords; i++)
		put_bytes(o, run->words[i]);
	json_out_end_array(o);
}

static void put_process(const struct inside_run *run, struct json_out *o)
{
	static const char *const sets[] = {"bounding", "effective", "permitted"};
	const char *term = getenv("TERM");

	json_out_object(o, "process");
	json_out_bool(o, "terminal", run->terminal);
	json_out_object(o, "user");
	json_out_u64(o, "uid", 0);
	json_out_u64(o, "gid", 0);
	json_out_end_object(o);
	put_args(run, o);
	json_out_array(o, "env");
	json_out_str(o, NULL, "PATH=/usr/sbin:/usr/bin:/sbin:/bin");
	json_out_str(o, NULL, "HOME=/tmp");
	json_out_str(o, NULL, "LC_ALL=C.UTF-8");
	/*
	 * This variable makes device mapper make its device nodes itself, because no udev runs in
	 * the guest.
	 */
	json_out_str(o, NULL, "DM_DISABLE_UDEV=1");
	_cleanup_strbuf_ struct strbuf t = {0};
	if (term && strbuf_addf(&t, "TERM=%s", term) >= 0)
		json_out_str(o, NULL, strbuf_str(&t));
	json_out_end_array(o);
	json_out_str(o, "cwd", "/");
	json_out_object(o, "capabilities");
	for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
		put_strings(o, sets[i], capabilities, ARRAY_SIZE(capabilities));
	json_out_end_object(o);
	json_out_end_object(o);
}

void inside_put_namespaces(struct json_out *o)
{
	static const char *const namespaces[] = {"pid", "network", "ipc", "uts", "mount"};

	json_out_array(o, "namespaces");
	for (size_t i = 0; i < ARRAY_SIZE(namespaces); i++) {
		json_out_object(o, NULL);
		json_out_str(o, "type", namespaces[i]);
		json_out_end_object(o);
	}
	json_out_end_array(o);
}

static void put_linux(struct json_out *o)
{
	json_out_object(o, "linux");
	inside_put_namespaces(o);
	json_out_object(o, "resources");
	json_out_array(o, "devices");
	json_out_object(o, NULL);
	json_out_bool(o, "allow", true);
	json_out_str(o, "access", "rwm");
	json_out_end_object(o);
	json_out_end_array(o);
	json_out_end_object(o);
	json_out_end_object(o);
}

static int put_machine(
	const struct inside_run *run, struct json_out *o, const struct guest_kernel *k)
{
	uint64_t memory = MEMORY_DEFAULT;

	int r = inside_memory(run->options->memory, &memory);
	if (r < 0)
		return r;
	if (memory <= k->memory_end)
		return err_set(EFBIG,
			"--memory: %llu bytes: the kernel %s needs %llu, and its initramfs needs "
			"more: give the microVM more",
			(unsigned long long)memory, k->path, (unsigned long long)k->memory_end);
	json_out_object(o, "vm");
	json_out_object(o, "kernel");
	json_out_str(o, "path", k->path);
	json_out_end_object(o);
	json_out_object(o, "image");
	json_out_str(o, "path", run->disk);
	json_out_str(o, "format", run->format);
	json_out_end_object(o);
	json_out_object(o, "hwConfig");
	json_out_u64(o, "memory", memory);
	json_out_end_object(o);
	json_out_end_object(o);
	json_out_object(o, "annotations");
	json_out_str(o, "io.caisson.vm.image.use", "disk");
	json_out_str(o, "io.caisson.vm.image.snapshot", run->write ? "false" : "true");
	if (run->options->backing)
		json_out_str(o, "io.caisson.vm.image.backing", run->options->backing);
	if (run->options->image_key) {
		_cleanup_free_ char *key = realpath(run->options->image_key, NULL);
		if (!key)
			return err_sys("--image-key %s", run->options->image_key);
		json_out_str(o, "io.caisson.vm.image.key", key);
	}
	json_out_end_object(o);
	return 0;
}

static int write_config(
	const struct inside_run *run, int dir, int root, const struct guest_kernel *k)
{
	_cleanup_json_out_ struct json_out o = {0};
	const char *text;
	size_t len;

	int r = json_out_init(&o, true);
	if (r < 0)
		return r;
	json_out_object(&o, NULL);
	json_out_str(&o, "ociVersion", "1.0.2");
	json_out_object(&o, "root");
	json_out_str(&o, "path", "rootfs");
	json_out_bool(&o, "readonly", true);
	json_out_end_object(&o);
	json_out_str(&o, "hostname", "inside");
	put_process(run, &o);
	put_linux(&o);
	r = put_mounts(run, &o, root, k);
	if (r >= 0)
		r = put_machine(run, &o, k);
	json_out_end_object(&o);
	if (r >= 0)
		r = json_out_text(&o, &text, &len);
	return r < 0 ? r : fd_replace_file(dir, "config.json", text, len, 0600);
}

static int fill_bundle(struct arena *a, const struct inside_run *run, const char *path)
{
	const struct guest_kernel_request q = {.kernel = run->options->kernel,
		.field = run->options->kernel_option ? run->options->kernel_option : "--kernel",
		.distribution = true};
	_cleanup_guest_kernel_ struct guest_kernel k = GUEST_KERNEL_INIT;
	_cleanup_free_ char *kernel = NULL;

	int r = guest_kernel_find(a, &q, &k);
	if (r < 0)
		return r;
	kernel = realpath(k.path, NULL);
	_cleanup_free_ char *modules = k.modules ? realpath(k.modules, NULL) : NULL;
	if (!kernel || (k.modules && !modules))
		return err_sys("%s", kernel ? k.modules : k.path);
	k.path = kernel;
	k.modules = modules;
	_cleanup_fd_ int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || mkdirat(dir, "rootfs", 0755) < 0)
		return err_sys("create %s/rootfs", path);
	_cleanup_fd_ int root = openat(dir, "rootfs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < ARRAY_SIZE(made); i++)
		if (root < 0 || mkdirat(root, made[i], 0755) < 0)
			return err_sys("create %s/rootfs/%s", path, made[i]);
	return write_config(run, dir, root, &k);
}

int inside_make_bundle(struct arena *a, const struct inside_run *run, struct inside_bundle *ret)
{
	int r = inside_begin(a, run, ret);

	if (r < 0)
		return r;
	r = fill_bundle(a, run, ret->path);
	if (r < 0)
		inside_remove_bundle(ret->path);
	return r;
}

void inside_remove_bundle(const char *path)
{
	char message[ERR_MAX];
	_cleanup_fd_ int folder = -EBADF;
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *above = strndup(path, (size_t)(slash - path) + (slash == path));

	/*
	 * Keeps the error message that is set, because the caller removes the bundle after a
	 * failure.
	 */
	snprintf(message, sizeof(message), "%s", err_msg());
	folder = above ? open(above, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	if (folder >= 0 && remove_tree(folder, slash + 1, NULL) < 0)
		fd_say(STDERR_FILENO, "caisson disk", err_msg());
	err_set(EIO, "%s", message);
}

size_t inside_begin_words(const char **words)
{
	const char *state = getenv(STATE_VARIABLE);

	words[0] = getenv(RUNTIME_VARIABLE);
	if (!words[0] || !state)
		return words[0] != NULL;
	words[1] = "--root";
	words[2] = state;
	return 3;
}

int inside_become_run(struct arena *a, const struct inside_run *run, const struct inside_bundle *b)
{
	const char *words[WORDS_MAX];
	size_t n = inside_begin_words(words);

	if (n == 0)
		return err_set(EINVAL, "this program is executed by `caisson disk`");
	const char *const rest[] = {
		"run", "--isolation", "vm", "--bundle", b->path, "--remove-bundle"};
	for (size_t i = 0; i < ARRAY_SIZE(rest); i++)
		words[n++] = rest[i];
	if (run->options->hypervisor) {
		words[n++] = "--hypervisor";
		words[n++] = run->options->hypervisor;
	}
	words[n++] = b->id;
	words[n] = NULL;
	execv(words[0], (char *const *)words);
	return err_sys("execute %s", words[0]);
}

int inside_execute(struct arena *a, const struct inside_run *run)
{
	struct inside_bundle b;
	int r = inside_make_bundle(a, run, &b);

	if (r < 0)
		return r;
	r = inside_become_run(a, run, &b);
	inside_remove_bundle(b.path);
	return r;
}
