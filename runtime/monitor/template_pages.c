/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor/template_pages.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/fd.h"

#define LOCK "pages.lock"
#define MAGIC "caispage"
#define WRITTEN (UINT32_C(1) << 31)
#define KEPT 8 /* how many such files stay in the cache: as many as there are templates */

/* The file begins with this header. The runs follow. */
struct head {
	char magic[8];
	int64_t made; /* these two are those of the template's struct template_owner */
	uint32_t agent_port;
	uint32_t runs;
	uint32_t crc; /* CRC-32C of the header, with 0 in this member, and of the runs */
	uint32_t unused;
};

/* A run in the file. The highest bit of `count` says that the pages were written. */
struct run {
	uint32_t first, count;
};

static uint32_t checksum(struct head h, const struct run *runs)
{
	h.crc = 0;
	return crc32c(crc32c(0, &h, sizeof(h)), runs, h.runs * sizeof(*runs));
}

/* Checks that the runs follow one another, lie in the memory, and are not more than allowed. */
static int take_runs(const struct run *from, size_t n, uint64_t memory, struct template_pages *ret)
{
	uint64_t end = 0, written = 0;

	ret->runs = calloc(n + 1, sizeof(*ret->runs));
	if (!ret->runs)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct vm_page_run *r = &ret->runs[i];

		*r = (struct vm_page_run){
			from[i].first, from[i].count & ~WRITTEN, (from[i].count & WRITTEN) != 0};
		written += r->written ? r->count : 0;
		if (r->first < end || r->count == 0 || written > VM_WRITTEN_MAX ||
			(uint64_t)r->first + r->count > memory / VM_PAGE)
			return err_set(EBADMSG, "the run %zu is beyond its limits", i);
		end = (uint64_t)r->first + r->count;
	}
	ret->n = n;
	return 0;
}

int template_pages_parse(const struct strbuf *bytes, const struct template_owner *of,
	uint64_t memory, struct template_pages *ret)
{
	struct run runs[TEMPLATE_RUNS_MAX];
	struct head h;

	*ret = (struct template_pages){0};
	if (bytes->len < sizeof(h))
		return err_set(EBADMSG, "it is truncated");
	memcpy(&h, bytes->s, sizeof(h));
	if (memcmp(h.magic, MAGIC, sizeof(h.magic)) != 0 || h.runs > TEMPLATE_RUNS_MAX ||
		bytes->len - sizeof(h) != h.runs * sizeof(*runs))
		return err_set(EBADMSG, "it is no record of pages");
	memcpy(runs, bytes->s + sizeof(h), h.runs * sizeof(*runs));
	if (checksum(h, runs) != h.crc)
		return err_set(EBADMSG, "it has a wrong checksum");
	if (h.made != of->made || h.agent_port != of->agent_port)
		return err_set(EBADMSG, "it is of another template");
	int r = take_runs(runs, h.runs, memory, ret);
	if (r < 0)
		template_pages_release(ret);
	return r;
}

int template_pages_open(
	int cache, const struct template_found *t, uint64_t memory, struct template_pages *ret)
{
	_cleanup_strbuf_ struct strbuf bytes = {0};
	char name[CACHE_NAME_SIZE];

	*ret = (struct template_pages){0};
	template_pages_name(t, name);
	_cleanup_fd_ int fd = cache_open_entry(cache, name);
	if (fd == -ENOENT)
		return -ENOENT;
	int r = fd < 0 ? err_set(-fd, "%s", strerror(-fd))
		       : fd_read_all(fd, &bytes,
				 sizeof(struct head) + TEMPLATE_RUNS_MAX * sizeof(struct run),
				 "the record");
	if (r >= 0)
		r = template_pages_parse(&bytes, &t->owner, memory, ret);
	return r < 0 ? err_ctx(r, "%s", name) : 0;
}

void template_pages_release(struct template_pages *p)
{
	free(p->runs);
	*p = (struct template_pages){0};
}

int template_pages_make(int cache, const struct template_found *t, struct template_new *ret)
{
	char name[CACHE_NAME_SIZE];

	*ret = (struct template_new){.fd = -EBADF, .keeper = -EBADF};
	_cleanup_fd_ int lock = cache_lock(cache, LOCK, 0);
	if (lock < 0)
		return lock;
	template_pages_name(t, name);
	cache_drop_old(cache, TEMPLATE_PAGES, KEPT - 1);
	int r = strbuf_add(&ret->owner, &t->owner, sizeof(t->owner));
	if (r >= 0)
		r = template_keep(cache, lock, name, ret);
	if (r < 0)
		template_abandon(ret);
	return r;
}

int template_pages_write(const struct template_new *t, const struct template_owner *of,
	const struct vm_page_run *runs, size_t n)
{
	struct {
		struct head head;
		struct run runs[TEMPLATE_RUNS_MAX];
	} f = {.head = {.made = of->made, .agent_port = of->agent_port, .runs = (uint32_t)n}};

	memcpy(f.head.magic, MAGIC, sizeof(f.head.magic));
	for (size_t i = 0; i < n; i++)
		f.runs[i] = (struct run){
			runs[i].first, runs[i].count | (runs[i].written ? WRITTEN : 0)};
	f.head.crc = checksum(f.head, f.runs);
	int r = fd_write_all(t->fd, &f, sizeof(f.head) + n * sizeof(f.runs[0]));
	if (r >= 0 && write(t->keeper, "", 1) < 0)
		r = err_sys("tell the process that keeps it");
	return r;
}
