/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes one setting of a cgroup, after checking that the cgroup has the controller for the
 * setting.
 */
#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"
#include "cgroups/cg_internal.h"

#define VALUE_MAX 4096

static int read_controllers(struct cg_target *t)
{
	int r = cg_read(t->dir, "cgroup.controllers", t->controllers, sizeof(t->controllers));

	t->read = true;
	return r < 0 ? cg_err_file(r, NULL, "cgroup.controllers", "", t->cg->path) : 0;
}

int cg_require(struct cg_target *t, const char *controller, const char *field, bool lifting)
{
	size_t len = strlen(controller);
	int r = t->read ? 0 : read_controllers(t);

	if (r < 0)
		return r;
	if (cg_list_has(t->controllers, controller, len))
		return 1;
	if (lifting)
		return 0;
	if (!t->enabled) {
		/*
		 * Enables missing controllers, although cg_create() or systemd did so before,
		 * because systemd enables only the controllers that it knows, and not hugetlb, for
		 * example.
		 */
		t->enabled = true;
		_cleanup_fd_ int mount = cg_open_mount(t->cg);
		if (mount < 0)
			return mount;
		if (cg_read(mount, "cgroup.controllers", t->controllers, CG_LIST_MAX) == 0)
			cg_enable_controllers(mount, t->cg->path, t->controllers);
		r = read_controllers(t);
		if (r < 0 || cg_list_has(t->controllers, controller, len))
			return r < 0 ? r : 1;
	}
	r = cg_explain_missing(t->cg, controller, field);
	if (!t->cg->lenient)
		return r;
	log_warn("limit not applied: %s", err_msg());
	err_clear();
	return 0;
}

int cg_put(struct cg_target *t, const char *field, const char *file, const char *fmt, ...)
{
	char value[VALUE_MAX];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	if (n >= (int)sizeof(value))
		return err_set(E2BIG, "%s: a value of %d bytes is longer than %d", field, n,
			VALUE_MAX - 1);
	int r = t->undo ? cg_undo_note(t->undo, t->dir, file, value) : 0;
	if (r < 0)
		return r;
	r = cg_write(t->dir, file, value);
	return r < 0 ? cg_err_file(r, field, file, value, t->cg->path) : 0;
}
