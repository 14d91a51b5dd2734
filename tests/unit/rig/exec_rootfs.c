/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rig/exec_rootfs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/path.h"
#include "step/step.h"
#include "unit/rig/child.h"

static char rootfs[] = "/tmp/caisson-exec-XXXXXX";

const char *exec_rootfs(void)
{
	return rootfs;
}

static void put(const char *path, const char *text, mode_t mode)
{
	char full[PATH_MAX];

	snprintf(full, sizeof(full), "%s/%s", rootfs, path);
	_cleanup_fd_ int fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	CHECK(fd >= 0 && fd_write_all(fd, text, strlen(text)) == 0 && fchmod(fd, mode) == 0);
}

/* arena of the test's child process; its memory is freed when that process ends */
static struct arena arena;
static const struct plan plan_of_create;

struct step_ctx exec_rootfs_enter(const char *root)
{
	CHECK(chroot(root) == 0 && chdir("/") == 0);
	return (struct step_ctx){
		.plan = &plan_of_create,
		.root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC),
		.proc = -EBADF,
		.console = -EBADF,
		.arena = &arena,
	};
}

int find_program(struct step_ctx *c, const struct spec_process *p)
{
	struct step s = {.process = p};

	c->exe = NULL;
	c->env = NULL;
	err_clear();
	return step_find_program(c, &s);
}

const char *env_of(const struct step_ctx *c, const char *name)
{
	const char *found = NULL;

	for (char *const *e = c->env; *e; e++)
		if (strncmp(*e, name, strlen(name)) == 0 && (*e)[strlen(name)] == '=') {
			CHECK(!found); /* the environment must have the variable only once */
			found = *e + strlen(name) + 1;
		}
	return found;
}

static int fill_rootfs(void)
{
	char command[512];

	snprintf(command, sizeof(command),
		"cd %s && chmod 755 . && mkdir -p etc bin usr/bin roots users private && "
		"ln -s loop bin/loop && ln -s /bin/prog bin/link && mkfifo -m 777 bin/fifo && "
		"ln -s ../../../../../etc up",
		rootfs);
	if (system(command) != 0)
		return -1;
	put("etc/passwd",
		"root:x:0:0:root:/root:/bin/sh\ncut:x:5:5\nwww:x:33:33:www:/var/www:/bin/false\n"
		"nohome:x:34:34:::/bin/sh\nlast:x:77:77::/last:/bin/sh",
		0644);
	put("bin/prog", "#!/bin/sh\n", 0755);
	put("usr/bin/twice", "#!/bin/sh\n", 0644);
	put("bin/twice", "#!/bin/sh\n", 0755);
	put("bin/no-interpreter", "#!/no/interpreter\n", 0755);
	put("bin/no-format",
		"\x7f"
		"not an ELF file",
		0755);
	put("roots/pick", "#!/bin/sh\nexit 41\n", 0700);
	put("users/pick", "#!/bin/sh\nexit 42\n", 0755);
	put("private/pick", "#!/bin/sh\nexit 42\n", 0755);
	snprintf(command, sizeof(command), "cd %s && chown 1000:1000 private && chmod 700 private",
		rootfs);
	return geteuid() == 0 ? system(command) : 0;
}

int make_rootfs(void **state)
{
	return mkdtemp(rootfs) ? fill_rootfs() : -1;
}

int remove_rootfs(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", rootfs);
	return system(command);
}
