/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/memory.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define HUGE_PAGE (UINT64_C(2) << 20)
#define RAM_NAME "caisson-guest-ram" /* name of the guest's RAM in /proc/PID/maps */

static int check_options(const struct vm_memory_options *o)
{
	if (o->size < VM_MEMORY_MIN || o->size > VM_MEMORY_MAX || o->size % HUGE_PAGE)
		return err_set(EINVAL,
			"guest memory of %" PRIu64
			" bytes: expected a multiple of 2 MiB from %" PRIu64 " MiB to %" PRIu64
			" MiB",
			o->size, VM_MEMORY_MIN >> 20, VM_MEMORY_MAX >> 20);
	if (o->hot > VM_MEMORY_MAX || o->hot % HUGE_PAGE ||
		(o->hot && o->pages == VM_PAGES_HUGETLB))
		return err_set(EINVAL,
			"guest memory that is added later, %" PRIu64
			" bytes: expected a multiple of 2 MiB up to %" PRIu64
			" MiB, and no reserved huge pages",
			o->hot, VM_MEMORY_MAX >> 20);
	if (o->mergeable && o->pages == VM_PAGES_HUGETLB)
		return err_set(EINVAL, "guest memory: the kernel cannot merge huge pages (KSM); "
				       "choose either merging or huge pages");
	if (!o->file)
		return 0;
	struct stat st;
	if (o->mergeable || o->pages == VM_PAGES_HUGETLB)
		return err_set(EINVAL, "guest memory from a file: it can be neither merged (KSM) "
				       "nor of reserved huge pages");
	if (fstat(o->file, &st) < 0)
		return err_sys("read the size of the file with guest memory");
	if (o->file_hot > o->hot || o->file_hot % HUGE_PAGE)
		return err_set(EINVAL,
			"guest memory from a file: it has %" PRIu64
			" bytes of memory that was added: expected a multiple of 2 MiB up to "
			"%" PRIu64,
			o->file_hot, o->hot);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < o->size + o->file_hot)
		return err_set(EBADMSG,
			"the file with guest memory has %" PRIu64 " bytes: expected %" PRIu64,
			S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0, o->size + o->file_hot);
	return 0;
}

/*
 * Opens a file for guest RAM in a new tmpfs that is not mounted anywhere and that gives huge pages
 * to mappings which ask for them. A memfd would lie in the kernel's own tmpfs, which gives no huge
 * pages unless the administrator has changed shmem_enabled. With small pages a guest's boot is
 * mostly page faults: 6400 of 8600 exits, against 19 with huge pages. Returns the descriptor, or
 * -errno without a message if this process may not mount; the caller then uses a memfd.
 */
static int open_in_tmpfs(uint64_t size)
{
	_cleanup_fd_ int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	char bytes[32];

	if (fs < 0)
		return -errno;
	snprintf(bytes, sizeof(bytes), "%" PRIu64, size);
	if (fsconfig(fs, FSCONFIG_SET_STRING, "huge", "advise", 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "size", bytes, 0) < 0 ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	_cleanup_fd_ int root = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	if (root < 0)
		return -errno;
	int fd = openat(root, RAM_NAME, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

static int open_memfd(bool hugetlb)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;

	if (hugetlb)
		flags |= MFD_HUGETLB | MFD_HUGE_2MB;
	int fd = memfd_create(RAM_NAME, flags);
	return fd < 0 ? err_sys("create guest memory%s", hugetlb ? " of 2 MiB huge pages" : "")
		      : fd;
}

static int open_ram(uint64_t size, enum vm_pages pages)
{
	_cleanup_fd_ int fd = pages == VM_PAGES_TRANSPARENT ? open_in_tmpfs(size) : -EBADF;
	bool sealable = fd < 0;

	if (fd < 0)
		fd = open_memfd(pages == VM_PAGES_HUGETLB);
	if (fd < 0)
		return fd;
	if (ftruncate(fd, (off_t)size) < 0)
		return err_sys("size guest memory to %" PRIu64 " MiB", size >> 20);
	/*
	 * Seals the size of the RAM's file, because a process that gets this descriptor could
	 * otherwise shrink the file and make accesses of this process fault.
	 */
	if (sealable && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return err_sys("seal the size of guest memory");
	return take_fd(&fd);
}

/*
 * Reserves `len` bytes of address space at a multiple of `unit`, with an inaccessible guard of at
 * least one unit on each side. An access outside the range then faults in the guard instead of
 * reaching the heap. Returns NULL and sets errno on failure.
 */
static uint8_t *reserve_range(uint64_t len, uint64_t unit, void **ret_map, size_t *ret_map_len)
{
	size_t map_len = len + 3 * unit;
	void *map =
		mmap(NULL, map_len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED)
		return NULL;
	*ret_map = map;
	*ret_map_len = map_len;
	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	return (uint8_t *)(((uintptr_t)map + 2 * unit - 1) & ~(uintptr_t)(unit - 1));
}

static int map_range(uint8_t *ram, uint64_t start, uint64_t end, int fd)
{
	const int flags = MAP_FIXED | MAP_PRIVATE | MAP_NORESERVE;

	return mmap(ram + start, end - start, PROT_READ | PROT_WRITE, flags, fd, (off_t)start) ==
			       MAP_FAILED
		       ? err_sys("map the file with guest memory")
		       : 0;
}

/*
 * Maps those parts of the file that have data over the anonymous memory at `ram`, in units of 2
 * MiB. The holes of the file stay anonymous memory, because the kernel would fill a hole with a
 * page of the page cache before it copies this page, and has no huge pages for it.
 */
static int map_file(uint8_t *ram, uint64_t size, int fd)
{
	const uint64_t unit = HUGE_PAGE - 1;
	uint64_t start = 0, end = 0; /* the range that is to be mapped next */

	for (;;) {
		off_t data = lseek(fd, (off_t)end, SEEK_DATA);
		if (data < 0 && errno != ENXIO)
			return map_range(ram, 0, size, fd);
		uint64_t from = data < 0 ? size : (uint64_t)data & ~unit;
		from = from < size ? from : size;
		if (from > end || from == size) {
			int r = end > start ? map_range(ram, start, end, fd) : 0;
			if (r < 0 || from == size)
				return r;
			start = from;
		}
		off_t hole = lseek(fd, data, SEEK_HOLE);
		end = hole < 0 ? size : ((uint64_t)hole + unit) & ~unit;
		end = end < size ? end : size;
	}
}

/*
 * Adds the hot region. It follows RAM in this process's memory and in the RAM's file, and begins in
 * the guest at a multiple of 1 GiB, because Linux adds memory in blocks of 128 MiB or more.
 */
static void add_hot(struct vm_memory *m, uint64_t size)
{
	const struct vm_memory_region *last = &m->regions[m->count - 1];
	const uint64_t end = last->guest + last->size, unit = UINT64_C(1) << 30;

	if (!size)
		return;
	m->regions[m->count] = (struct vm_memory_region){
		.guest = end < VM_HOLE_END ? VM_HOLE_END : (end + unit - 1) / unit * unit,
		.size = size,
		.offset = m->size,
		.host = m->regions[0].host + m->size,
		.hot = true,
	};
	m->count++;
}

const struct vm_memory_region *vm_memory_hot(const struct vm_memory *m)
{
	const struct vm_memory_region *last = m->count ? &m->regions[m->count - 1] : NULL;

	return last && last->hot ? last : NULL;
}

static int map_ram(struct vm_memory *m, const struct vm_memory_options *o)
{
	const uint64_t all = m->size + o->hot;
	uint8_t *ram = reserve_range(all, HUGE_PAGE, &m->map, &m->map_len);

	if (!ram)
		return err_sys("reserve %" PRIu64 " MiB of address space for the guest", all >> 20);
	int flags =
		MAP_FIXED | MAP_NORESERVE | (m->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
	if (o->pages == VM_PAGES_HUGETLB)
		/*
		 * Without MAP_NORESERVE, mmap() fails at once if the host's pool has too few huge
		 * pages. With MAP_NORESERVE, a later access to a page that the pool lacks would
		 * raise SIGBUS.
		 */
		flags &= ~MAP_NORESERVE;
	uint8_t *host = mmap(ram, all, PROT_READ | PROT_WRITE, flags, m->fd, 0);
	if (host == MAP_FAILED)
		return err_sys("map %" PRIu64 " MiB of guest memory%s", all >> 20,
			o->pages == VM_PAGES_HUGETLB
				? " (see /proc/sys/vm/nr_hugepages for the pool of huge pages)"
				: "");
	uint64_t low = m->size < VM_HOLE_START ? m->size : VM_HOLE_START;
	m->regions[m->count++] = (struct vm_memory_region){.size = low, .host = host};
	if (m->size > low)
		m->regions[m->count++] = (struct vm_memory_region){
			.guest = VM_HOLE_END,
			.size = m->size - low,
			.offset = low,
			.host = host + low,
		};
	add_hot(m, o->hot);
	if (o->pages == VM_PAGES_TRANSPARENT && madvise(host, all, MADV_HUGEPAGE) < 0)
		return err_sys("advise huge pages for guest memory");
	if (o->file) {
		int r = map_file(host, m->size + o->file_hot, o->file);
		if (r < 0)
			return r;
	}
	if (o->mergeable && madvise(host, all, MADV_MERGEABLE) < 0)
		return err_sys("let KSM merge guest memory");
	/* Keeps guest memory out of core dumps, because it may hold secrets and is large. */
	if (madvise(host, all, MADV_DONTDUMP) < 0)
		return err_sys("keep guest memory out of core dumps");
	return 0;
}

int vm_memory_init(struct vm_memory *ret, const struct vm_memory_options *options)
{
	int r = check_options(options);

	if (r < 0)
		return r;
	*ret = (struct vm_memory){.fd = -EBADF, .mapped = options->file > 0, .size = options->size};
	if (!options->mergeable && !options->file) {
		ret->fd = open_ram(options->size + options->hot, options->pages);
		if (ret->fd < 0)
			return ret->fd;
	}
	r = map_ram(ret, options);
	if (r < 0)
		vm_memory_release(ret);
	return r;
}

void vm_memory_release(struct vm_memory *m)
{
	for (unsigned i = 0; i < m->count; i++)
		if (m->regions[i].map)
			munmap(m->regions[i].map, m->regions[i].map_len);
	if (m->map)
		munmap(m->map, m->map_len);
	if (m->fd >= 0)
		fd_close(&m->fd);
	*m = VM_MEMORY_NONE;
}

static bool ranges_overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	/*
	 * the sums do not overflow, because the caller has made sure that neither range wraps
	 * around
	 */
	return a < b + b_len && b < a + a_len;
}

static int check_region(const struct vm_memory *m, const struct vm_memory_region *r)
{
	if (m->count == VM_MEMORY_REGIONS_MAX)
		return err_set(EPROTO, "found more than %d memory regions, which is the limit",
			VM_MEMORY_REGIONS_MAX);
	if (r->size == 0 || r->size > VM_MEMORY_MAX || r->guest > UINT64_MAX - r->size ||
		r->user > UINT64_MAX - r->size || r->offset > INT64_MAX - r->size ||
		(r->guest | r->user | r->offset) % (uint64_t)sysconf(_SC_PAGESIZE))
		return err_set(EPROTO,
			"a memory region of %" PRIu64 " bytes at guest address 0x%" PRIx64
			", monitor address 0x%" PRIx64 ", file offset 0x%" PRIx64
			": expected whole pages, up to %" PRIu64 " GiB, that do not wrap around",
			r->size, r->guest, r->user, r->offset, VM_MEMORY_MAX >> 30);
	for (unsigned i = 0; i < m->count; i++)
		if (ranges_overlap(r->guest, r->size, m->regions[i].guest, m->regions[i].size) ||
			ranges_overlap(r->user, r->size, m->regions[i].user, m->regions[i].size))
			return err_set(EPROTO,
				"the memory region at guest address 0x%" PRIx64
				" overlaps the one at 0x%" PRIx64,
				r->guest, m->regions[i].guest);
	return 0;
}

/*
 * Checks the size of the region's file, and sets *ret_unit to the file's page size, because offset
 * and length of a mapping must be multiples of the page size.
 */
static int check_file(const struct vm_memory_region *r, int fd, uint64_t *ret_unit)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys("read the size of a memory region's file");
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < r->offset + r->size)
		return err_set(EPROTO,
			"a memory region reaches beyond its file: %" PRIu64 " of %" PRIu64 " bytes",
			r->offset + r->size, S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0);
	uint64_t block = st.st_blksize > 0 ? (uint64_t)st.st_blksize : page;
	/*
	 * st_blksize is the page size on hugetlbfs, which has pages of up to 1 GiB. A larger value,
	 * or one that is no power of two, is from another file system, where st_blksize is only a
	 * preferred I/O size.
	 */
	*ret_unit =
		block > page && block <= UINT64_C(1) << 30 && !(block & (block - 1)) ? block : page;
	return 0;
}

int vm_memory_attach(struct vm_memory *m, const struct vm_memory_region *region, int fd)
{
	struct vm_memory_region g = {.guest = region->guest,
		.size = region->size,
		.user = region->user,
		.offset = region->offset};
	uint64_t unit = 0;
	int r = check_region(m, &g);

	if (r == 0)
		r = check_file(&g, fd, &unit);
	if (r < 0)
		return r;
	uint64_t skip = g.offset & (unit - 1);
	uint64_t len = (skip + g.size + unit - 1) & ~(unit - 1);
	uint8_t *at = reserve_range(len, unit, &g.map, &g.map_len);
	if (!at)
		return err_sys("reserve %" PRIu64 " MiB of address space", len >> 20);
	if (mmap(at, len, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_SHARED | MAP_NORESERVE, fd,
		    (off_t)(g.offset - skip)) == MAP_FAILED) {
		r = err_sys("map a memory region of %" PRIu64 " bytes", g.size);
		munmap(g.map, g.map_len);
		return r;
	}
	/*
	 * Keeps the region's memory out of core dumps. Ignores an error, because the region can be
	 * used even if the kernel cannot do that for its file.
	 */
	(void)madvise(at, len, MADV_DONTDUMP);
	g.host = at + skip;
	m->regions[m->count++] = g;
	m->size += g.size;
	return 0;
}

int vm_memory_from_user(const struct vm_memory *m, uint64_t user, uint64_t *ret_guest)
{
	for (unsigned i = 0; i < m->count; i++) {
		const struct vm_memory_region *g = &m->regions[i];

		if (g->map && user >= g->user && user - g->user < g->size) {
			*ret_guest = g->guest + (user - g->user);
			return 0;
		}
	}
	return -EPROTO;
}

void *vm_memory_at(const struct vm_memory *m, uint64_t guest, uint64_t len)
{
	if (len == 0)
		return NULL;
	for (unsigned i = 0; i < m->count; i++) {
		const struct vm_memory_region *g = &m->regions[i];

		if (guest < g->guest || guest - g->guest >= g->size)
			continue;
		/*
		 * `guest` minus the region's start cannot wrap around, because the checks before
		 * this one have shown that `guest` lies in the region (CVE-2019-18960).
		 */
		if (len > g->size - (guest - g->guest))
			return NULL;
		return g->host + (guest - g->guest);
	}
	return NULL;
}

void vm_memory_discard(const struct vm_memory *m, void *host, size_t len)
{
	bool shared = m->fd >= 0 || (m->count > 0 && m->regions[0].map);

	/*
	 * Shared pages belong to the file of the RAM, so MADV_REMOVE punches a hole into this file.
	 * Private pages belong to this process alone, so MADV_DONTNEED frees them.
	 */
	(void)madvise(host, len, shared ? MADV_REMOVE : MADV_DONTNEED);
}

int vm_memory_write(
	const struct vm_memory *m, uint64_t guest, const void *data, size_t len, const char *what)
{
	if (len == 0)
		return 0;
	void *to = vm_memory_at(m, guest, len);

	if (!to)
		return err_set(EFAULT,
			"%s: %zu bytes at guest address 0x%" PRIx64
			" do not fit into guest memory (%" PRIu64
			" MiB); give the machine more memory",
			what, len, guest, m->size >> 20);
	memcpy(to, data, len);
	return 0;
}
