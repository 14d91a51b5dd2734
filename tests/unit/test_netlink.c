/* SPDX-License-Identifier: Apache-2.0 */
/* Tests the reader of netlink messages with replies that the kernel sends and with damaged ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "netsetup/rtnl/netlink.h"
#include "unit/rig/net.h"

static void test_kernel_words(void **state)
{
	nets_of(state);
	_cleanup_nl_ struct nl nl = NL_INIT;
	struct nl_req q;

	assert_ok(nl_open(&nl, -EBADF));
	nl_req_link(&q, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0);
	size_t info = nl_nest(&q, IFLA_LINKINFO);
	nl_put_str(&q, IFLA_INFO_KIND, "nosuchkind");
	nl_nest_end(&q, info);
	assert_error(nl_call(&nl, &q, NULL, NULL), -EOPNOTSUPP, "(Unknown device type)");
}

static int count_messages(const struct nlmsghdr *h, void *arg)
{
	const struct nlattr *attrs[8];
	int *count = arg;

	(*count)++;
	return nl_attrs(h, sizeof(struct ifinfomsg), attrs, 7);
}

struct reply {
	struct nlmsghdr h;
	int error;
	struct nlmsghdr request;
	struct nlattr attr;
	char words[12];
};

static struct reply error_reply(void)
{
	return (struct reply){
		.h = {.nlmsg_len = sizeof(struct reply),
			.nlmsg_type = NLMSG_ERROR,
			.nlmsg_flags = NLM_F_CAPPED | NLM_F_ACK_TLVS,
			.nlmsg_seq = 7},
		.error = -EPERM,
		.attr = {.nla_len = sizeof(struct nlattr) + 12, .nla_type = NLMSGERR_ATTR_MSG},
		.words = "hello there",
	};
}

static void test_replies(void **state)
{
	struct reply m = error_reply();

	assert_error(nl_read_replies(&m, sizeof(m), 7, NULL, NULL), -EPERM, "(hello there)");
	/* The reader must skip an answer that belongs to another request. */
	assert_int_equal(nl_read_replies(&m, sizeof(m), 8, NULL, NULL), 0);
	m.error = 0;
	assert_int_equal(nl_read_replies(&m, sizeof(m), 7, NULL, NULL), 1);
	m.error = -100000;
	assert_error(nl_read_replies(&m, sizeof(m), 7, NULL, NULL), -EBADMSG,
		"error -100000, expected one from -4095 to 0");
	m = error_reply();
	/*
	 * The kernel's error text lacks its terminating NUL here, so the error message must not
	 * quote the text.
	 */
	m.words[11] = 'x';
	assert_int_equal(nl_read_replies(&m, sizeof(m), 7, NULL, NULL), -EPERM);
	assert_null(strstr(err_msg(), "hello"));
	m = error_reply();
	m.attr.nla_len = 200;
	assert_int_equal(nl_read_replies(&m, sizeof(m), 7, NULL, NULL), -EPERM);
	assert_null(strstr(err_msg(), "hello"));
	m = error_reply();
	m.h.nlmsg_len = sizeof(struct nlmsghdr) + 4;
	assert_error(nl_read_replies(&m, m.h.nlmsg_len, 7, NULL, NULL), -EBADMSG, "too short");
	m = error_reply();
	assert_error(nl_read_replies(&m, sizeof(m) - 4, 7, NULL, NULL), -EBADMSG, "cut short");
	assert_error(nl_read_replies(&m, 10, 7, NULL, NULL), -EBADMSG, "cut short");
	assert_int_equal(nl_read_replies(&m, 0, 7, NULL, NULL), 0);
	m.h.nlmsg_flags |= NLM_F_DUMP_INTR;
	assert_int_equal(nl_read_replies(&m, sizeof(m), 7, NULL, NULL), -EINTR);
}

static void test_attributes(void **state)
{
	struct {
		struct nlmsghdr h;
		struct ifinfomsg info;
		struct nlattr attr;
		char value[8];
	} m = {.h = {.nlmsg_len = sizeof(m), .nlmsg_type = RTM_NEWLINK},
		.attr = {.nla_len = sizeof(m.attr) + 8, .nla_type = IFLA_IFNAME},
		.value = "eth0"};
	const struct nlattr *attrs[IFLA_IFNAME + 1];

	assert_ok(nl_attrs(&m.h, sizeof(m.info), attrs, IFLA_IFNAME));
	assert_string_equal(nl_attr_str(attrs[IFLA_IFNAME], "?"), "eth0");
	/* The attribute does not have four bytes, so the reader must return the given fallback. */
	assert_int_equal(nl_attr_u32(attrs[IFLA_IFNAME], 77), 77);
	assert_ok(nl_attrs(&m.h, sizeof(m.info), attrs, IFLA_IFNAME - 1));
	m.attr.nla_len = 100;
	assert_int_equal(nl_attrs(&m.h, sizeof(m.info), attrs, IFLA_IFNAME), -EBADMSG);
	m.attr.nla_len = 2;
	assert_int_equal(nl_attrs(&m.h, sizeof(m.info), attrs, IFLA_IFNAME), -EBADMSG);
	m.h.nlmsg_len = sizeof(m.h) + 4;
	assert_int_equal(nl_attrs(&m.h, sizeof(m.info), attrs, IFLA_IFNAME), -EBADMSG);
}

/*
 * Checks that random bytes neither make the reader crash nor make it read past their end, which the
 * sanitizers check. The reader must give one of its three results.
 */
static void test_noise(void **state)
{
	unsigned seed = 1;

	for (int i = 0; i < 20000; i++) {
		size_t len = (size_t)rand_r(&seed) % 96;
		unsigned char *data = malloc(len ? len : 1);
		int count = 0;

		for (size_t k = 0; k < len; k++)
			data[k] = (unsigned char)rand_r(&seed);
		/*
		 * Makes the message's header plausible, so that the reader goes on to the rest of
		 * the random bytes.
		 */
		if (len >= sizeof(struct nlmsghdr)) {
			struct nlmsghdr *h = (void *)data;
			h->nlmsg_len = i % 3 ? (uint32_t)len : h->nlmsg_len % 128;
			h->nlmsg_type = i % 2 ? RTM_NEWLINK : NLMSG_ERROR;
			h->nlmsg_flags = (uint16_t)(h->nlmsg_flags & ~NLM_F_DUMP_INTR);
			h->nlmsg_seq = 7;
		}
		assert_true(nl_read_replies(data, len, 7, count_messages, &count) <= 1);
		free(data);
	}
}

static void test_overflow(void **state)
{
	char big[NL_REQ_MAX] = {0};
	struct nl nl = NL_INIT;
	struct nl_req q;

	nl_req_link(&q, RTM_NEWLINK, 0, 1);
	nl_put(&q, IFLA_IFALIAS, big, sizeof(big));
	nl_put_u32(&q, IFLA_MTU, 1500);
	assert_error(nl_call(&nl, &q, NULL, NULL), -EMSGSIZE, "longer than");
}

int main(void)
{
#define IN_NETS(test) cmocka_unit_test_setup_teardown(test, nets_setup, nets_teardown)
	const struct CMUnitTest tests[] = {
		IN_NETS(test_kernel_words),
		cmocka_unit_test(test_replies),
		cmocka_unit_test(test_attributes),
		cmocka_unit_test(test_noise),
		cmocka_unit_test(test_overflow),
	};

	return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
