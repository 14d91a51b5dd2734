/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the passphrases of encrypted images from the files that the options --key name. */
#include <string.h>

#include "disk/tool.h"

#define KEY_MAX 65536 /* size in bytes of the largest passphrase */

/* Reads to the end of fd, or until the buffer is full. */
static int read_up_to(int fd, uint8_t *buf, size_t room, size_t *ret)
{
	*ret = 0;
	while (*ret < room) {
		ssize_t n = read(fd, buf + *ret, room - *ret);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		*ret += (size_t)n;
	}
	return 0;
}

int tool_key_load(struct tool_key *k, const char *option, const struct disk_key **ret)
{
	*ret = NULL;
	if (!k->file)
		return 0;
	_cleanup_fd_ int fd = streq(k->file, "-") ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
						  : open(k->file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys("%s %s: open", option, k->file);
	k->bytes = malloc(KEY_MAX + 1);
	if (!k->bytes)
		return err_set(ENOMEM, "no memory");
	int r = read_up_to(fd, k->bytes, KEY_MAX + 1, &k->key.len);
	if (r < 0)
		return err_set(-r, "%s %s: read: %s", option, k->file, err_text(-r));
	if (k->key.len == 0 || k->key.len > KEY_MAX)
		return err_set(EINVAL,
			"%s %s: found %s bytes, expected a passphrase of 1 to %d bytes", option,
			k->file, k->key.len ? "more" : "no", KEY_MAX);
	k->key.bytes = k->bytes;
	*ret = &k->key;
	return 0;
}

void tool_key_release(struct tool_key *k)
{
	if (k->bytes)
		explicit_bzero(k->bytes, KEY_MAX + 1);
	free(k->bytes);
	*k = (struct tool_key){0};
}
