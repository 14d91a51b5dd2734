/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions that the subcommands share: they parse options and sizes, and open the images that the
 * command line names.
 */
#include "disk/tool.h"

#include <limits.h>
#include <stdarg.h>

#include "disk/remember.h"

static int print_help(const struct tool_command *self, const struct option_def *defs)
{
	const struct command_help h = {
		"caisson disk", self->name, self->usage, self->summary, self->text, NULL};
	_cleanup_strbuf_ struct strbuf out = {0};

	int r = options_help_command(&h, defs, &out);
	return r < 0 ? r : program_print(strbuf_str(&out), out.len);
}

static int bad_arguments(const struct tool_command *self, const char *how)
{
	return err_set(EINVAL, "%s: %s arguments. Usage: caisson disk %s %s", self->name, how,
		self->name, self->usage);
}

int tool_need_arguments(const struct tool_command *self, int n, int min)
{
	return n < min ? bad_arguments(self, "missing") : 0;
}

int tool_parse(const struct tool_command *self, const struct option_def *defs, int argc,
	char **argv, int *ret_n, int min, int max)
{
	bool help;
	int n = options_parse(defs, argc, argv, false, &help);

	if (n < 0)
		return err_ctx(n, "%s", self->name);
	if (help) {
		int r = print_help(self, defs);
		return r < 0 ? r : 1;
	}
	if (n > max)
		return bad_arguments(self, "too many");
	*ret_n = n;
	return tool_need_arguments(self, n, min);
}

int tool_size(const char *text, const char *what, uint64_t *ret)
{
	if (str_to_size(text, ret) < 0 || *ret > INT64_MAX - 511)
		return err_set(EINVAL,
			"%s: found \"%s\", expected a size such as 20G, at most 8 EiB", what, text);
	*ret = (*ret + 511) / 512 * 512;
	return 0;
}

const char *tool_human(uint64_t bytes, char *buf, size_t size)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double v = (double)bytes;
	size_t i = 0;

	while (v >= 1000 && i + 1 < ARRAY_SIZE(units)) {
		v /= 1024;
		i++;
	}
	snprintf(buf, size, "%0.3g %s", v, units[i]);
	return buf;
}

int tool_add_line(struct strbuf *out, const char *fmt, ...)
{
	_cleanup_free_ char *line = NULL;
	va_list args;

	va_start(args, fmt);
	int len = vasprintf(&line, fmt, args);
	va_end(args);
	if (len < 0) {
		line = NULL;
		return err_set(ENOMEM, "no memory");
	}
	str_clean(line, (size_t)len + 1, line, (size_t)len);
	return strbuf_addf(out, "%s\n", line);
}

static bool known(const char *format)
{
	for (size_t i = 0; disk_format_names(i); i++)
		if (streq(disk_format_names(i), format))
			return true;
	return false;
}

int tool_format(const char *path, const char *format, const char *option, const char **ret)
{
	static const char *const endings[][2] = {{"vhd", "vpc"}, {"vpc", "vhd"}, {"img", NULL}};
	const char *dot = strrchr(path, '.');

	*ret = format;
	if (format && known(format))
		return 0;
	/* vm.image.format has this name, but overlays name the format as QEMU does. */
	if (format && streq(format, "vhd"))
		return err_set(
			EINVAL, "%s vhd: the format VHD has the name vpc here, as in QEMU", option);
	if (format)
		return err_set(EINVAL,
			"%s: found the format \"%s\", which caisson does not know: `caisson disk "
			"--help` "
			"lists them",
			option, format);
	if (dot && known(dot + 1)) {
		*ret = dot + 1;
		return 0;
	}
	for (size_t i = 0; dot && i < ARRAY_SIZE(endings); i++)
		if (streq(endings[i][0], dot + 1) && endings[i][1] && known(endings[i][1])) {
			*ret = endings[i][1];
			return 0;
		}
	return err_set(EINVAL,
		"%s: the file name does not end in a known format, and caisson does not guess "
		"the format from the content: name it with %s, such as %s qcow2",
		path, option, option);
}

void tool_image_release(struct tool_image *i)
{
	disk_close(i->disk);
	i->disk = NULL;
	fd_close(&i->dir.fd);
	free(i->dir_path);
	free(i->real_path);
	i->dir_path = i->real_path = NULL;
}

static int find_directory(struct tool_image *i)
{
	char *slash;

	if (i->backing && streq(i->backing, "off"))
		return 0;
	if (i->backing && !streq(i->backing, "on")) {
		i->dir_path = realpath(i->backing, NULL);
		if (!i->dir_path)
			return err_sys("--backing %s", i->backing);
		return 0;
	}
	if (!i->backing) {
		i->dir_path = remember_get(i->path);
		return 0;
	}
	i->dir_path = strdup(i->real_path);
	if (!i->dir_path)
		return err_set(ENOMEM, "no memory");
	slash = strrchr(i->dir_path, '/');
	slash[slash == i->dir_path ? 1 : 0] = '\0';
	return 0;
}

/*
 * Sets o->dir and o->path, which tell disk_open() beneath which directory the files may be that the
 * image names. Does nothing if no directory is allowed.
 */
static int tool_use_directory(struct tool_image *i, struct disk_options *o)
{
	size_t len;

	int r = find_directory(i);
	if (r < 0 || !i->dir_path)
		return r;
	i->dir.fd = open(i->dir_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (i->dir.fd < 0)
		return err_sys("--backing %s", i->dir_path);
	i->dir.path = i->dir_path;
	len = strlen(i->dir_path);
	if (len > 1) {
		if (strncmp(i->real_path, i->dir_path, len) != 0 || i->real_path[len] != '/')
			return err_set(EINVAL,
				"--backing %s: expected a directory with %s somewhere beneath it",
				i->dir_path, i->path);
		len++;
	}
	o->dir = &i->dir;
	o->path = i->real_path + len;
	return 0;
}

int tool_open(struct tool_image *i)
{
	struct disk_options o = {.name = i->path,
		.write = i->write,
		.shared = i->shared,
		.alone = i->alone,
		.chain = i->chain,
		.unsafe = i->unsafe,
		.ignore_dirty = i->ignore_dirty,
		.discard_zeroed = i->discard_zeroed,
		.backing_format = i->backing_format,
		.key = i->key};

	int r = tool_format(i->path, i->format, "-f", &o.format);
	if (r < 0)
		return r;
	_cleanup_fd_ int fd =
		open(i->path, (i->write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_sys("%s: open", i->path);
	i->real_path = realpath(i->path, NULL);
	if (!i->real_path)
		return err_sys("%s: find its directory", i->path);
	r = tool_use_directory(i, &o);
	return r < 0 ? r : disk_open(&i->disk, take_fd(&fd), &o);
}

char *tool_beside(const char *path, const char *name, struct arena *a)
{
	const char *slash = strrchr(path, '/');

	return name[0] == '/' || !slash
		       ? arena_strdup(a, name)
		       : arena_printf(a, "%.*s/%s", (int)(slash - path), path, name);
}

/* Shortens the path a to the deepest directory that contains both a and the path b. */
static void cut_to_common(char *a, const char *b)
{
	size_t common = 0;

	for (size_t i = 0; a[i] && a[i] == b[i]; i++)
		if (a[i] == '/')
			common = i;
	a[common ? common : 1] = '\0';
}

/* Finds the real path of a file that need not be there yet. The caller frees *ret. */
static int real_path_of(const char *path, char **ret)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *folder = strndup(path, slash ? (size_t)(slash - path + 1) : 0);

	*ret = realpath(path, NULL);
	if (*ret)
		return 0;
	_cleanup_free_ char *real =
		folder && errno == ENOENT ? realpath(*folder ? folder : ".", NULL) : NULL;
	if (!real)
		return err_sys("%s: find its directory", path);
	if (asprintf(ret, "%s/%s", real, slash ? slash + 1 : path) < 0)
		*ret = NULL;
	return *ret ? 0 : err_set(ENOMEM, "no memory");
}

int tool_common_directory(const char *path, const char *backing, char **ret)
{
	_cleanup_free_ char *overlay = NULL, *base = NULL;
	char name[PATH_MAX];

	int r = real_path_of(path, &overlay);
	if (r < 0)
		return r;
	const char *folder_end = strrchr(overlay, '/');
	snprintf(name, sizeof(name), "%.*s/%s", backing[0] == '/' ? 0 : (int)(folder_end - overlay),
		overlay, backing);
	base = realpath(name, NULL);
	if (!base)
		return err_sys("%s: backing file \"%s\"", path, backing);
	cut_to_common(overlay, base);
	*ret = take_ptr(overlay);
	return 0;
}

int tool_allow_backing(const char *path, const char *backing)
{
	_cleanup_free_ char *directory = NULL;

	int r = tool_common_directory(path, backing, &directory);
	if (r >= 0)
		remember_set(path, directory);
	return r;
}
