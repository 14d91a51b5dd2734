/* SPDX-License-Identifier: Apache-2.0 */
#include "images/guest/guest_kernel.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/utsname.h>

#include "base/fd.h"
#include "base/log.h"
#include "images/guest/guest_initramfs.h"
#include "images/guest/kernel_image.h"
#include "images/guest/modules.h"

/* largest configuration file in bytes; Debian's has 260 thousand bytes */
#define MAX_CONFIG (1024 * 1024)
#define MAX_CANDIDATES 64 /* how many files in /boot are examined */

/*
 * Lists the modules that the guest needs: the name of the module, the option that builds it into
 * the kernel, and its purpose. The modules that these depend on are loaded too (virtio_ring, vsock,
 * fuse, mbcache and others).
 */
static const struct {
	const char *module;
	/*
	 * configuration option that builds the module in; NULL: the module is packed if the kernel
	 * has it, but is not required
	 */
	const char *option;
	const char *what;
} needs[] = {
	{"virtio_mmio", "CONFIG_VIRTIO_MMIO", "the bus of all its devices"},
	{"virtiofs", "CONFIG_VIRTIO_FS", "virtio-fs, its root file system"},
	{"vmw_vsock_virtio_transport", "CONFIG_VIRTIO_VSOCKETS", "vsock, the way to its init"},
	{"virtio_console", "CONFIG_VIRTIO_CONSOLE", "its console"},
	{"virtio_blk", "CONFIG_VIRTIO_BLK", "disk images"},
	{"virtio_net", "CONFIG_VIRTIO_NET", "network interfaces"},
	{"virtio_rng", "CONFIG_HW_RANDOM_VIRTIO", "entropy"},
	{"virtio_balloon", "CONFIG_VIRTIO_BALLOON", "giving memory back"},
	{"overlay", "CONFIG_OVERLAY_FS", "overlay file systems"},
	{"ext4", "CONFIG_EXT4_FS", "disk images of that file system"},
	/*
	 * ext4 requests crc32c_generic and crc32c_intel from the crypto layer by name. Since Linux
	 * 6.14 the code of both modules is in a library, so newer kernels lack the modules.
	 */
	{"crc32c_generic", NULL, NULL},
	{"crc32c_intel", NULL, NULL},
	{"erofs", NULL, NULL},
	/* the driver of VMClock (vm/vmclock.h) since Linux 6.13 */
	{"ptp_vmclock", NULL, NULL},
	{"virtio_mem", NULL, NULL},
};

/* A kernel that was examined, and how its modules are to be packed. */
struct found {
	struct guest_kernel k;
	enum kernel_format format;
	/* descriptor of the directory with the kernel's modules; -EBADF: the kernel needs none */
	int modules_dir;
	const char *modules_path;
	struct module_list modules;
	bool unpack;
};

#define FOUND_INIT \
	{ \
		.k = GUEST_KERNEL_INIT, .modules_dir = -EBADF \
	}

static void found_release(struct found *f)
{
	guest_kernel_release(&f->k);
	fd_close(&f->modules_dir);
}
#define _cleanup_found_ __attribute__((cleanup(found_release), unused))

void guest_kernel_release(struct guest_kernel *k)
{
	fd_close(&k->kernel);
	fd_close(&k->initramfs);
}

/* Returns the directory part of a path, or "." if the path contains no directory. */
static char *directory_of(struct arena *a, const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		return arena_strdup(a, ".");
	return arena_strndup(a, path, slash == path ? 1 : (size_t)(slash - path));
}

/* Reads the kernel's configuration. Returns 1, or 0 if there is no configuration file. */
static int read_config(struct arena *a, const char *root, const struct found *f, struct strbuf *ret)
{
	const char *release = f->k.release;
	const char *dir = directory_of(a, f->k.path);
	const char *places[5];

	if (!dir)
		return -ENOMEM;
	places[0] = arena_printf(a, "%s/config-%s", dir, release);
	places[1] = arena_printf(a, "%s/config", dir);
	places[2] = arena_printf(a, "%s/boot/config-%s", root, release);
	places[3] = arena_printf(a, "%s/lib/modules/%s/config", root, release);
	places[4] = arena_printf(a, "%s/usr/lib/modules/%s/config", root, release);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		if (!places[i])
			return -ENOMEM;
		_cleanup_fd_ int fd = open(places[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (fd < 0)
			continue;
		int r = fd_read_all(fd, ret, MAX_CONFIG, places[i]);
		return r < 0 ? r : 1;
	}
	return 0;
}

static bool config_has(const struct strbuf *config, const char *option)
{
	size_t len = strlen(option);

	for (const char *line = strbuf_str(config); *line;) {
		if (strncmp(line, option, len) == 0 && strncmp(line + len, "=y", 2) == 0 &&
			(line[len + 2] == '\n' || !line[len + 2]))
			return true;
		line += strcspn(line, "\n");
		line += *line == '\n';
	}
	return false;
}

static int err_lacks(const struct found *f, size_t need, const char *found)
{
	return err_set(EOPNOTSUPP,
		"%s (%s) can't be the guest's kernel: it has no %s (%s, %s; %s): install a kernel "
		"that has it, or build caisson's with images/kernel/build",
		f->k.path, f->k.release, needs[need].module, needs[need].option, needs[need].what,
		found);
}

static int check_config(const struct found *f, const struct strbuf *config)
{
	for (size_t i = 0; i < ARRAY_SIZE(needs); i++)
		if (needs[i].option && !config_has(config, needs[i].option))
			return err_lacks(f, i,
				"its configuration does not have it built in, and there are no "
				"modules of this release");
	return 0;
}

/*
 * Opens the directory of the kernel's modules as f->modules_dir, which stays -EBADF if there is no
 * such directory.
 */
static int find_modules_dir(struct arena *a, const char *root, struct found *f)
{
	const char *release = f->k.release;
	const char *dir = directory_of(a, f->k.path);
	const char *places[3];

	if (!dir)
		return -ENOMEM;
	places[0] = arena_printf(a, "%s/modules/%s", dir, release);
	places[1] = arena_printf(a, "%s/lib/modules/%s", root, release);
	places[2] = arena_printf(a, "%s/usr/lib/modules/%s", root, release);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		if (!places[i])
			return -ENOMEM;
		f->modules_dir = open(places[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
		f->modules_path = places[i];
		if (f->modules_dir >= 0)
			return 0;
	}
	return 0;
}

/*
 * Decides whether caisson must decompress the modules because the kernel cannot do it. A kernel
 * before 6.2 can decompress only the format of CONFIG_MODULE_COMPRESS_*, which is the format of its
 * own modules.
 */
static int check_packing(struct arena *a, const char *root, struct found *f)
{
	_cleanup_strbuf_ struct strbuf config = {0};
	bool packed = false;

	for (size_t i = 0; i < f->modules.n; i++)
		packed |= f->modules.v[i]->packing != MODULE_PLAIN;
	if (!packed)
		return 0;
	int r = read_config(a, root, f, &config);
	f->unpack = r == 0 || (r > 0 && !config_has(&config, "CONFIG_MODULE_DECOMPRESS"));
	return r < 0 ? r : 0;
}

static int check_modules(struct arena *a, const char *root, struct found *f)
{
	const char *wanted[ARRAY_SIZE(needs)];
	const struct modules *m;
	size_t n = 0;
	int r = modules_load(a, f->modules_dir, f->modules_path, &m);

	if (r < 0)
		return err_ctx(r, "modules of %s", f->k.path);
	for (size_t i = 0; i < ARRAY_SIZE(needs); i++) {
		if (modules_find(m, needs[i].module))
			wanted[n++] = needs[i].module;
		else if (needs[i].option)
			return err_lacks(f, i,
				arena_printf(a,
					"neither in modules.dep nor in modules.builtin of %s",
					f->modules_path));
	}
	r = modules_resolve(a, m, wanted, n, &f->modules);
	return r < 0 ? err_ctx(r, "modules of %s", f->k.path) : check_packing(a, root, f);
}

/*
 * Opens a kernel file and reads its format and release, without examining its modules. `field` is
 * where the user can name a kernel, and `named` says whether the user has named this one there.
 */
static int open_image(
	struct arena *a, const char *path, const char *field, bool named, struct found *ret)
{
	const char *said_by = named ? arena_printf(a, "%s: ", field) : "";
	struct kernel_image image;

	if (!said_by)
		return -ENOMEM;
	ret->k.path = path;
	ret->k.kernel = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (ret->k.kernel < 0 && errno == EACCES)
		return err_set(EACCES,
			"%skernel %s may not be read by user %u: allow it (chmod a+r), or name "
			"another kernel with %s",
			said_by, path, (unsigned)geteuid(), field);
	if (ret->k.kernel < 0)
		return err_sys("%skernel %s", said_by, path);
	int r = kernel_image_read(a, ret->k.kernel, path, &image);
	if (r < 0)
		return named ? err_ctx(r, "%s", field) : r;
	ret->format = image.format;
	ret->k.release = image.release;
	ret->k.memory_end = image.memory_end;
	ret->k.tuned = str_ends(image.release, GUEST_KERNEL_SUFFIX);
	return 0;
}

/*
 * Checks that the guest can run on this kernel. A kernel that has neither modules nor a
 * configuration, from which its abilities could be seen, is accepted only if `trusted` is set.
 */
static int check_kernel(struct arena *a, const char *root, struct found *f, bool trusted)
{
	_cleanup_strbuf_ struct strbuf config = {0};
	int r = find_modules_dir(a, root, f);

	if (r < 0)
		return r;
	if (f->modules_dir >= 0) {
		f->k.modules = f->modules_path;
		return check_modules(a, root, f);
	}
	r = read_config(a, root, f, &config);
	if (r < 0)
		return r;
	if (r > 0)
		return check_config(f, &config);
	if (trusted) {
		log_debug("%s: neither modules nor a configuration of %s: it is used unchecked",
			f->k.path, f->k.release);
		return 0;
	}
	return err_set(EOPNOTSUPP,
		"%s can't be the guest's kernel: there are no modules for it in /lib/modules/%s "
		"(install the package they are in)",
		f->k.path, f->k.release);
}

/*
 * Looks for the kernel that images/kernel/build has installed. Returns 1 if that kernel is there
 * and the guest can run on it, 0 if it is not there, or an error if the guest cannot run on it.
 */
static int find_installed(struct arena *a, const char *root, const char *field, struct found *ret)
{
	static const char *const dirs[] = {CAISSON_PREFIX "/lib/caisson/kernel",
		"/usr/local/lib/caisson/kernel", "/usr/lib/caisson/kernel"};

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		const char *path = arena_printf(a, "%s%s/vmlinux", root, dirs[i]);

		if (!path)
			return -ENOMEM;
		if (access(path, F_OK) < 0)
			continue;
		int r = open_image(a, path, field, false, ret);
		if (r == 0)
			r = check_kernel(a, root, ret, false);
		return r < 0 ? err_ctx(r, "the installed caisson kernel") : 1;
	}
	return 0;
}

struct candidates {
	struct found v[MAX_CANDIDATES];
	size_t n;
	char running[sizeof(((struct utsname *)0)->release)];
	const char *field; /* where the user can name a kernel, for error messages */
};

static int by_preference(const void *x, const void *y, void *running)
{
	const struct found *a = x, *b = y;
	bool ra = streq(a->k.release, running), rb = streq(b->k.release, running);

	return ra != rb ? rb - ra : strverscmp(b->k.release, a->k.release);
}

/*
 * Lists all kernels in /boot. Skips files that are no kernel, such as signatures, and stores the
 * reason in *problem.
 */
static int list_boot(struct arena *a, const char *root, struct candidates *c, const char **problem)
{
	const char *dir = arena_printf(a, "%s/boot", root);
	struct dirent *e;
	int r = 0;

	if (!dir)
		return -ENOMEM;
	DIR *d = opendir(dir);
	if (!d)
		return errno == ENOENT || errno == EACCES ? 0 : err_sys("open %s", dir);
	while (r == 0 && c->n < MAX_CANDIDATES && (e = readdir(d))) {
		struct found *f = &c->v[c->n];

		if (!str_starts(e->d_name, "vmlinuz-"))
			continue;
		*f = (struct found)FOUND_INIT;
		const char *path = arena_printf(a, "%s/%s", dir, e->d_name);
		if (!path) {
			r = -ENOMEM;
		} else if (open_image(a, path, c->field, false, f) == 0) {
			c->n++;
		} else {
			*problem = arena_strdup(a, err_msg());
			found_release(f);
			r = *problem ? 0 : -ENOMEM;
		}
	}
	closedir(d);
	return r;
}

static int err_none_found(const char *problem, const char *field)
{
	return err_set(ENOENT,
		"no kernel for the guest: install one with \"apt-get install linux-image-amd64\" "
		"(or linux-image-cloud-amd64), or build caisson's with images/kernel/build, or "
		"name one with %s; found %s%s",
		field,
		problem ? "only: "
			: "neither " CAISSON_PREFIX "/lib/caisson/kernel/vmlinux nor "
			  "/boot/vmlinuz-*",
		problem ? problem : "");
}

/*
 * Finds the best of the host's own kernels. If no kernel is usable, returns the error of the kernel
 * that would have been preferred.
 */
static int find_in_boot(struct arena *a, const char *root, const char *field, struct found *ret)
{
	struct candidates *c = arena_alloc(a, sizeof(*c));
	const char *problem = NULL, *unfit = NULL;
	struct utsname uts;
	bool done = false;

	if (!c)
		return -ENOMEM;
	c->field = field;
	if (uname(&uts) == 0)
		memcpy(c->running, uts.release, sizeof(c->running));
	int r = list_boot(a, root, c, &problem);
	qsort_r(c->v, c->n, sizeof(c->v[0]), by_preference, c->running);
	for (size_t i = 0; i < c->n; i++) {
		if (r == 0 && !done) {
			done = check_kernel(a, root, &c->v[i], false) == 0;
			if (!done && !unfit)
				unfit = arena_strdup(a, err_msg());
			if (done) {
				*ret = c->v[i];
				c->v[i] = (struct found)FOUND_INIT;
			}
		}
		found_release(&c->v[i]);
	}
	if (r < 0)
		return r;
	return done ? 0 : err_none_found(unfit ? unfit : problem, field);
}

static int find_kernel(struct arena *a, const struct guest_kernel_request *q, struct found *ret)
{
	const char *root = q->root ? q->root : "";
	const char *field = q->field ? q->field : "vm.kernel.path";
	int r;

	if (q->kernel) {
		r = open_image(a, q->kernel, field, true, ret);
		return r < 0 ? r : check_kernel(a, root, ret, true);
	}
	if (q->distribution && find_in_boot(a, root, field, ret) >= 0)
		return 0;
	r = find_installed(a, root, field, ret);
	if (r == 0)
		r = find_in_boot(a, root, field, ret);
	if (r >= 0)
		/* err_clear() drops the error messages about kernels that were skipped */
		err_clear();
	return r < 0 ? r : 0;
}

static struct guest_kernel take_kernel(struct found *f)
{
	struct guest_kernel k = f->k;

	f->k = (struct guest_kernel)GUEST_KERNEL_INIT;
	return k;
}

int guest_kernel_find(
	struct arena *a, const struct guest_kernel_request *q, struct guest_kernel *ret)
{
	_cleanup_found_ struct found f = FOUND_INIT;
	int r = find_kernel(a, q, &f);

	if (r < 0)
		return r;
	*ret = take_kernel(&f);
	return 0;
}

int guest_kernel_open(
	struct arena *a, const struct guest_kernel_request *q, struct guest_kernel *ret)
{
	_cleanup_found_ struct found f = FOUND_INIT;
	int r = find_kernel(a, q, &f);

	if (r < 0)
		return r;
	r = guest_initramfs_open(a, &(struct guest_initramfs){
					    .release = f.k.release,
					    .init = q->init,
					    .initrd = q->initrd,
					    .cache = q->cache,
					    .modules_dir = f.modules_dir,
					    .modules_path = f.modules_path,
					    .modules = f.modules,
					    .unpack = f.unpack,
				    });
	if (r < 0)
		return r;
	f.k.initramfs = r;
	*ret = take_kernel(&f);
	return 0;
}
