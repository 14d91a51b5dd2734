/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/container_dir.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/process.h"
#include "base/remove.h"

#define USES_MAX 65536 /* largest uses.json in bytes */
#define MAKE_TRIES 100
#define BOOT_ID_SIZE 64

/*
 * Reads the kernel's boot ID. The boot ID is recorded, because a pid and a start time identify a
 * process only until the next boot.
 */
static int read_boot_id(char ret[BOOT_ID_SIZE])
{
	static const char path[] = "/proc/sys/kernel/random/boot_id";
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, ret, BOOT_ID_SIZE - 1);

	if (n < 0)
		return err_sys("read %s", path);
	ret[n] = '\0';
	ret[strcspn(ret, "\n")] = '\0';
	return 0;
}

static int write_uses(int dir, const struct container_uses *u)
{
	_cleanup_json_out_ struct json_out o = {0};
	char boot_id[BOOT_ID_SIZE];
	uint64_t start_time;
	const char *text;
	size_t len;
	int r = read_boot_id(boot_id);

	if (r >= 0)
		r = process_start_time(u->maker, &start_time);
	if (r >= 0)
		r = json_out_init(&o, true);
	if (r < 0)
		return r;
	json_out_object(&o, NULL);
	json_out_str(&o, "stateRoot", u->state_root);
	json_out_str(&o, "bootId", boot_id);
	json_out_i64(&o, "maker", u->maker);
	json_out_u64(&o, "makerStartTime", start_time);
	json_out_str(&o, "layers", u->layers);
	json_out_str(&o, "image", u->image);
	json_out_str(&o, "manifest", u->manifest.text);
	json_out_end_object(&o);
	r = json_out_text(&o, &text, &len);
	return r < 0 ? r : fd_write_new_file(dir, CONTAINER_DIR_USES, text, len, 0600);
}

static int read_uses(const struct store *s, struct arena *a, const char *name, struct json **ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	char path[NAME_MAX + sizeof("/" CONTAINER_DIR_USES)];

	snprintf(path, sizeof(path), "%s/" CONTAINER_DIR_USES, name);
	int r = fd_read_file(s->containers, path, &text, USES_MAX);
	return r < 0 ? r : json_parse(a, strbuf_str(&text), text.len, path, ret);
}

static bool maker_lives(const struct json *j)
{
	const char *boot_id = json_get_str(j, "bootId");
	char now[BOOT_ID_SIZE];
	uint64_t noted, start;
	int64_t pid;

	if (!boot_id || json_get_i64(j, "maker", &pid) < 0 || pid <= 0 || pid > INT_MAX ||
		json_get_u64(j, "makerStartTime", &noted) < 0 || pid == getpid())
		return false;
	/*
	 * If the boot ID cannot be read, the container's directory counts as needed, because it
	 * must not be removed by mistake.
	 */
	if (read_boot_id(now) < 0)
		return true;
	if (!streq(now, boot_id))
		return false;
	int r = process_start_time((pid_t)pid, &start);
	return r == -ESRCH ? false : r < 0 || start == noted;
}

/* Returns true unless it is certain that the container no longer exists. */
static bool container_lives(const struct json *j, const char *name)
{
	const char *root = json_get_str(j, "stateRoot");
	char path[PATH_MAX];
	struct stat st;

	if (!root)
		return false;
	int n = snprintf(path, sizeof(path), "%s/%s/state.json", root, name);
	return n >= (int)sizeof(path) || lstat(path, &st) == 0 ||
	       (errno != ENOENT && errno != ENOTDIR);
}

int container_dir_is_needed(const struct store *s, const char *name)
{
	_cleanup_arena_ struct arena a = {0};
	struct json *j;
	int r = read_uses(s, &a, name, &j);

	/*
	 * A directory without uses.json was left by an interrupted removal, because a new directory
	 * has uses.json before it gets its final name.
	 */
	if (r < 0) {
		err_clear();
		return r == -ENOMEM ? r : 0;
	}
	return maker_lives(j) || container_lives(j, name);
}

/*
 * Makes a directory with a random name and with uses.json in it. The caller renames the directory
 * to its final name.
 */
static int make_new(const struct store *s, const struct container_uses *u, char ret_name[32])
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return err_sys("get random bytes");
	snprintf(ret_name, 32, ".new-%016" PRIx64, random);
	if (mkdirat(s->containers, ret_name, 0700) < 0)
		return err_sys("create %s/containers/%s", s->path, ret_name);
	_cleanup_fd_ int fd = openat(s->containers, ret_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys("open %s/containers/%s", s->path, ret_name);
	int r = write_uses(fd, u);
	return r < 0 ? r : take_fd(&fd);
}

static int give_name(const struct store *s, const char *from, const char *name)
{
	for (int i = 0; i < MAKE_TRIES; i++) {
		if (renameat2(s->containers, from, s->containers, name, RENAME_NOREPLACE) == 0)
			return 0;
		if (errno != EEXIST)
			return err_sys("create %s/containers/%s", s->path, name);
		int r = container_dir_is_needed(s, name);
		if (r < 0)
			return r;
		if (r > 0)
			break;
		container_dir_remove(s, name);
	}
	return err_set(EEXIST,
		"a container with the name \"%s\" exists: `caisson rm %s` removes it, --name gives "
		"another name",
		name, name);
}

int container_dir_make(const struct store *s, const char *name, const struct container_uses *u)
{
	char temporary[32];

	if (!*name || *name == '.' || strchr(name, '/') || strlen(name) > NAME_MAX)
		return err_set(EINVAL, "--name \"%.300s\": no name for a container", name);
	_cleanup_fd_ int fd = make_new(s, u, temporary);
	if (fd < 0)
		return fd;
	int r = give_name(s, temporary, name);
	if (r < 0) {
		char message[ERR_MAX];
		snprintf(message, sizeof(message), "%s", err_msg());
		container_dir_remove(s, temporary);
		return err_set(-r, "%s", message);
	}
	return take_fd(&fd);
}

/*
 * Renames the directory before removing it, so that no half removed directory has a container's
 * name, and two processes do not remove the same directory.
 */
void container_dir_remove(const struct store *s, const char *name)
{
	char gone[32];
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return;
	snprintf(gone, sizeof(gone), ".old-%016" PRIx64, random);
	if (renameat2(s->containers, name, s->containers, gone, RENAME_NOREPLACE) < 0 ||
		remove_tree(s->containers, gone, NULL) < 0)
		err_clear();
}

int container_dir_read(
	const struct store *s, struct arena *a, const char *name, struct container_uses *ret)
{
	struct json *j;
	int64_t pid;
	int r = read_uses(s, a, name, &j);

	if (r < 0)
		return r == -ENOENT ? err_set(ENOENT, "no container \"%.300s\" of an image in %s",
					      name, s->path)
				    : r;
	*ret = (struct container_uses){
		.state_root = json_get_str(j, "stateRoot"),
		.layers = json_get_str(j, "layers"),
		.image = json_get_str(j, "image"),
	};
	const char *manifest = json_get_str(j, "manifest");
	if (!ret->state_root || !ret->layers || !ret->image || !manifest ||
		json_get_i64(j, "maker", &pid) < 0)
		return err_set(EINVAL, "%s/containers/%s/" CONTAINER_DIR_USES " is damaged",
			s->path, name);
	ret->maker = (pid_t)pid;
	return digest_parse(manifest, CONTAINER_DIR_USES, &ret->manifest);
}
