/* SPDX-License-Identifier: Apache-2.0 */
#include "doctor/doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"

const char *doctor_verdict_name(enum doctor_verdict v)
{
	static const char *const names[] = {
		[DOCTOR_OK] = "ok", [DOCTOR_WARNING] = "warning", [DOCTOR_NO] = "no"};

	return names[v];
}

int doctor_report(
	struct doctor_ctx *c, enum doctor_verdict v, const char *name, const char *fmt, ...)
{
	char text[ERR_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (c->d->n == DOCTOR_MAX_CHECKS)
		return err_set(E2BIG, "more than %d checks", DOCTOR_MAX_CHECKS);
	/*
	 * The text of a result is cleaned, because it contains paths and names of the host and goes
	 * to terminals and logs.
	 */
	str_clean(text, sizeof(text), text, strlen(text));
	char *copy = arena_strdup(c->arena, text);
	if (!copy)
		return -ENOMEM;
	c->d->v[c->d->n++] =
		(struct doctor_check){.mode = c->mode, .verdict = v, .name = name, .text = copy};
	if (v == DOCTOR_NO)
		c->d->runs[c->mode] = false;
	return 0;
}

int doctor_find_program(struct arena *a, const char *name, const char **ret)
{
	const char *path = getenv("PATH");
	struct stat st;

	*ret = NULL;
	/* If PATH is not set, the default directories are the same as in execvp(3). */
	for (const char *p = path ? path : "/bin:/usr/bin"; *p;) {
		size_t len = strcspn(p, ":");
		const char *file = arena_printf(a, "%.*s%s%s", (int)len, p, len ? "/" : "", name);

		if (!file)
			return -ENOMEM;
		if (stat(file, &st) == 0 && S_ISREG(st.st_mode) && access(file, X_OK) == 0) {
			*ret = file;
			return 0;
		}
		p += len;
		p += *p == ':';
	}
	return 0;
}

int doctor_examine(struct arena *a, struct doctor *ret)
{
	static int (*const examine[DOCTOR_MODES])(struct doctor_ctx * c) = {
		[DOCTOR_NS] = doctor_ns, [DOCTOR_KVM] = doctor_kvm, [DOCTOR_QEMU] = doctor_qemu};

	*ret = (struct doctor){0};
	for (enum doctor_mode m = 0; m < DOCTOR_MODES; m++) {
		ret->runs[m] = true;
		int r = examine[m](&(struct doctor_ctx){.arena = a, .d = ret, .mode = m});
		if (r < 0)
			return r;
	}
	err_clear();
	return 0;
}
