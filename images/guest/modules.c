/* SPDX-License-Identifier: Apache-2.0 */
#include "images/guest/modules.h"

#include <fcntl.h>
#include <stdlib.h>

#include "base/fd.h"

struct modules {
	const char *what;
	/*
	 * modules sorted by name; of two modules with the same name, the one with a file comes
	 * before the built-in one
	 */
	struct module *v;
	size_t n;
};

/* The place in a file (its name and a line number) that an error message names. */
struct place {
	const char *dir;
	const char *file;
	size_t line;
};

/* How far modules_resolve() has come with a module. */
enum progress { UNSEEN, ENTERED, LISTED };

struct resolver {
	struct arena *arena;
	const struct modules *m;
	enum progress *state; /* array with the progress of each module in m */
	struct module_list *out;
};

static int err_malformed(const struct place *p, const char *problem, const char *text)
{
	return err_set(EINVAL, "%s/%s: line %zu: %s: \"%.128s\": create it again with depmod(8)",
		p->dir, p->file, p->line, problem, text);
}

/*
 * Reads from a path such as "dir/my-mod.ko.xz" the canonical name of the module ("my_mod") and how
 * it is packed.
 */
static int parse_file_name(const char *path, char name[MODULES_MAX_NAME + 1],
	enum module_packing *ret_packing, const char **ret_problem)
{
	static const char *const suffixes[] = {[MODULE_PLAIN] = ".ko",
		[MODULE_GZIP] = ".ko.gz",
		[MODULE_XZ] = ".ko.xz",
		[MODULE_ZSTD] = ".ko.zst"};
	const char *slash = strrchr(path, '/');
	const char *base = slash ? slash + 1 : path;
	size_t len = strlen(base);

	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		size_t n = strlen(suffixes[i]);

		if (len <= n || !streq(base + len - n, suffixes[i]))
			continue;
		if (len - n > MODULES_MAX_NAME) {
			*ret_problem = "a module's name is too long";
			return -EINVAL;
		}
		for (size_t j = 0; j < len - n; j++)
			name[j] = base[j] == '-' ? '_' : base[j];
		name[len - n] = '\0';
		*ret_packing = (enum module_packing)i;
		return 0;
	}
	*ret_problem = "expected a name that ends in .ko, .ko.gz, .ko.xz or .ko.zst";
	return -EINVAL;
}

/*
 * Returns whether the path stays beneath its directory, because it is relative and has no component
 * "", "." or "..".
 */
static bool path_is_plain(const char *path)
{
	for (;;) {
		size_t n = strcspn(path, "/");

		if (n == 0 || (n <= 2 && strncmp(path, "..", n) == 0))
			return false;
		if (!path[n])
			return true;
		path += n + 1;
	}
}

static int add_module(struct arena *a, struct modules *m, const struct place *p, char *line)
{
	bool builtin = streq(p->file, "modules.builtin");
	char *colon = strchr(line, ':');
	struct module *mod = &m->v[m->n];
	char name[MODULES_MAX_NAME + 1];
	const char *problem;

	if (builtin ? colon != NULL : colon == NULL)
		return err_malformed(
			p, builtin ? "unexpected ':'" : "expected \"PATH: PATH ...\"", line);
	if (colon)
		*colon = '\0';
	if (line[strcspn(line, " \t\r")])
		return err_malformed(p, "a blank in a path", line);
	if (!path_is_plain(line))
		return err_malformed(p, "expected a path beneath the directory", line);
	if (parse_file_name(line, name, &mod->packing, &problem) < 0)
		return err_malformed(p, problem, line);
	mod->name = arena_strdup(a, name);
	if (!mod->name)
		return -ENOMEM;
	mod->path = line;
	mod->builtin = builtin;
	mod->deps = colon ? colon + 1 : "";
	m->n++;
	return 0;
}

static int parse_text(
	struct arena *a, struct modules *m, const char *file, const struct strbuf *text)
{
	struct place p = {.dir = m->what, .file = file};
	char *line, *next, *copy;
	int r;

	if (text->len > MODULES_MAX_FILE)
		return err_set(EFBIG, "%s/%s: found %zu bytes, expected at most %d", p.dir, file,
			text->len, MODULES_MAX_FILE);
	if (memchr(strbuf_str(text), '\0', text->len))
		return err_set(EINVAL,
			"%s/%s: a NUL character: expected text, written by depmod(8)", p.dir, file);
	copy = arena_strndup(a, strbuf_str(text), text->len);
	if (!copy)
		return -ENOMEM;
	for (line = copy; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		p.line++;
		if (!*line || *line == '#')
			continue;
		if (m->n >= MODULES_MAX)
			return err_set(E2BIG, "%s/%s: line %zu: found more than %d modules", p.dir,
				file, p.line, MODULES_MAX);
		r = add_module(a, m, &p, line);
		if (r < 0)
			return r;
	}
	return 0;
}

static size_t count_lines(const struct strbuf *text)
{
	size_t n = 1;

	for (size_t i = 0; i < text->len; i++)
		n += text->s[i] == '\n';
	return n;
}

static int by_name(const void *a, const void *b)
{
	const struct module *x = a, *y = b;
	int r = strcmp(x->name, y->name);

	return r ? r : x->builtin - y->builtin;
}

/*
 * Keeps one module of each name. A module with a file replaces a built-in module of the same name,
 * because modprobe(8) looks into modules.dep first. A name that is twice in modules.dep is an
 * error, because nothing tells which of the two is right.
 */
static int drop_duplicates(struct modules *m)
{
	size_t kept = 0;

	for (size_t i = 0; i < m->n; i++) {
		const struct module *last = kept ? &m->v[kept - 1] : NULL;

		if (!last || !streq(last->name, m->v[i].name))
			m->v[kept++] = m->v[i];
		else if (!m->v[i].builtin)
			return err_set(EINVAL,
				"%s/modules.dep: the module %s is in it twice, as %.128s and "
				"%.128s: create it again with depmod(8)",
				m->what, last->name, last->path, m->v[i].path);
	}
	m->n = kept;
	return 0;
}

int modules_parse(struct arena *a, const struct strbuf *dep, const struct strbuf *builtin,
	const char *what, const struct modules **ret)
{
	struct modules *m = arena_alloc(a, sizeof(*m));
	size_t lines = count_lines(dep) + count_lines(builtin);
	int r;

	if (!m)
		return -ENOMEM;
	m->what = arena_strdup(a, what);
	m->v = arena_array(a, lines < MODULES_MAX ? lines : MODULES_MAX, sizeof(*m->v));
	if (!m->what || !m->v)
		return -ENOMEM;
	r = parse_text(a, m, "modules.dep", dep);
	if (r == 0)
		r = parse_text(a, m, "modules.builtin", builtin);
	if (r < 0)
		return r;
	qsort(m->v, m->n, sizeof(*m->v), by_name);
	r = drop_duplicates(m);
	if (r < 0)
		return r;
	*ret = m;
	return 0;
}

int modules_load(struct arena *a, int dirfd, const char *what, const struct modules **ret)
{
	_cleanup_strbuf_ struct strbuf dep = {0}, builtin = {0};
	int r = fd_read_file(dirfd, "modules.dep", &dep, MODULES_MAX_FILE);

	if (r == -ENOENT)
		return err_set(ENOENT,
			"%s/modules.dep: the file is missing: create it with \"depmod VERSION\"",
			what);
	if (r < 0)
		return err_ctx(r, "%s", what);
	r = fd_read_file(dirfd, "modules.builtin", &builtin, MODULES_MAX_FILE);
	if (r < 0 && r != -ENOENT)
		return err_ctx(r, "%s", what);
	err_clear();
	return modules_parse(a, &dep, &builtin, what, ret);
}

const struct module *modules_find(const struct modules *m, const char *name)
{
	char canonical[MODULES_MAX_NAME + 1];
	size_t low = 0, high = m->n, i;

	for (i = 0; name[i]; i++) {
		if (i == MODULES_MAX_NAME)
			return NULL;
		canonical[i] = name[i] == '-' ? '_' : name[i];
	}
	canonical[i] = '\0';
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int c = strcmp(canonical, m->v[middle].name);

		if (c == 0)
			return &m->v[middle];
		if (c < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

/*
 * Returns the module that the path of a dependency names, or NULL with an error message if there is
 * no such module.
 */
static const struct module *find_dependency(
	const struct modules *m, const struct module *mod, const char *path)
{
	const struct module *dep = NULL;
	char name[MODULES_MAX_NAME + 1];
	enum module_packing packing;
	const char *problem;

	if (parse_file_name(path, name, &packing, &problem) == 0)
		dep = modules_find(m, name);
	/*
	 * The whole path is compared, because two modules of the same name may be in different
	 * directories.
	 */
	if (dep && streq(dep->path, path))
		return dep;
	err_set(EINVAL,
		"%s/modules.dep: %s depends on \"%.128s\", which has no line of its own: create it "
		"again with depmod(8)",
		m->what, mod->name, path);
	return NULL;
}

/*
 * Adds mod to the list, after its dependencies. A line of modules.dep has all dependencies,
 * including indirect ones, the deepest last, so the dependencies are added from right to left. The
 * lines of the dependencies are followed too, in case the file's lines have only direct
 * dependencies.
 */
static int list_module(struct resolver *s, const struct module *mod, int depth)
{
	enum progress *state = &s->state[mod - s->m->v];
	size_t end = strlen(mod->deps);

	if (*state == LISTED || mod->builtin)
		return 0;
	if (*state == ENTERED)
		return err_set(
			ELOOP, "%s/modules.dep: %s depends on itself", s->m->what, mod->name);
	if (depth == MODULES_MAX_DEPTH)
		return err_set(ELOOP, "%s/modules.dep: %s: dependencies more than %d deep",
			s->m->what, mod->name, MODULES_MAX_DEPTH);
	*state = ENTERED;
	while (end > 0) {
		_cleanup_free_ char *path = NULL;
		const struct module *dep;
		size_t start = end;
		int r;

		while (start > 0 && !strchr(" \t\r", mod->deps[start - 1]))
			start--;
		if (start == end) {
			end--;
			continue;
		}
		path = strndup(mod->deps + start, end - start);
		if (!path)
			return err_set(ENOMEM, "%s/modules.dep: out of memory", s->m->what);
		dep = find_dependency(s->m, mod, path);
		r = dep ? list_module(s, dep, depth + 1) : -EINVAL;
		if (r < 0)
			return r;
		end = start;
	}
	*state = LISTED;
	s->out->v[s->out->n++] = mod;
	return 0;
}

int modules_resolve(struct arena *a, const struct modules *m, const char *const *wanted, size_t n,
	struct module_list *ret)
{
	struct module_list out = {.v = arena_array(a, m->n + 1, sizeof(*out.v))};
	struct resolver s = {.arena = a, .m = m, .out = &out};

	s.state = arena_array(a, m->n + 1, sizeof(*s.state));
	if (!out.v || !s.state)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const struct module *mod = modules_find(m, wanted[i]);
		int r;

		if (!mod)
			return err_set(ENOENT,
				"kernel module %.128s: neither in modules.dep nor in "
				"modules.builtin of %s: this kernel has no such module, or its "
				"package of extra modules is not installed",
				wanted[i], m->what);
		r = list_module(&s, mod, 0);
		if (r < 0)
			return err_ctx(r, "kernel module %s", mod->name);
	}
	*ret = out;
	return 0;
}
