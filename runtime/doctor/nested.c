/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks whether guests on this host's KVM may run guests of their own, and whether the host's
 * kernel has the fix for a flaw by which such guests could get out to the host.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/utsname.h>

#include "base/fd.h"
#include "doctor/doctor.h"

#define FLAW "CVE-2026-53359"

struct release {
	int major, minor, patch;
};

static bool read_release(const char *text, struct release *ret)
{
	return sscanf(text, "%d.%d.%d", &ret->major, &ret->minor, &ret->patch) == 3;
}

static bool is_series(const struct release *a, const struct release *b)
{
	return a->major == b->major && a->minor == b->minor;
}

bool doctor_nested_fixed(const char *release, const char *version, const char **ret_fix)
{
	/*
	 * the first release of each kernel series that has the fix of CVE-2026-53359, in ascending
	 * order. A series that is not listed ended before the fix was made.
	 */
	static const char *const fixes[] = {
		"5.10.260", "5.15.211", "6.1.177", "6.6.144", "6.12.95", "6.18.38", "7.1.3"};
	const char *debian = strstr(version, "Debian ");
	struct release is = {0}, fix = {0};

	/*
	 * The release that Debian names in `version` is preferred, because `release`, with Debian's
	 * ABI number, only looks like a release of Linux.
	 */
	if (!debian || !read_release(debian + strlen("Debian "), &is))
		if (!read_release(release, &is) &&
			sscanf(release, "%d.%d", &is.major, &is.minor) != 2)
			is = (struct release){0};
	for (size_t i = 0; i < ARRAY_SIZE(fixes); i++) {
		*ret_fix = fixes[i];
		(void)read_release(fixes[i], &fix);
		if (is_series(&is, &fix))
			return is.patch >= fix.patch;
		if (is.major < fix.major || (is.major == fix.major && is.minor < fix.minor))
			return false;
	}
	return true;
}

/*
 * Returns the name of the KVM module that lets guests run guests of their own, or NULL if no loaded
 * KVM module does so.
 */
static const char *find_nesting_module(void)
{
	static const char *const modules[] = {"kvm_intel", "kvm_amd"};

	for (size_t i = 0; i < ARRAY_SIZE(modules); i++) {
		_cleanup_strbuf_ struct strbuf text = {0};
		char path[64];

		snprintf(path, sizeof(path), "/sys/module/%s/parameters/nested", modules[i]);
		if (fd_read_file(AT_FDCWD, path, &text, 16) >= 0 &&
			(str_starts(strbuf_str(&text), "Y") || str_starts(strbuf_str(&text), "1")))
			return modules[i];
	}
	return NULL;
}

int doctor_nested(struct doctor_ctx *c)
{
	const char *module = find_nesting_module(), *fix;
	struct utsname uts;

	if (!module || uname(&uts) < 0)
		return doctor_report(
			c, DOCTOR_OK, "nested", "KVM does not let guests run virtual machines");
	if (doctor_nested_fixed(uts.release, uts.version, &fix))
		return doctor_report(c, DOCTOR_OK, "nested",
			"%s lets guests run virtual machines; Linux %s has the fix of " FLAW,
			module, uts.release);
	return doctor_report(c, DOCTOR_WARNING, "nested",
		"%s lets guests run virtual machines, and by its number Linux %s lacks the fix "
		"of " FLAW
		" (guest to host): install %s or later, or a kernel whose distribution says "
		"that it has the fix, or load %s with nested=0; caisson's guests can use it only "
		"with the annotation io.caisson.vm.nested",
		module, uts.release, fix, module);
}
