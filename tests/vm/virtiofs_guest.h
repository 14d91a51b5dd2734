/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares what the cases of virtiofs_guest.c share. Each case runs in a process of its own, in an
 * empty directory of the read-write share unless its comment says otherwise. A CHECK() that fails
 * ends the process.
 */
#pragma once
#include <errno.h>
#include <stdbool.h>
#include <sys/types.h>

_Noreturn void fail(const char *file, int line, const char *what);

#define CHECK(x) \
	do { \
		errno = 0; \
		if (!(x)) \
			fail(__FILE__, __LINE__, #x); \
	} while (0)
#define FAILS(call, code) CHECK((call) < 0 && errno == (code))

void put(const char *path, const char *text, mode_t mode);
bool holds(const char *path, const char *text);
mode_t mode_of(const char *path);
/*
 * Runs f in a child process as the user `uid` with the group `gid` and the supplementary group
 * `extra`. A CHECK() that fails there fails the case.
 */
void as_user(uid_t uid, gid_t gid, gid_t extra, void (*f)(void));

/* the following cases are in virtiofs_names.c */
void case_create(void);
void case_append(void);
void case_rename(void);
void case_link(void);
void case_symlink(void);
void case_mknod(void);
void case_tmpfile(void);
void case_unlink_open(void);
void case_directories(void);
void case_readdir(void);
void case_remove_while_reading(void);

/* the following cases are in virtiofs_data.c */
void case_posix_locks(void);
void case_flock(void);
void case_mmap(void);
void case_large(void);
void case_sparse(void);
void case_fallocate(void);
void case_copy_range(void);

/* the following cases are in virtiofs_rights.c */
void case_xattr(void);
void case_acl(void);
void case_acl_submount(void);
void case_permissions(void);
void case_set_id(void);
void case_times(void);
