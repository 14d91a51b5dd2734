/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `caisson disk serve`: a process that serves one image to one virtual machine, over vhost-user.
 *
 * Theory of operation
 *
 * The guest may have written anything into an image file, even into the tables of its format if the
 * guest ever had the file as a raw disk. Therefore neither the monitor nor QEMU parses the format.
 * Only this process parses the format, and the process has no rights.
 *
 * The monitor starts the process as root, with a connected socket. The process opens the image and
 * its backing files and locks them. It enters its jail: an empty root directory, the monitor's
 * user, no capability, Landlock, and a list of system calls. Then it prints "ready" on its standard
 * output, or the reason why it failed. It serves each queue in a thread (vhost/back.h) until the
 * monitor and QEMU have closed the socket. At the end it writes to the file what it still holds in
 * memory.
 *
 * A second socket to the monitor has the messages of vm/virtio/blk_control.h: the process tells the
 * monitor that it holds requests after an error, and the monitor tells it to serve them again. The
 * monitor pauses the machine in the meantime. The last message says whether all that the guest
 * wrote is in the image.
 */
#include <malloc.h>
#include <seccomp.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "disk/served.h"
#include "disk/tool.h"
#include "jail/jail.h"
#include "vm/vhost/back.h"

/*
 * how many descriptors the process may have, for backing files, guest memory, kicks and interrupts
 */
#define FILES_MAX 512
#define HEAPS_MAX 4 /* how many heaps the C library makes for the threads of this process */

struct serve {
	struct tool_image image;
	struct served served;
	struct virtio_blk blk;
	bool read_only, write_through;
	/* whether the guest writes into a temporary overlay, and not into the image */
	bool snapshot;
	const char *serial;
	struct tool_key key;
	int socket, queues, user;
	int control; /* socket for the messages of vm/virtio/blk_control.h; -1: there is none */
	const char *werror, *rerror;
};

/*
 * The system calls that `caisson disk serve` may make while it serves, grouped by the code that
 * makes them.
 */
static const int allowed[] = {
	/* calls by vm/vhost and vm/virtio, for the socket, guest memory, kicks and interrupts */
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(close),
	SCMP_SYS(eventfd2),
	SCMP_SYS(munmap),
	/* calls by images/disk, for the image and its backing files */
	SCMP_SYS(pread64),
	SCMP_SYS(pwrite64),
	SCMP_SYS(preadv),
	SCMP_SYS(pwritev),
	SCMP_SYS(fallocate),
	SCMP_SYS(fdatasync),
	SCMP_SYS(ftruncate),
	SCMP_SYS(lseek),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(clock_gettime),
	/* calls by the C library, for memory, threads, abort() and exit */
	SCMP_SYS(brk),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(futex),
	SCMP_SYS(getrandom),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(gettid),
	SCMP_SYS(getpid),
	SCMP_SYS(tgkill),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	/*
	 * calls by vm/vhost, for the flags of kicks (vhost/back_requests.c) and the seals of guest
	 * memory
	 */
	SCMP_SYS(fcntl),
};

/*
 * Tells the monitor that the device holds requests. Each thread that serves a queue may call this.
 */
static void tell_held(void *ctx, int error, bool write)
{
	const struct serve *s = ctx;
	const struct blk_message m = {.type = BLK_HELD, .write = write, .error = error};

	/*
	 * Ignores an error, because the monitor has ended if the message cannot be sent, and this
	 * process then ends too.
	 */
	(void)!send(s->control, &m, sizeof(m), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/*
 * Makes the disk larger, and tells the driver and the monitor. No thread serves a queue meanwhile.
 */
static void resize(struct serve *s, uint64_t size)
{
	struct blk_message answer = {.type = BLK_RESIZED};
	struct disk *d = s->image.disk;
	int r = 0;

	if (!disk_writable(d) || s->snapshot)
		r = err_set(EROFS, "%s: what the guest writes does not go into it", disk_name(d));
	else if (size < disk_size(d))
		r = err_set(EINVAL, "%s has %llu bytes: expected more, not %llu", disk_name(d),
			(unsigned long long)disk_size(d), (unsigned long long)size);
	if (r >= 0)
		r = disk_resize(d, size);
	if (r >= 0)
		r = disk_flush(d);
	if (r >= 0) {
		s->served.image.size = disk_size(d);
		virtio_blk_resized(&s->blk);
	}
	answer.error = r < 0 ? -r : 0;
	snprintf(answer.why, sizeof(answer.why), "%s", r < 0 ? err_msg() : "");
	(void)!send(s->control, &answer, sizeof(answer), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/*
 * Writes to the image what this process still holds in memory, and tells the monitor whether that
 * succeeded. What the guest wrote to a temporary overlay is dropped instead.
 */
static int finish(const struct serve *s)
{
	struct blk_message m = {.type = BLK_ENDED};
	int r = s->snapshot ? 0 : disk_flush(s->image.disk);

	m.error = r < 0 ? -r : 0;
	snprintf(m.why, sizeof(m.why), "%s", r < 0 ? err_msg() : "");
	/* If the message cannot be sent, the monitor has ended, and does not need it. */
	if (s->control >= 0)
		(void)!send(s->control, &m, sizeof(m), MSG_NOSIGNAL | MSG_DONTWAIT);
	return r;
}

static void on_control(void *ctx)
{
	struct serve *s = ctx;
	struct blk_message m;
	ssize_t n = read(s->control, &m, sizeof(m));

	if (n == 0)
		s->blk.dev.event_fd = -EBADF;
	if (n == (ssize_t)sizeof(m) && m.type == BLK_RETRY)
		virtio_blk_retry(&s->blk);
	if (n == (ssize_t)sizeof(m) && m.type == BLK_RESIZE)
		resize(s, m.size);
}

/* Reads the value of the option --`name`, which says what happens after an error of the image. */
static int parse_policy(const char *name, const char *text, enum blk_on_error *ret)
{
	static const char *const names[] = {[BLK_ERROR_REPORT] = "report",
		[BLK_ERROR_STOP] = "stop",
		[BLK_ERROR_ENOSPC] = "enospc"};

	for (size_t i = 0; text && i < ARRAY_SIZE(names); i++)
		if (streq(text, names[i])) {
			*ret = (enum blk_on_error)i;
			return 0;
		}
	return text ? err_set(EINVAL, "serve: --%s %s: expected report, stop or enospc", name, text)
		    : 0;
}

static int enter_jail(const struct serve *s)
{
	/*
	 * The number of heaps is set here, because the C library would otherwise compute it from
	 * the number of processors, which it reads from a file that the jail hides.
	 */
	mallopt(M_ARENA_MAX, HEAPS_MAX);
	int r = jail_limit(FILES_MAX);
	if (r >= 0)
		r = jail_empty_root();
	if (r >= 0)
		r = jail_drop_rights((uid_t)s->user);
	if (r >= 0)
		r = jail_landlock(false);
	if (r >= 0)
		r = jail_filter_calls(
			allowed, ARRAY_SIZE(allowed), JAIL_MEMORY | JAIL_THREADS_OF_C);
	return r < 0 ? err_ctx(r, "the jail of `caisson disk serve`") : 0;
}

/*
 * Fills *c with the encryption of the temporary overlay of an encrypted image, so that what the
 * guest writes is not stored in plain text on the host. The key is random and is forgotten when
 * this process ends, because nobody needs the overlay then.
 */
static int encrypt_overlay(struct luks_create *c, char *text, size_t size, struct disk_key *key)
{
	uint8_t random[32];

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return err_sys("get random numbers");
	for (size_t i = 0; i < sizeof(random) && i * 2 + 2 < size; i++)
		snprintf(text + i * 2, size - i * 2, "%02x", random[i]);
	explicit_bzero(random, sizeof(random));
	*key = (struct disk_key){(const uint8_t *)text, strlen(text)};
	*c = (struct luks_create){
		.mode = LUKS_XTS_PLAIN64, .hash = LUKS_SHA256, .key_bytes = 64, .key = key};
	return 0;
}

/*
 * Puts a temporary overlay over the image. The overlay takes what the guest writes. The overlay's
 * file has no name, so the kernel removes it when this process ends.
 */
static int add_overlay(struct serve *s)
{
	const char *folder = getenv("TMPDIR") ?: "/var/tmp";
	struct disk *image = s->image.disk, *overlay;
	struct luks_create luks;
	struct disk_key key = {0};
	char text[65];
	struct qcow2_create create = {.name = "the temporary overlay",
		.size = disk_size(image),
		.version = 3,
		.backing = "image",
		.backing_format = disk_format_name(image),
		.compression = QCOW2_ZLIB};

	_cleanup_fd_ int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(
			"make a temporary file in %s (TMPDIR names another directory)", folder);
	int r = 0;
	if (s->key.file) {
		create.encrypt = &luks;
		r = encrypt_overlay(&luks, text, sizeof(text), &key);
	}
	if (r >= 0)
		r = qcow2_create(fd, &create);
	if (r >= 0)
		r = disk_open(&overlay, take_fd(&fd),
			&(struct disk_options){.format = "qcow2",
				.name = create.name,
				.write = true,
				.unsafe = true,
				.key = s->key.file ? &key : NULL,
				.below = image});
	explicit_bzero(text, sizeof(text));
	if (r >= 0)
		s->image.disk = overlay;
	return r;
}

static int prepare(struct serve *s)
{
	s->image.write = !s->read_only && !s->snapshot;
	int r = tool_key_load(&s->key, "--key", &s->image.key);
	if (r >= 0)
		r = tool_open(&s->image);
	if (r >= 0 && s->snapshot)
		r = add_overlay(s);
	/*
	 * The bytes of the image's passphrase are wiped before the guest's requests are served,
	 * because they are needed only to open the image.
	 */
	tool_key_release(&s->key);
	s->image.key = NULL;
	if (r >= 0)
		r = served_init(&s->served, s->image.disk);
	struct virtio_blk_options o = {.serial = s->serial ? s->serial : "",
		.queues = (unsigned)s->queues,
		.write_through = s->write_through};
	if (s->control >= 0) {
		o.errors = (struct blk_errors){.held = tell_held, .ctx = s};
		o.event_fd = s->control;
		o.event = on_control;
		o.event_ctx = s;
	}
	if (r >= 0)
		r = parse_policy("werror", s->werror, &o.errors.write);
	if (r >= 0)
		r = parse_policy("rerror", s->rerror, &o.errors.read);
	if (r >= 0)
		r = virtio_blk_init(&s->blk, NULL, &s->served.image, &o);
	return r < 0 ? r : enter_jail(s);
}

/* Prints on standard output that the image is served, or why the image is not served. */
static int answer(int r)
{
	const char *text = r < 0 ? err_msg() : "ready";

	int sent = program_print(text, strlen(text));
	(void)close(STDOUT_FILENO);
	return r < 0 ? r : sent;
}

int tool_serve(const struct tool_command *self, int argc, char **argv)
{
	struct serve s = {
		.image = {TOOL_IMAGE_INIT}, .socket = -1, .control = -1, .user = -1, .queues = 1};
	const struct option_def options[] = {
		{"format", 'f', OPTION_STRING, &s.image.format, "FORMAT", "the image's format"},
		TOOL_OPTIONS_BACKING(s.image),
		TOOL_OPTION_KEY(s.key),
		{"socket", 0, OPTION_COUNT, &s.socket, "N", "descriptor of the socket"},
		{"control", 0, OPTION_COUNT, &s.control, "N",
			"descriptor of the socket for control"},
		{"werror", 0, OPTION_STRING, &s.werror, "POLICY",
			"after an error of writing: report, stop or enospc"},
		{"rerror", 0, OPTION_STRING, &s.rerror, "POLICY",
			"after an error of reading: report, stop or enospc"},
		{"user", 0, OPTION_COUNT, &s.user, "UID", "the user that it becomes"},
		{"queues", 0, OPTION_COUNT, &s.queues, "N", "number of queues, with a thread each"},
		{"serial", 0, OPTION_STRING, &s.serial, "TEXT", "serial number of the disk"},
		{"read-only", 'r', OPTION_FLAG, &s.read_only, NULL, "open the image read-only"},
		{"write-through", 0, OPTION_FLAG, &s.write_through, NULL,
			"the disk has no write cache"},
		{"snapshot", 0, OPTION_FLAG, &s.snapshot, NULL,
			"keep what is written in a temporary overlay, and drop it at the end"},
		{0},
	};
	int n, r = tool_parse(self, options, argc, argv, &n, 1, 1);

	if (r)
		return r < 0 ? r : 0;
	if (s.socket < 3 || s.user <= 0)
		return err_set(EINVAL, "serve: expected --socket with a number of 3 or more, and "
				       "--user with a user other than root");
	s.image.path = argv[0];
	r = answer(prepare(&s));
	if (r >= 0) {
		r = vhost_serve_threads(&s.blk.dev, s.socket, -EBADF);
		int flushed = finish(&s);
		r = flushed < 0 ? flushed : r;
	}
	virtio_blk_release(&s.blk);
	tool_image_release(&s.image);
	return r;
}
