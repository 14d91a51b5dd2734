/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes settings of a cgroup back, because what followed them has failed.
 *
 * cg_change() has cg_put() note what each file contains before it is written. That can be written
 * to the file again, with two exceptions. A file with a line for each device takes one line with
 * each write, and a device without a line gets the values in `keyed`. An empty list of CPUs is
 * written as a newline, because the kernel does not see a write of no bytes.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "cgroups/cg_internal.h"

#define TEXT_MAX 4096

/* The files with a line for each device, and the values of a device without a line. */
static const struct keyed {
	const char *file, *none;
} keyed[] = {
	{"io.max", "rbps=max wbps=max riops=max wiops=max"},
	{"io.weight", "default"},
	{"io.bfq.weight", "default"},
	{"io.latency", "target=max"},
	{"rdma.max", "hca_handle=max hca_object=max"},
	{"misc.max", "max"},
};

/* Returns the row of `keyed` for the file; NULL: the file has one value. */
static const struct keyed *find_keyed(const char *file)
{
	for (size_t i = 0; i < ARRAY_SIZE(keyed); i++)
		if (streq(file, keyed[i].file))
			return &keyed[i];
	return NULL;
}

void cg_undo_release(struct cg_undo *u)
{
	for (size_t i = 0; i < u->n; i++) {
		free(u->v[i].file);
		free(u->v[i].text);
	}
	free(u->v);
	*u = (struct cg_undo){0};
}

/* Says whether the text has a line that begins with the word `key`, of len bytes. */
static bool has_line(const char *text, const char *key, size_t len)
{
	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n')
		if (strncmp(line, key, len) == 0 && line[len] == ' ')
			return true;
	return false;
}

/*
 * Returns the lines that restore a file with a line for each device, before `value` is written to
 * it. All lines are restored, because the kernel drops those of devices if the default is written.
 */
static char *lines_to_restore(const char *old, const char *value, const char *none)
{
	const char *const key = strchr(value, ' ') ? value : "default ";
	const size_t len = strcspn(key, " ");
	char *ret;

	if (has_line(old, key, len))
		return strdup(old);
	return asprintf(&ret, "%.*s %s\n%s", (int)len, key, none, old) < 0 ? NULL : ret;
}

static char *text_to_restore(const char *file, const char *old, const char *value)
{
	const struct keyed *k = find_keyed(file);

	return k ? lines_to_restore(old, value, k->none) : strdup(*old ? old : "\n");
}

int cg_undo_note(struct cg_undo *u, int dir, const char *file, const char *value)
{
	char old[TEXT_MAX];

	/* A file that can only be written, such as cgroup.kill, has nothing to restore. */
	if (cg_read(dir, file, old, sizeof(old)) < 0) {
		err_clear();
		return 0;
	}
	struct cg_old *grown = reallocarray(u->v, u->n + 1, sizeof(*grown));
	if (!grown)
		return err_set(ENOMEM, "out of memory");
	u->v = grown;
	struct cg_old o = {.file = strdup(file), .text = text_to_restore(file, old, value)};
	if (!o.file || !o.text) {
		free(o.file);
		free(o.text);
		return err_set(ENOMEM, "out of memory");
	}
	u->v[u->n++] = o;
	return 0;
}

static int restore(int dir, const struct cg_old *o)
{
	char *save;
	int r = 0;

	if (!find_keyed(o->file))
		return cg_write(dir, o->file, o->text);
	for (char *line = strtok_r(o->text, "\n", &save); line && r >= 0;
		line = strtok_r(NULL, "\n", &save))
		r = cg_write(dir, o->file, line);
	return r;
}

int cg_restore(const struct cgroup *cg, struct cg_undo *u)
{
	int failed = 0;

	if (!u->n)
		return 0;
	_cleanup_fd_ int dir = cg_open(cg);
	for (size_t i = u->n; i-- > 0;) {
		int r = dir < 0 ? dir : restore(dir, &u->v[i]);
		if (r < 0)
			failed = err_set(-r, "%s of cgroup %s is not restored: %s", u->v[i].file,
				cg->path, cg_strerror(-r));
	}
	cg_undo_release(u);
	if (cg->manager == CG_SYSTEMD) {
		int r = cg_systemd_update(cg);
		failed = r < 0 ? r : failed;
	}
	return failed;
}

int cg_undo(const struct cgroup *cg, struct cg_undo *u, int error)
{
	char why[ERR_MAX];

	snprintf(why, sizeof(why), "%s", err_msg());
	if (cg_restore(cg, u) < 0)
		log_warn("%s", err_msg());
	return err_set(-error, "%s", why);
}

int cg_apply(const struct cgroup *cg, const struct cg_resources *res)
{
	return cg_apply_noting(cg, res, NULL);
}

int cg_change(const struct cgroup *cg, const struct cg_resources *res, struct cg_undo *ret)
{
	int r = cg_apply_noting(cg, res, ret);

	return r < 0 ? cg_undo(cg, ret, r) : 0;
}
