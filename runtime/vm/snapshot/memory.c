/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. Most of RAM was never touched by the guest, so its file has holes there. A
 * read of a hole through the mapping would make the kernel fill the hole with a page. So the code
 * asks for the file's data with lseek(2), and takes a page of zeros in the place of each page that
 * is in a hole.
 */
#include "vm/snapshot/memory.h"

#include <endian.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"

#define PAGE 4096U
#define PAGES_PER_CHUNK (SNAPSHOT_CHUNK / PAGE)

/* A search for the data in a file of guest memory, from low offsets to high ones. */
struct extents {
	/* descriptor of the file; -EBADF: the file counts as data without holes */
	int fd;
	uint64_t start, end; /* range of offsets with the data that was found last */
	uint64_t size;
	uint32_t zero_crc; /* the checksum of SNAPSHOT_CHUNK bytes of zeros */
};

/*
 * The beginning of the memory section of a snapshot. The checksums follow, one for each chunk of
 * memory.
 */
struct memory_state {
	uint64_t size, chunk;
};

static const uint8_t zeros[PAGE];

static struct extents extents_of(int fd, uint64_t size)
{
	struct extents e = {.fd = fd, .size = size};

	for (size_t at = 0; at < SNAPSHOT_CHUNK; at += PAGE)
		e.zero_crc = crc32c(e.zero_crc, zeros, PAGE);
	return e;
}

/* Returns whether there is data in the page at `offset`. */
static bool is_data(struct extents *e, uint64_t offset)
{
	if (e->fd < 0)
		return true;
	while (offset >= e->end) {
		off_t data = lseek(e->fd, (off_t)offset, SEEK_DATA);
		/*
		 * lseek(2) fails with ENXIO if there is no more data. With any other error the file
		 * system cannot tell where the holes are, so the whole file counts as data.
		 */
		if (data < 0 && errno != ENXIO) {
			e->fd = -EBADF;
			return true;
		}
		off_t hole = data < 0 ? -1 : lseek(e->fd, data, SEEK_HOLE);
		e->start = data < 0 ? e->size : (uint64_t)data & ~(uint64_t)(PAGE - 1);
		e->end = hole < 0 ? e->size : ((uint64_t)hole + PAGE - 1) & ~(uint64_t)(PAGE - 1);
		if (e->end <= offset)
			e->end = e->size;
	}
	return offset >= e->start;
}

/* Returns whether the chunk at `offset` is in a hole, and so all zeros. */
static bool is_hole(struct extents *e, uint64_t offset)
{
	return !is_data(e, offset) && e->start >= offset + SNAPSHOT_CHUNK;
}

/* Returns the address in RAM of the chunk that is at `offset` in the file of guest memory. */
static uint8_t *chunk_at(const struct vm_memory *m, uint64_t offset)
{
	for (unsigned i = 0; i < m->count; i++) {
		const struct vm_memory_region *g = &m->regions[i];

		if (offset >= g->offset && offset - g->offset < g->size)
			return g->host + (offset - g->offset);
	}
	return NULL; /* not reached, because the regions cover the file */
}

static int write_range(int fd, const uint8_t *data, size_t len, uint64_t offset)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, data, len, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_sys("write guest memory to the snapshot");
		data += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

/* Writes the pages of a chunk that are not zero, and computes the chunk's checksum. */
static int save_chunk(
	const uint8_t *chunk, struct extents *e, uint64_t offset, int fd, uint32_t *ret_crc)
{
	size_t start = 0, end = 0; /* the range of pages that has to be written next */
	uint32_t crc = 0;

	for (size_t at = 0; at < SNAPSHOT_CHUNK; at += PAGE) {
		bool data = is_data(e, offset + at) && memcmp(chunk + at, zeros, PAGE) != 0;

		crc = crc32c(crc, data ? chunk + at : zeros, PAGE);
		if (data) {
			start = end == at && end > start ? start : at;
			end = at + PAGE;
		}
		if (end > start && (!data || end == SNAPSHOT_CHUNK)) {
			int r = write_range(fd, chunk + start, end - start, offset + start);
			if (r < 0)
				return r;
			start = end;
		}
	}
	*ret_crc = htole32(crc);
	return 0;
}

int snapshot_save_memory(
	struct snapshot_writer *w, const struct vm_memory *m, uint64_t added, int fd)
{
	const struct memory_state s = {m->size + added, SNAPSHOT_CHUNK};
	struct extents e = extents_of(m->fd, s.size);

	int r = snapshot_section(w, SNAPSHOT_MEMORY, 0);
	if (r >= 0)
		r = snapshot_put(w, &s, sizeof(s));
	if (r >= 0 && ftruncate(fd, (off_t)s.size) < 0)
		r = err_sys("size the snapshot's file of guest memory to %" PRIu64 " MiB",
			s.size >> 20);
	for (uint64_t offset = 0; r >= 0 && offset < s.size; offset += SNAPSHOT_CHUNK) {
		uint32_t crc = htole32(e.zero_crc);

		if (!is_hole(&e, offset))
			r = save_chunk(chunk_at(m, offset), &e, offset, fd, &crc);
		if (r >= 0)
			r = snapshot_put(w, &crc, sizeof(crc));
	}
	return r;
}

static int read_page(int fd, uint8_t *page, uint64_t offset)
{
	ssize_t n;

	do
		n = pread(fd, page, PAGE, (off_t)offset);
	while (n < 0 && errno == EINTR);
	if (n == PAGE)
		return 0;
	return n < 0 ? err_sys("read guest memory from the snapshot")
		     : err_set(EBADMSG, "the file with guest memory is truncated");
}

/*
 * Computes the checksum of a chunk of RAM. If `fd` is not -EBADF, copies the chunk from that file
 * first; otherwise RAM is a mapping of the file.
 */
static int load_chunk(uint8_t *chunk, struct extents *e, uint64_t offset, int fd, uint32_t *ret_crc)
{
	uint32_t crc = 0;

	for (size_t at = 0; at < SNAPSHOT_CHUNK; at += PAGE) {
		bool data = is_data(e, offset + at);
		int r = data && fd >= 0 ? read_page(fd, chunk + at, offset + at) : 0;

		if (r < 0)
			return r;
		crc = crc32c(crc, data ? chunk + at : zeros, PAGE);
	}
	*ret_crc = htole32(crc);
	return 0;
}

/* Finds the checksums, behind the memory_state, which is checked. */
static int find_checksums(const struct snapshot *s, uint64_t size, uint64_t hot,
	struct snapshot_part *ret, struct memory_state *ret_state)
{
	int r = snapshot_find(s, SNAPSHOT_MEMORY, 0, ret);

	if (r >= 0)
		r = snapshot_get(ret, ret_state, sizeof(*ret_state));
	if (r < 0)
		return r;
	if (ret_state->size < size || ret_state->size - size > hot ||
		ret_state->size % SNAPSHOT_CHUNK || ret_state->chunk != SNAPSHOT_CHUNK)
		return err_set(EBADMSG,
			"the snapshot has checksums of %" PRIu64 " bytes of guest memory: expected "
			"%" PRIu64 ", and up to %" PRIu64 " bytes more that were added",
			ret_state->size, size, hot);
	return 0;
}

int snapshot_read_added(const struct snapshot *s, uint64_t size, uint64_t hot, uint64_t *ret)
{
	struct memory_state state;
	struct snapshot_part p;
	int r = find_checksums(s, size, hot, &p, &state);

	*ret = r < 0 ? 0 : state.size - size;
	return r;
}

static int check_file(uint64_t size, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys("read the size of the file with guest memory");
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < size)
		return err_set(EBADMSG,
			"the file with guest memory has %" PRIu64 " bytes: expected %" PRIu64,
			S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0, size);
	return 0;
}

int snapshot_load_memory(const struct snapshot *s, const struct vm_memory *m, int fd)
{
	const int from = m->mapped ? -EBADF : fd;
	const struct vm_memory_region *hot = vm_memory_hot(m);
	struct memory_state state;
	struct snapshot_part p;

	int r = find_checksums(s, m->size, hot ? hot->size : 0, &p, &state);
	if (r >= 0)
		r = check_file(state.size, fd);
	if (r < 0)
		return r;
	struct extents e = extents_of(fd, state.size);
	for (uint64_t offset = 0; r >= 0 && offset < state.size; offset += SNAPSHOT_CHUNK) {
		uint32_t saved = 0, crc = htole32(e.zero_crc);

		r = snapshot_get(&p, &saved, sizeof(saved));
		if (r >= 0 && !is_hole(&e, offset))
			r = load_chunk(chunk_at(m, offset), &e, offset, from, &crc);
		if (r >= 0 && crc != saved)
			r = err_set(EBADMSG,
				"the file with guest memory is damaged or of another snapshot: the "
				"2 MiB at offset 0x%" PRIx64 " have a wrong checksum",
				offset);
	}
	return r < 0 ? r : snapshot_end(&p);
}
