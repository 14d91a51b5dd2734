/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes blobs to the store. A blob is written to STORE/partial/ALGORITHM-HEX, which is locked by
 * flock(2), and rename(2) moves this file to its final name after its digest was checked. If the
 * process is killed, the lock ends but the file stays, and the next writer of that blob continues
 * behind the bytes in the file.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include "images/oci/store.h"

#define COPY_SIZE (256u << 10)
#define BEGIN_RETRIES 100
#define BUSY_WAIT_MS 100

static int blob_dir(const struct store *s, const struct digest *d)
{
	return s->blobs[d->algorithm];
}

int store_has_blob(const struct store *s, const struct digest *d, uint64_t size)
{
	struct stat st;

	if (fstatat(blob_dir(s, d), digest_hex(d), &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno == ENOENT)
			return 0;
		return err_sys("look at the blob %s", d->text);
	}
	return S_ISREG(st.st_mode) && (uint64_t)st.st_size == size;
}

int store_open_blob(const struct store *s, const struct digest *d, uint64_t *ret_size)
{
	struct stat st;
	_cleanup_fd_ int fd = openat(
		blob_dir(s, d), digest_hex(d), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return err_sys("open the blob %s of the store %s", d->text, s->path);
	if (fstat(fd, &st) < 0)
		return err_sys("look at the blob %s", d->text);
	if (!S_ISREG(st.st_mode))
		return err_set(EINVAL, "the blob %s of the store %s is not a regular file", d->text,
			s->path);
	if (ret_size)
		*ret_size = (uint64_t)st.st_size;
	return take_fd(&fd);
}

int store_read_document(const struct store *s, const struct descriptor *d, struct strbuf *ret)
{
	struct digest found;
	uint64_t size;

	if (d->size > OCI_DOCUMENT_MAX)
		return err_set(EINVAL, "%s: size %" PRIu64 " is more than the limit of %u bytes",
			d->digest.text, d->size, OCI_DOCUMENT_MAX);
	_cleanup_fd_ int fd = store_open_blob(s, &d->digest, &size);
	if (fd < 0)
		return fd;
	if (size != d->size)
		return err_set(EBADMSG,
			"the blob %s has %" PRIu64 " bytes, its descriptor says %" PRIu64,
			d->digest.text, size, d->size);
	int r = fd_read_all(fd, ret, OCI_DOCUMENT_MAX, d->digest.text);
	if (r >= 0)
		r = digest_of(d->digest.algorithm, strbuf_str(ret), ret->len, &found);
	if (r >= 0 && !digest_equal(&found, &d->digest))
		return err_set(EBADMSG, "the blob %s of the store %s is damaged: its digest is %s",
			d->digest.text, s->path, found.text);
	return r < 0 ? r : 0;
}

static int name_partial(struct blob_writer *w)
{
	uint64_t random[2];

	if (*w->expected.text) {
		snprintf(w->name, sizeof(w->name), "%s-%s",
			digest_algorithm_name(w->expected.algorithm), digest_hex(&w->expected));
		return 0;
	}
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return err_sys("get random bytes");
	snprintf(w->name, sizeof(w->name), "new-%016" PRIx64 "%016" PRIx64, random[0], random[1]);
	return 0;
}

int store_open_unfinished(const struct store *s, const struct digest *d)
{
	struct blob_writer w = {.store = s, .expected = *d};
	int r = name_partial(&w);

	if (r < 0)
		return r;
	int fd = openat(s->partial, w.name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0)
		return fd;
	return errno == ENOENT ? -ENOENT : err_sys("open %s/partial/%s", s->path, w.name);
}

/*
 * Opens and locks the blob's file in STORE/partial. If the process that held the lock has renamed
 * or removed the file between the open and the lock, opens the file anew.
 */
static int open_partial(struct blob_writer *w)
{
	const struct store *s = w->store;

	for (int i = 0; i < BEGIN_RETRIES; i++) {
		struct stat ours, named;
		_cleanup_fd_ int fd = openat(
			s->partial, w->name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd < 0)
			return err_sys("create %s/partial/%s", s->path, w->name);
		if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			if (errno == EWOULDBLOCK)
				return -EBUSY;
			return err_sys("lock %s/partial/%s", s->path, w->name);
		}
		if (fstat(fd, &ours) < 0)
			return err_sys("look at %s/partial/%s", s->path, w->name);
		if (fstatat(s->partial, w->name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
			ours.st_ino == named.st_ino) {
			w->fd = take_fd(&fd);
			return 0;
		}
	}
	return -EBUSY;
}

int blob_restart(struct blob_writer *w)
{
	w->written = 0;
	if (ftruncate(w->fd, 0) < 0 || lseek(w->fd, 0, SEEK_SET) < 0)
		return err_sys("empty %s/partial/%s", w->store->path, w->name);
	return hasher_init(&w->hasher, w->expected.algorithm);
}

/*
 * Computes the digest of the bytes that an interrupted process left in the blob's file, so that
 * writing can continue there. Drops these bytes if there are more of them than the blob may have.
 */
static int take_over(struct blob_writer *w)
{
	_cleanup_free_ char *buf = NULL;
	struct stat st;
	int r = hasher_init(&w->hasher, w->expected.algorithm);

	if (r < 0)
		return r;
	if (fstat(w->fd, &st) < 0)
		return err_sys("look at %s/partial/%s", w->store->path, w->name);
	if ((uint64_t)st.st_size > w->size)
		return blob_restart(w);
	if (st.st_size == 0)
		return 0;
	buf = malloc(COPY_SIZE);
	if (!buf)
		return err_set(ENOMEM, "out of memory");
	for (;;) {
		ssize_t n = read(w->fd, buf, COPY_SIZE);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys("read %s/partial/%s", w->store->path, w->name);
		if (n == 0)
			return 0;
		r = hasher_update(&w->hasher, buf, (size_t)n);
		if (r < 0)
			return r;
		w->written += (uint64_t)n;
	}
}

int blob_begin(
	const struct store *s, const struct digest *expected, uint64_t size, struct blob_writer *w)
{
	int r;

	*w = (struct blob_writer)BLOB_WRITER_INIT;
	w->store = s;
	w->size = size;
	if (expected) {
		w->expected = *expected;
		r = store_has_blob(s, expected, size);
		if (r != 0)
			return r;
	}
	r = name_partial(w);
	if (r >= 0)
		r = open_partial(w);
	if (r < 0)
		return r;
	/*
	 * The store is searched once more for the finished blob, because the process that held the
	 * lock of the blob's file may just have finished the blob.
	 */
	r = expected ? store_has_blob(s, expected, size) : 0;
	if (r > 0)
		unlinkat(s->partial, w->name, 0);
	else if (r == 0)
		r = take_over(w);
	if (r != 0)
		blob_close(w);
	return r;
}

int blob_begin_patiently(const struct store *s, const struct descriptor *d, struct blob_writer *w)
{
	const struct timespec pause = {.tv_nsec = BUSY_WAIT_MS * 1000000L};

	for (;;) {
		int r = blob_begin(s, &d->digest, d->size, w);
		if (r != -EBUSY)
			return r;
		nanosleep(&pause, NULL);
	}
}

int blob_write(struct blob_writer *w, const void *data, size_t len)
{
	if (len > w->size - w->written)
		return err_set(EFBIG, "%s: more bytes than its size, %" PRIu64,
			*w->expected.text ? w->expected.text : "a blob", w->size);
	int r = fd_write_all(w->fd, data, len);
	if (r < 0) {
		/*
		 * The expected digest is cleared, which makes blob_close() remove the file instead
		 * of keeping it for a later continuation, because after the failed write the file
		 * may hold bytes that were not digested.
		 */
		w->expected.text[0] = '\0';
		return err_set(
			-r, "write %s/partial/%s: %s", w->store->path, w->name, err_text(-r));
	}
	w->written += len;
	return hasher_update(&w->hasher, data, len);
}

static int check(const struct blob_writer *w, const struct digest *found)
{
	if (w->size != UINT64_MAX && w->written != w->size)
		return err_set(EBADMSG, "%s: ends after %" PRIu64 " bytes, its size is %" PRIu64,
			*w->expected.text ? w->expected.text : "a blob", w->written, w->size);
	if (*w->expected.text && !digest_equal(found, &w->expected))
		return err_set(
			EBADMSG, "%s: its bytes have the digest %s", w->expected.text, found->text);
	return 0;
}

static int publish(struct blob_writer *w, const struct digest *d)
{
	const struct store *s = w->store;
	bool sync = s->sync == STORE_SYNC;

	if (fchmod(w->fd, 0644) < 0)
		return err_sys("change the mode of the blob %s", d->text);
	if (sync && fsync(w->fd) < 0)
		return err_sys("sync the blob %s", d->text);
	if (renameat(s->partial, w->name, blob_dir(s, d), digest_hex(d)) < 0)
		return err_sys("name the blob %s", d->text);
	fd_close(&w->fd);
	if (sync && fsync(blob_dir(s, d)) < 0)
		return err_sys("sync the directory of the blob %s", d->text);
	return 0;
}

int blob_finish(struct blob_writer *w, struct digest *ret, uint64_t *ret_size)
{
	struct digest found;
	bool cut = w->size != UINT64_MAX && w->written < w->size;
	int r = hasher_final(&w->hasher, &found);

	if (r >= 0)
		r = check(w, &found);
	/*
	 * If the blob is incomplete, its file stays, because a later writer can continue it. If the
	 * bytes are wrong, the digest is cleared, which makes blob_close() remove the file.
	 */
	if (r < 0 && !cut)
		w->expected.text[0] = '\0';
	if (r >= 0)
		r = publish(w, &found);
	if (r >= 0 && ret)
		*ret = found;
	if (r >= 0 && ret_size)
		*ret_size = w->written;
	blob_close(w);
	return r;
}

void blob_close(struct blob_writer *w)
{
	if (w->fd >= 0 && !*w->expected.text)
		unlinkat(w->store->partial, w->name, 0);
	fd_close(&w->fd);
	hasher_release(&w->hasher);
}

int store_add_blob(const struct store *s, const void *data, size_t len, struct descriptor *d)
{
	_cleanup_blob_ struct blob_writer w = BLOB_WRITER_INIT;
	int r = blob_begin(s, NULL, UINT64_MAX, &w);

	if (r >= 0)
		r = blob_write(&w, data, len);
	return r < 0 ? r : blob_finish(&w, &d->digest, &d->size);
}

int store_add_document(
	const struct store *s, const void *data, size_t len, const struct descriptor *d)
{
	_cleanup_blob_ struct blob_writer w = BLOB_WRITER_INIT;
	int r = blob_begin_patiently(s, d, &w);

	if (r != 0)
		return r < 0 ? r : 0;
	/*
	 * The bytes that an interrupted writer left are discarded instead of continued, because the
	 * whole blob is in memory.
	 */
	if (w.written > 0)
		r = blob_restart(&w);
	if (r >= 0)
		r = blob_write(&w, data, len);
	return r < 0 ? r : blob_finish(&w, NULL, NULL);
}
