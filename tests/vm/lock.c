/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock KIND FILE SECONDS: locks the file with flock(2) ("flock") or fcntl(2) ("posix"), and keeps
 * the lock for SECONDS. It waits until it gets the lock. With "try-" in front of KIND it does not
 * wait, and exits with 1 if another process has the lock.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	int only_try = strncmp(argv[1], "try-", 4) == 0;
	int fd = open(argv[2], O_RDWR);
	int r;
	if (strcmp(argv[1] + 4 * only_try, "flock") == 0) {
		r = flock(fd, only_try ? LOCK_EX | LOCK_NB : LOCK_EX);
	} else {
		struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
		r = fcntl(fd, only_try ? F_SETLK : F_SETLKW, &l);
	}
	if (r < 0)
		return 1;
	usleep((useconds_t)(atof(argv[3]) * 1e6));
	return 0;
}
