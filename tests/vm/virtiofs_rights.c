/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cases of virtiofs_guest.c about the rights on files of a share: modes, attributes, ACLs, times.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "virtiofs_guest.h"

void case_xattr(void)
{
	char b[4096], value[2000];
	put("file", "", 0600);
	memset(value, 'v', sizeof(value));
	CHECK(setxattr("file", "user.one", "1", 1, XATTR_CREATE) == 0);
	FAILS(setxattr("file", "user.one", "1", 1, XATTR_CREATE), EEXIST);
	FAILS(setxattr("file", "user.two", "2", 1, XATTR_REPLACE), ENODATA);
	CHECK(setxattr("file", "user.two", value, sizeof(value), 0) == 0);
	CHECK(getxattr("file", "user.two", b, sizeof(b)) == sizeof(value));
	CHECK(memcmp(b, value, sizeof(value)) == 0);
	CHECK(getxattr("file", "user.two", NULL, 0) == sizeof(value));
	FAILS(getxattr("file", "user.two", b, 10), ERANGE);
	CHECK(listxattr("file", b, sizeof(b)) == 18);
	CHECK(removexattr("file", "user.one") == 0);
	FAILS(getxattr("file", "user.one", b, sizeof(b)), ENODATA);
	/* The guest must not change the host's SELinux labels. */
	FAILS(setxattr("file", "security.selinux", "x", 1, 0), EOPNOTSUPP);
	FAILS(setxattr("file", "trusted.x", "x", 1, 0), EOPNOTSUPP);
}

static void acl_reader(void)
{
	CHECK(open("shared", O_RDONLY) >= 0);
}

static void acl_stranger(void)
{
	FAILS(open("shared", O_RDONLY), EACCES);
}

/* Checks POSIX ACLs in a file system that the host has mounted beneath the share. */
void case_acl_submount(void)
{
	CHECK(mkdir("/rw/mounted/acl", 0777) == 0 && chdir("/rw/mounted/acl") == 0);
	case_acl();
}

void case_acl(void)
{
	/*
	 * The ACL user::rw- user:1000:r-- group::--- mask::r-- other::---, in the format of the
	 * xattr.
	 */
	static const uint32_t acl[] = {2, 6 << 16 | 1, UINT32_MAX, 4 << 16 | 2, 1000, 0 << 16 | 4,
		UINT32_MAX, 4 << 16 | 0x10, UINT32_MAX, 0 << 16 | 0x20, UINT32_MAX};
	put("shared", "x", 0600);
	CHECK(setxattr("shared", "system.posix_acl_access", acl, sizeof(acl), 0) == 0);
	as_user(1000, 1000, 0, acl_reader);
	as_user(1001, 1001, 0, acl_stranger);
	/*
	 * A file must inherit the default ACL of its directory, and then the umask must have no
	 * effect.
	 */
	CHECK(mkdir("dir", 0755) == 0);
	CHECK(setxattr("dir", "system.posix_acl_default", acl, sizeof(acl), 0) == 0);
	umask(077);
	put("dir/file", "", 0666);
	CHECK(mode_of("dir/file") == (S_IFREG | 0640));
}

static void user_denied(void)
{
	FAILS(open("private", O_RDONLY), EACCES);
	FAILS(open("root-dir/x", O_CREAT | O_WRONLY, 0600), EACCES);
	FAILS(unlink("private"), EACCES);
	FAILS(chmod("private", 0777), EPERM);
	FAILS(chown("private", 1000, 1000), EPERM);
	/* The directory "open" is sticky, so only root may remove the file of root from it. */
	FAILS(unlink("open/root-file"), EPERM);
	put("open/mine", "x", 0644);
	CHECK(mkdir("open/dir", 0700) == 0 && symlink("x", "open/link") == 0);
	FAILS(chown("open/mine", 0, 0), EPERM);
}

static void user_in_group(void)
{
	struct stat st;
	put("group/file", "x", 0660);
	CHECK(stat("group/file", &st) == 0 && st.st_uid == 1000 && st.st_gid == 2000);
	CHECK(mkdir("group/dir", 0770) == 0);
	CHECK(stat("group/dir", &st) == 0 && (st.st_mode & S_ISGID) && st.st_gid == 2000);
}

void case_permissions(void)
{
	struct stat st;
	CHECK(chmod(".", 0755) == 0);
	put("private", "x", 0600);
	CHECK(mkdir("root-dir", 0755) == 0 && mkdir("open", 0777) == 0 &&
		chmod("open", 01777) == 0);
	put("open/root-file", "x", 0600);
	CHECK(mkdir("group", 0770) == 0 && chown("group", 0, 2000) == 0 &&
		chmod("group", 02770) == 0);
	as_user(1000, 1000, 0, user_denied);
	CHECK(lstat("open/mine", &st) == 0 && st.st_uid == 1000 && st.st_gid == 1000);
	CHECK(lstat("open/link", &st) == 0 && st.st_uid == 1000);
	/*
	 * User 1000 may write to the file only as a member of the supplementary group 2000, which
	 * the FUSE request does not name.
	 */
	as_user(1000, 1000, 2000, user_in_group);
	umask(027);
	put("masked", "", 0666);
	CHECK(mkdir("masked-dir", 0777) == 0);
	CHECK(mode_of("masked") == (S_IFREG | 0640) && mode_of("masked-dir") == (S_IFDIR | 0750));
}

static void user_writes(void)
{
	int fd = open("set-id", O_WRONLY);
	CHECK(fd >= 0 && write(fd, "x", 1) == 1);
}

static void user_truncates(void)
{
	CHECK(truncate("set-id", 0) == 0);
}

void case_set_id(void)
{
	put("set-id", "x", 0600);
	for (int i = 0; i < 2; i++) {
		CHECK(chown("set-id", 1000, 1000) == 0 && chmod("set-id", 06777) == 0);
		CHECK(mode_of("set-id") == (S_IFREG | 06777));
		as_user(1000, 1000, 0, i ? user_truncates : user_writes);
		CHECK(mode_of("set-id") == (S_IFREG | 0777));
	}
	CHECK(chmod("set-id", 06777) == 0 && chown("set-id", 1001, 1001) == 0);
	CHECK(mode_of("set-id") == (S_IFREG | 0777));
}

void case_times(void)
{
	struct timespec t[2] = {{1000000001, 123456789}, {-5, 987654321}};
	struct stat st;
	put("file", "", 0600);
	CHECK(utimensat(AT_FDCWD, "file", t, 0) == 0 && stat("file", &st) == 0);
	CHECK(st.st_atim.tv_sec == 1000000001 && st.st_atim.tv_nsec == 123456789);
	CHECK(st.st_mtim.tv_sec == -5 && st.st_mtim.tv_nsec == 987654321);
	t[0].tv_nsec = UTIME_OMIT;
	t[1].tv_nsec = UTIME_NOW;
	CHECK(utimensat(AT_FDCWD, "file", t, 0) == 0 && stat("file", &st) == 0);
	CHECK(st.st_atim.tv_sec == 1000000001 && st.st_mtim.tv_sec > 1700000000);
}
