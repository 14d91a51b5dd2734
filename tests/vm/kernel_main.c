/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_main INIT INITRAMFS [KERNEL]: writes the initramfs of a guest and prints the path and the
 * release of the kernel that it is for.
 */
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "images/guest/guest_kernel.h"

static int run(struct arena *a, char **argv)
{
	_cleanup_guest_kernel_ struct guest_kernel k = GUEST_KERNEL_INIT;
	struct stat st;
	int r = guest_kernel_open(
		a, &(struct guest_kernel_request){.init = argv[1], .kernel = argv[3]}, &k);

	if (r < 0)
		return r;
	_cleanup_fd_ int out = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (out < 0 || fstat(k.initramfs, &st) < 0 ||
		sendfile(out, k.initramfs, NULL, (size_t)st.st_size) != st.st_size)
		return err_sys("write %s", argv[2]);
	printf("%s %s\n", k.path, k.release);
	return 0;
}

int main(int argc, char **argv)
{
	_cleanup_arena_ struct arena a = {0};

	if (argc < 3 || argc > 4)
		return 2;
	if (run(&a, argv) < 0) {
		fprintf(stderr, "%s\n", err_msg());
		return 1;
	}
	return 0;
}
