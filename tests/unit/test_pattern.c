/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Expressions of --regex, beside those of the C library, which does not need to be in the runtime.
 */
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/str.h"
#include "cmd/pattern.h"

static bool matches(const char *text, const char *s)
{
	struct pattern *p;

	if (pattern_compile(text, &p) < 0)
		fail_msg("%s: %s", text, err_msg());
	bool found = pattern_matches(p, s);
	pattern_free(p);
	return found;
}

static void test_matches(void **state)
{
	static const struct {
		const char *text, *yes, *no;
	} cases[] = {{"web", "my-web-1", "we-b"}, {"^web", "web1", "a-web"},
		{"web$", "a-web", "web1"}, {"^web-[0-9]+$", "web-12", "web-"},
		{"^(a|b.)c$", "bxc", "bc"}, {"a{2,3}b", "xaab", "ab"}, {"^a{2}$", "aa", "aaa"},
		{"^a{2,}$", "aaaa", "a"}, {"^a{0}b$", "b", "ab"}, {"^(ab){1,2}$", "abab", "ababab"},
		{"^a?b*$", "abbb", "aab"}, {"a\\.b", "a.b", "axb"}, {"^[^a-c]+$", "xyz", "xbz"},
		{"^[]a]+$", "]a", "b"}, {"^[a-]+$", "a-", "b"},
		{"^[[:upper:][:digit:]_]+$", "A_1", "a"}, {"^(|a)b$", "b", "aab"}, {"^$", "", "a"},
		{"^(a*)*$", "aaa", "b"}, {"a|b|c", "xc", "x"}, {"^(a|ab)(c|bcd)$", "abcd", "abd"},
		{"[.]", ".", "a"}, {"a)", "a)", "a"}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (!matches(cases[i].text, cases[i].yes))
			fail_msg("%s does not match %s", cases[i].text, cases[i].yes);
		if (matches(cases[i].text, cases[i].no))
			fail_msg("%s matches %s", cases[i].text, cases[i].no);
	}
	assert_true(matches("", "anything"));
}

static void test_refused(void **state)
{
	static const char *const bad[] = {"[", "[a", "[]", "[^]", "(", "(a", "a{", "a{1", "a{2,1}",
		"a{256}", "a{x}", "a{,2}", "*a", "+", "a|*b", "(*a)", "\\", "a\\1", "[[:nope:]]",
		"[b-a]", "[[.a.]]", "((a{255}){255}){255}"};
	struct pattern *p;
	char deep[2000];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (pattern_compile(bad[i], &p) != -EINVAL)
			fail_msg("%s is accepted", bad[i]);
	memset(deep, '(', sizeof(deep) - 1);
	deep[sizeof(deep) - 1] = '\0';
	assert_int_equal(pattern_compile(deep, &p), -EINVAL);
}

static unsigned random_below(unsigned n)
{
	return (unsigned)random() % n;
}

static void random_text(char *ret, const char *const *parts, size_t nparts, unsigned most)
{
	*ret = '\0';
	for (unsigned i = random_below(most + 1); i > 0; i--)
		strcat(ret, parts[random_below((unsigned)nparts)]);
}

/* Expressions made at random of what has a meaning: each matches what the C library's matches. */
static void test_like_the_c_library(void **state)
{
	static const char *const parts[] = {"a", "b", "c", ".", "^", "$", "(", ")", "(a|b)", "|",
		"*", "+", "?", "{2}", "{1,2}", "{0,1}", "{2,}", "[ab]", "[^a]", "[a-b]", "\\.", "a",
		"b"};
	static const char *const letters[] = {"a", "b", "c", "."};
	char text[256], s[64];
	unsigned compared = 0;

	srandom(1);
	for (int i = 0; i < 60000; i++) {
		regex_t regex;
		struct pattern *p;
		random_text(text, parts, ARRAY_SIZE(parts), 8);
		/* What POSIX leaves undefined may differ: two repetitions, and one of an anchor. */
		if (pattern_compile(text, &p) < 0)
			continue;
		if (strstr(text, "^*") || strstr(text, "^+") || strstr(text, "^?") ||
			strstr(text, "^{") || regcomp(&regex, text, REG_EXTENDED | REG_NOSUB)) {
			pattern_free(p);
			continue;
		}
		for (int j = 0; j < 6; j++) {
			random_text(s, letters, ARRAY_SIZE(letters), 6);
			bool want = regexec(&regex, s, 0, NULL, 0) == 0;
			if (pattern_matches(p, s) != want)
				fail_msg("%s: %s \"%s\"", text, want ? "does not match" : "matches",
					s);
			compared++;
		}
		regfree(&regex);
		pattern_free(p);
	}
	assert_true(compared > 50000);
}

/* An expression over which a matcher that tries one way after the other needs years. */
static void test_takes_no_exponential_time(void **state)
{
	char s[1025];
	time_t before = time(NULL);

	memset(s, 'a', sizeof(s) - 1);
	s[sizeof(s) - 1] = '\0';
	assert_false(matches("^(a?){30}(a*)*(a|aa)+b$", s));
	assert_true(time(NULL) - before < 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matches),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_like_the_c_library),
		cmocka_unit_test(test_takes_no_exponential_time),
	};
	return cmocka_run_group_tests_name("pattern", tests, NULL, NULL);
}
