/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to rtnetlink(7), for the files of netsetup/. Internal.
 *
 *	_cleanup_nl_ struct nl nl = NL_INIT;
 *	r = nl_open(&nl, netns_fd);             the socket acts in that namespace from then on
 *	struct nl_req q;
 *	nl_req_link(&q, RTM_NEWLINK, 0, ifindex);
 *	nl_put_str(&q, IFLA_IFNAME, name);      an overflow is remembered and reported by nl_call()
 *	r = nl_call(&nl, &q, NULL, NULL);
 *
 * The kernel's refusal comes back as its -errno with the kernel's own words (NLMSGERR_ATTR_MSG) in
 *the message where it has any; callers add what they were about. Replies are checked: sender,
 *sequence number, message and attribute lengths. A struct nl belongs to one thread.
 */
#pragma once
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdint.h>

#include "base/fd.h"

#define NL_REQ_MAX \
	1024 /* bytes of a request; the largest, a bridge with all its options, needs half */

struct nl {
	int fd;
	uint32_t seq;
};

#define NL_INIT \
	{ \
		.fd = -EBADF \
	}

/* Opens a socket in the network namespace netns_fd, or in the calling thread's own one if that is <
 * 0. */
int nl_open(struct nl *nl, int netns_fd) must_check;
void nl_close(struct nl *nl);
#define _cleanup_nl_ __attribute__((cleanup(nl_close), unused))

struct nl_req {
	union {
		struct nlmsghdr h;
		char bytes[NL_REQ_MAX];
	};
	bool overflow;
};

/* Starts a request: family_header is the ifinfomsg, ifaddrmsg, rtmsg, ... of its type, len bytes.
 */
void nl_req_init(
	struct nl_req *q, uint16_t type, uint16_t flags, const void *family_header, size_t len);

/* The common case: a request about one interface. ifindex 0: none, or named by an attribute. */
void nl_req_link(struct nl_req *q, uint16_t type, uint16_t flags, int ifindex);

void nl_put(struct nl_req *q, uint16_t type, const void *data, size_t len);
void nl_put_u32(struct nl_req *q, uint16_t type, uint32_t value);
void nl_put_str(struct nl_req *q, uint16_t type, const char *value); /* with its NUL */
/* What is put between the two is inside the attribute. nl_nest() returns what nl_nest_end() wants.
 */
size_t nl_nest(struct nl_req *q, uint16_t type);
void nl_nest_end(struct nl_req *q, size_t start);

/*
 * The first message of a buffer whose `left` bytes remain, or NULL at its end or if it does not fit
 * (then *left > 0 stays); a message handed out is taken off. libmnl's own mnl_nlmsg_ok() takes
 * lengths of 2 GiB and more for negative numbers and lets them pass.
 */
const struct nlmsghdr *nl_next_message(const char **buf, size_t *left);

/*
 * Called for each reply message; its length is checked, its content is not. >= 0 goes on. A failure
 * ends the reading and is what nl_call() returns.
 */
typedef int nl_reply_fn(const struct nlmsghdr *h, void *arg);

/*
 * Sends the request and reads until the kernel's acknowledgement or, with NLM_F_DUMP, the end of
 * the dump. fn may be NULL. -EINTR: the dump was not consistent because what it lists changed:
 * start anew and ask again.
 */
int nl_call(struct nl *nl, struct nl_req *q, nl_reply_fn *fn, void *arg) must_check;

/*
 * One datagram of replies to the request number seq. 1: the reply is complete; 0: more is to come;
 * -errno as nl_call(). The part of nl_call() that reads foreign bytes, apart so that it can be
 * tested with any.
 */
int nl_read_replies(const void *data, size_t len, uint32_t seq, nl_reply_fn *fn, void *arg)
	must_check;

/*
 * Fills attrs[0..max] with the attributes after a family header of header_len bytes; the others are
 * NULL. A message or an attribute that is longer than what holds it is -EBADMSG.
 */
int nl_attrs(const struct nlmsghdr *h, size_t header_len, const struct nlattr **attrs, uint16_t max)
	must_check;

/* The family header of a message, and an attribute's value; the lengths are the caller's to check.
 */
static inline const void *nl_payload(const struct nlmsghdr *h)
{
	return (const char *)h + NLMSG_HDRLEN;
}

static inline const void *nl_attr_data(const struct nlattr *a)
{
	return (const char *)a + NLA_HDRLEN;
}

static inline size_t nl_attr_len(const struct nlattr *a)
{
	return a->nla_len - (size_t)NLA_HDRLEN;
}

/* The attribute of that type inside a nested one, or NULL; nest may be NULL. */
const struct nlattr *nl_attr_in(const struct nlattr *nest, uint16_t type);

/* Copies a value of exactly len bytes. False: the attribute is absent or of another length. */
bool nl_attr_copy(const struct nlattr *a, void *ret, size_t len);

/* An attribute's value, or the fallback if it is absent or not of that length. */
uint32_t nl_attr_u32(const struct nlattr *a, uint32_t fallback);
const char *nl_attr_str(const struct nlattr *a, const char *fallback); /* only if NUL-terminated */
