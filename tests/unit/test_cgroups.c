/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the parts of cgroups/ that need no kernel: conversions, names, parsers, and properties for
 * systemd.
 */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "cgroups/cg_internal.h"
#include "cgroups/systemd/sdbus.h"

/*
 * Checks cpu.weight against reference values, which another program has computed as ceil(10 **
 * ((l*l + 125*l)/612 - 7/34)) with l = log2(shares).
 */
static void test_cpu_weight(void **state)
{
	static const uint64_t expected[][2] = {{0, 0}, {1, 1}, {2, 1}, {3, 2}, {10, 4}, {100, 17},
		{256, 35}, {512, 59}, {1000, 99}, {1024, 100}, {1025, 101}, {2048, 174},
		{4096, 303}, {10240, 639}, {65536, 3023}, {131072, 5478}, {262143, 10000},
		{262144, 10000}, {UINT64_MAX, 10000}};

	for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
		assert_int_equal(cg_weight_from_shares(expected[i][0]), expected[i][1]);
	uint64_t last = 0;
	for (uint64_t s = 2; s <= 262144; s++) {
		double l = log2((double)s), exact = pow(10, (l * l + 125 * l) / 612.0 - 7.0 / 34.0);
		uint64_t w = cg_weight_from_shares(s);
		/*
		 * The weight may differ from the exact value of the formula by one, because the
		 * last bits of a double decide how it is rounded.
		 */
		assert_true((double)w >= exact * (1 - 1e-9) && (double)w < exact * (1 + 1e-9) + 1);
		assert_true(w >= last && w >= 1 && w <= 10000);
		last = w;
	}
}

static void test_io_weight(void **state)
{
	assert_int_equal(cg_io_weight_from_blkio(10), 1);
	assert_int_equal(cg_io_weight_from_blkio(500), 4950);
	assert_int_equal(cg_io_weight_from_blkio(1000), 10000);
}

static struct opt_i64 some(int64_t v)
{
	return (struct opt_i64){true, v};
}

static void test_swap(void **state)
{
	struct opt_i64 none = {0};
	int64_t v;

	assert_int_equal(cg_swap_from_spec(none, none, &v), 0);
	assert_int_equal(cg_swap_from_spec(some(100), none, &v), 0);
	assert_int_equal(cg_swap_from_spec(some(100), some(0), &v), 0);
	assert_int_equal(cg_swap_from_spec(some(100), some(150), &v), 1);
	assert_int_equal(v, 50);
	assert_int_equal(cg_swap_from_spec(some(100), some(100), &v), 1);
	assert_int_equal(v, 0);
	assert_int_equal(cg_swap_from_spec(some(100), some(-1), &v), 1);
	assert_int_equal(v, -1);
	assert_int_equal(cg_swap_from_spec(some(-1), none, &v), 1);
	assert_int_equal(v, -1);
	assert_int_equal(cg_swap_from_spec(some(-1), some(70), &v), 1);
	assert_int_equal(v, 70);
	assert_int_equal(cg_swap_from_spec(some(100), some(99), &v), -EINVAL);
	assert_non_null(strstr(err_msg(), "at least memory.limit, 100, found 99"));
	assert_int_equal(cg_swap_from_spec(none, some(99), &v), -EINVAL);
	assert_int_equal(cg_swap_from_spec(some(100), some(-2), &v), -EINVAL);
}

static void test_slices(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	const char *path;
	static const char *const good[][2] = {{"a.slice", "/a.slice"},
		{"a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice"}, {"-.slice", "/"},
		{"machine.slice", "/machine.slice"},
		{"kubepods-besteffort-pod1.slice", "/kubepods.slice/kubepods-besteffort.slice/"
						   "kubepods-besteffort-pod1.slice"}};
	static const char *const bad[] = {"", ".slice", "a", "a.scope", "a/b.slice", "a--b.slice",
		"-a.slice", "a-.slice", "slice"};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(cg_expand_slice(&a, good[i][0], &path), 0);
		assert_string_equal(path, good[i][1]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(cg_expand_slice(&a, bad[i], &path), -EINVAL);
}

static void test_scope_names(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	static const struct {
		const char *path;
		bool user;
		/*
		 * the names of scope and slice that caisson must choose; NULL: cgroups_path must be
		 * refused
		 */
		const char *scope, *slice;
	} cases[] = {
		{NULL, false, "caisson-web.scope", "system.slice"},
		{"", true, "caisson-web.scope", "user.slice"},
		{"machine.slice:libpod:0a1b", false, "libpod-0a1b.scope", "machine.slice"},
		{"system.slice:docker:0a1b", false, "docker-0a1b.scope", "system.slice"},
		{"kubepods-pod1.slice:cri-containerd:x", false, "cri-containerd-x.scope",
			"kubepods-pod1.slice"},
		{":libpod:x", true, "libpod-x.scope", "user.slice"},
		{"user.slice::x", true, "x.scope", "user.slice"},
		{"/a/b", false, NULL, NULL},
		{"a.slice:b", false, NULL, NULL},
		{"a.slice:b:c:d", false, NULL, NULL},
		{"a.slice:b:", false, NULL, NULL},
		{"a.slice:b:c.slice", false, NULL, NULL},
		{"a.slice:b:../c", false, NULL, NULL},
		{"a--b.slice:b:c", false, NULL, NULL},
		{"a:b:c", false, NULL, NULL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct cg_options opt = {.id = "web", .cgroups_path = cases[i].path};
		struct cgroup cg = {0};
		int r = cg_scope_names(&a, &opt, cases[i].user, &cg);
		if (!cases[i].scope) {
			assert_int_equal(r, -EINVAL);
			assert_non_null(strstr(err_msg(), "linux.cgroupsPath"));
			continue;
		}
		assert_int_equal(r, 0);
		assert_string_equal(cg.scope, cases[i].scope);
		assert_string_equal(cg.slice, cases[i].slice);
	}
}

static void test_paths(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	const char *path;
	char name[400];
	static const char *const good[][2] = {{"/a/b", "/a/b"}, {"a", "/a"}, {"//a///b/", "/a/b"},
		{"/a/./b", "/a/b"}, {"/", "/"}, {"", "/"}, {"/a..b/..c", "/a..b/..c"}};
	static const char *const bad[] = {
		"..", "/..", "/a/../b", "../a", "/a/..", "/a\nb", "/\x7f"};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(cg_clean_path(&a, good[i][0], &path), 0);
		assert_string_equal(path, good[i][1]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(cg_clean_path(&a, bad[i], &path), -EINVAL);
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(cg_clean_path(&a, name, &path), -ENAMETOOLONG);
}

static void test_unified_names(void **state)
{
	static const char *const bad[] = {"", "memory", ".max", "memory.", "../memory.max",
		"a/memory.max", "cgroup.procs", "cgroup.threads", "cgroup.kill", "cgroup.freeze",
		"."};
	size_t len;

	assert_int_equal(cg_check_unified("memory.high", &len), 0);
	assert_int_equal(len, 6);
	assert_int_equal(cg_check_unified("hugetlb.2MB.max", &len), 0);
	assert_int_equal(len, 7);
	assert_int_equal(cg_check_unified("cgroup.max.depth", &len), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(cg_check_unified(bad[i], &len), -EINVAL);
}

static void test_mountinfo(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	const char *path;
	const char *hybrid =
		"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
		"32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup "
		"rw,cpu,cpuacct\n"
		"35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
		"38 31 0:35 / /mnt/b\\040io rw - cgroup cgroup rw,blkio\n"
		"41 31 0:38 / /sys/fs/cgroup/uni\\134fied rw master:1 - cgroup2 none rw,nsdelegate";

	assert_int_equal(cg_mount_from_text(&a, hybrid, &path), 0);
	assert_string_equal(path, "/sys/fs/cgroup/uni\\fied");
	assert_int_equal(cg_v1_holder(&a, hybrid, "memory", &path), 0);
	assert_string_equal(path, "/sys/fs/cgroup/memory");
	assert_int_equal(cg_v1_holder(&a, hybrid, "cpu", &path), 0);
	assert_string_equal(path, "/sys/fs/cgroup/cpu,cpuacct");
	assert_int_equal(cg_v1_holder(&a, hybrid, "io", &path), 0);
	assert_string_equal(path, "/mnt/b io");
	assert_int_equal(cg_v1_holder(&a, hybrid, "mem", &path), 0);
	assert_null(path);
	assert_int_equal(cg_mount_from_text(&a, "1 2 3 - x\n\n- - -\n", &path), 0);
	assert_null(path);
	assert_true(cg_list_covers("cpu io memory", "memory cpu"));
	assert_false(cg_list_covers("cpuset io", "cpu"));
	assert_true(cg_list_covers("", ""));
}

static void test_wants_limits(void **state)
{
	struct cg_device_rule rule = {.type = 'a', .major = -1, .minor = -1, .access = "rwm"};
	struct cg_resources none = {.devices = &rule, .ndevices = 1};
	struct cg_resources res = none;

	assert_false(cg_wants_limits(&none));
	res.memory.limit = some(-1);
	assert_false(cg_wants_limits(&res));
	res.memory.limit = some(1);
	assert_true(cg_wants_limits(&res));
	res = none;
	res.pids_limit = some(0);
	assert_true(cg_wants_limits(&res));
	res.pids_limit = some(-1);
	assert_false(cg_wants_limits(&res));
	res.cpu.cpus = "0";
	assert_true(cg_wants_limits(&res));
}

/* Writes a D-Bus value and its type as text in a short form, such as "as[s:a,s:b]". */
static void draw(const struct gv *v, char *out, size_t size)
{
	size_t n = strlen(out);

	switch (*v->sig) {
	case 's':
	case 'o':
	case 'g':
		snprintf(out + n, size - n, "%s:%s", v->sig, v->s);
		return;
	case 'd':
		snprintf(out + n, size - n, "d:%g", v->d);
		return;
	case 'n':
	case 'i':
	case 'x':
		snprintf(out + n, size - n, "%s:%lld", v->sig, (long long)v->i);
		return;
	case 'a':
	case '(':
	case 'v':
		snprintf(out + n, size - n, "%s[", v->sig);
		for (const struct gv *e = v->first; e; e = e->next) {
			draw(e, out, size);
			n = strlen(out);
			snprintf(out + n, size - n, "%s", e->next ? "," : "");
		}
		n = strlen(out);
		snprintf(out + n, size - n, "]");
		return;
	default:
		snprintf(out + n, size - n, "%s:%llu", v->sig, (unsigned long long)v->u);
	}
}

static void test_gvariant(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	struct gv *v;
	static const char *const good[][2] = {{"'a b'", "s:a b"}, {"\"it's\"", "s:it's"},
		{"'a\\'\\n\\u00e9\\\\'", "s:a'\n\xc3\xa9\\"}, {" true ", "b:1"}, {"false", "b:0"},
		{"5", "i:5"}, {"-7", "i:-7"}, {"0x10", "i:16"}, {"010", "i:8"}, {"1.5", "d:1.5"},
		{"-1e3", "d:-1000"}, {"uint64 18446744073709551615", "t:18446744073709551615"},
		{"int64 -9223372036854775808", "x:-9223372036854775808"}, {"byte 0xff", "y:255"},
		{"int16 -5", "n:-5"}, {"uint16 65535", "q:65535"}, {"uint32 7", "u:7"},
		{"double 3", "d:3"}, {"objectpath '/a'", "o:/a"}, {"signature 'as'", "g:as"},
		{"['a', 'b']", "as[s:a,s:b]"}, {"[uint64 1, 2]", "at[t:1,t:2]"}, {"@as []", "as[]"},
		{"@at [1]", "at[t:1]"}, {"[['a'], ['b','c']]", "aas[as[s:a],as[s:b,s:c]]"},
		{"('a', 1)", "(si)[s:a,i:1]"}, {"('a',)", "(s)[s:a]"},
		{"@(st) ('a', 5)", "(st)[s:a,t:5]"},
		{"[('/dev/a', uint64 1), ('b', 2)]", "a(st)[(st)[s:/dev/a,t:1],(st)[s:b,t:2]]"},
		{"<5>", "v[i:5]"}, {"b'ab'", "ay[y:97,y:98,y:0]"}, {"b \t", NULL}};
	static const char *const bad[] = {"", " ", "'a", "'a' b", "[]", "[1, 'a']", "[1", "1 2",
		"(", "()", "@", "@as ['a', 1]", "@s 5", "2147483648", "uint32 -1", "byte 256",
		"uint64 x", "1.2.3", "True", "'\\u0000'", "'\\ud800'",
		"[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]", "uint64 'a'", "@(s) ('a', 'b')",
		"@(ss) ('a',)", "<5", "@a 5", "@( 5", "--1", "+", "0x",
		"uint64 18446744073709551616", "nan"};
	char text[300];

	for (size_t i = 0; good[i][1]; i++) {
		text[0] = '\0';
		if (gv_parse(&a, good[i][0], &v) < 0)
			fail_msg("%s: %s", good[i][0], err_msg());
		draw(v, text, sizeof(text));
		assert_string_equal(text, good[i][1]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (gv_parse(&a, bad[i], &v) != -EINVAL)
			fail_msg("accepted: %s", bad[i]);
}

static void test_property_names(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	const char *name;
	bool seconds;
	static const char *const bad[] = {"", "ab", "Timeout-Sec", "Timeout.Sec", "A1c"};

	assert_int_equal(sd_property_name(&a, "TimeoutStopSec", &name, &seconds), 0);
	assert_string_equal(name, "TimeoutStopUSec");
	assert_true(seconds);
	assert_int_equal(sd_property_name(&a, "TimeoutStopUSec", &name, &seconds), 0);
	assert_string_equal(name, "TimeoutStopUSec");
	assert_false(seconds);
	assert_int_equal(sd_property_name(&a, "CollectMode", &name, &seconds), 0);
	assert_false(seconds);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(sd_property_name(&a, bad[i], &name, &seconds), -EINVAL);
}

static void test_state(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_json_out_ struct json_out o;
	struct cgroup in = {.manager = CG_SYSTEMD,
		.mount = "/sys/fs/cgroup",
		.path = "/a/b.scope",
		.scope = "b.scope",
		.slice = "a.slice",
		.user_instance = true,
		.lenient = true};
	struct cgroup out;
	struct json *j;
	const char *text;
	size_t len;
	static const char *const bad[] = {"{}", "{\"manager\":\"x\"}",
		"{\"manager\":\"cgroupfs\",\"path\":\"/a\"}",
		"{\"manager\":\"cgroupfs\",\"path\":\"/a/../..\",\"mount\":\"/m\"}",
		"{\"manager\":\"cgroupfs\",\"path\":\"/\",\"mount\":\"/m\"}"};

	assert_int_equal(json_out_init(&o, false), 0);
	json_out_object(&o, NULL);
	cg_to_state(&in, &o);
	json_out_end_object(&o);
	assert_int_equal(json_out_text(&o, &text, &len), 0);
	assert_int_equal(json_parse(&a, text, len, "state", &j), 0);
	assert_int_equal(cg_from_state(&a, j, &out), 0);
	assert_int_equal(out.manager, CG_SYSTEMD);
	assert_string_equal(out.path, in.path);
	assert_string_equal(out.mount, in.mount);
	assert_string_equal(out.scope, in.scope);
	assert_string_equal(out.slice, in.slice);
	assert_true(out.user_instance && out.lenient && !out.unit_current);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(json_parse(&a, bad[i], strlen(bad[i]), "state", &j), 0);
		assert_int_equal(cg_from_state(&a, j, &out), -EINVAL);
	}
}

static void put_file(int dir, const char *name, const char *text)
{
	_cleanup_fd_ int fd = openat(dir, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

/* The functions of a bus that has no systemd: they keep the last number that a message got. */
static uint64_t put_number;

static int bus_version(sd_bus *bus, const char *destination, const char *path,
	const char *interface, const char *member, sd_bus_error *error, char **ret)
{
	assert_string_equal(member, "Version");
	*ret = strdup("257");
	return *ret ? 0 : -ENOMEM;
}

static int bus_open_container(sd_bus_message *m, char type, const char *contents)
{
	return 0;
}

static int bus_close_container(sd_bus_message *m)
{
	return 0;
}

static int bus_append_basic(sd_bus_message *m, char type, const void *value)
{
	if (type == 't')
		put_number = *(const uint64_t *)value;
	return 0;
}

/* Checks what weight systemd is told for what the control files of an idle cgroup say. */
static void test_held_weight(void **state)
{
	static const struct {
		const char *idle, *weight;
		uint64_t told;
	} cases[] = {
		{"1", "0", 0}, {"1", "1", 0}, {"0", "1", 1}, {"0", "100", 100}, {NULL, "59", 59}};
	struct sdbus bus = {.sd_bus_get_property_string = bus_version,
		.sd_bus_message_open_container = bus_open_container,
		.sd_bus_message_close_container = bus_close_container,
		.sd_bus_message_append_basic = bus_append_basic};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_arena_ struct arena a = {0};
		const struct sd_held *held;
		char dir[] = "/tmp/caisson-held.XXXXXX";

		assert_non_null(mkdtemp(dir));
		_cleanup_fd_ int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		assert_true(fd >= 0);
		put_file(fd, "cpu.weight", cases[i].weight);
		if (cases[i].idle)
			put_file(fd, "cpu.idle", cases[i].idle);
		put_number = UINT64_MAX;
		assert_int_equal(sd_put_held(&bus, NULL, &a, fd, &held), 0);
		assert_int_equal(put_number, cases[i].told);
		unlinkat(fd, "cpu.weight", 0);
		unlinkat(fd, "cpu.idle", 0);
		assert_int_equal(rmdir(dir), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cpu_weight),
		cmocka_unit_test(test_io_weight),
		cmocka_unit_test(test_swap),
		cmocka_unit_test(test_slices),
		cmocka_unit_test(test_scope_names),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_unified_names),
		cmocka_unit_test(test_mountinfo),
		cmocka_unit_test(test_wants_limits),
		cmocka_unit_test(test_gvariant),
		cmocka_unit_test(test_property_names),
		cmocka_unit_test(test_state),
		cmocka_unit_test(test_held_weight),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
