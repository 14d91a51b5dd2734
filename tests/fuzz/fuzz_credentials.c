/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the reader of auth.json. The fuzzer looks up credentials for three registries in the file,
 * and what it finds must be allowed in an HTTP header. Credential helpers that the file names do
 * not exist, because PATH names a directory that has no programs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "images/oci/auth.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	return setenv("PATH", "/proc/self/fdinfo", 1);
}

static void look_up(const char *file, const char *host, const char *repository)
{
	_cleanup_arena_ struct arena a = {0};
	struct credentials c;
	const char *basic;

	err_clear();
	int r = auth_find(&a, file, host, repository, &c);
	if (r < 0 && !*err_msg())
		abort();
	if (r <= 0)
		return;
	if (!c.identity_token && (!c.user || !c.password))
		abort();
	if (c.user && auth_basic(&a, &c, &basic) >= 0 &&
		strspn(basic,
			"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") !=
			strlen(basic))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_fd_ int fd = memfd_create("auth.json", MFD_CLOEXEC);
	char path[64];

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	look_up(path, "docker.io", "library/debian");
	look_up(path, "a.example.com", "team/x");
	look_up(path, "localhost:5000", "");
	return 0;
}
