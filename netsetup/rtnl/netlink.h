/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends requests to rtnetlink(7), for the files of netsetup/.
 *
 *	_cleanup_nl_ struct nl nl = NL_INIT;
 *	r = nl_open(&nl, netns_fd);             the socket acts in that namespace from then on
 *	struct nl_req q;
 *	nl_req_link(&q, RTM_NEWLINK, 0, ifindex);
 *	nl_put_str(&q, IFLA_IFNAME, name);      nl_call() reports an overflow
 *	r = nl_call(&nl, &q, NULL, NULL);
 *
 * If the kernel refuses a request, nl_call() returns the kernel's -errno. The message has the
 * kernel's own words (NLMSGERR_ATTR_MSG) if it sends any; callers add what the request was about.
 * nl_call() checks who sent a reply, its sequence number, and the lengths of its messages and
 * attributes. A struct nl belongs to one thread.
 */
#pragma once
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdint.h>

#include "base/fd.h"

/*
 * The size of a request's buffer in bytes. The largest request, for a bridge with all its options,
 * needs half of this size.
 */
#define NL_REQ_MAX 1024

struct nl {
	int fd;
	uint32_t seq;
};

#define NL_INIT \
	{ \
		.fd = -EBADF \
	}

/*
 * Opens a socket in the network namespace netns_fd, or in the calling thread's own network
 * namespace if netns_fd is < 0.
 */
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

/*
 * Starts a request. family_header points to the header of len bytes that follows the netlink
 * header, such as an ifinfomsg, ifaddrmsg or rtmsg.
 */
void nl_req_init(
	struct nl_req *q, uint16_t type, uint16_t flags, const void *family_header, size_t len);

/*
 * Starts a request about one interface. ifindex is 0 if the request is about no interface, or an
 * attribute names the interface.
 */
void nl_req_link(struct nl_req *q, uint16_t type, uint16_t flags, int ifindex);

void nl_put(struct nl_req *q, uint16_t type, const void *data, size_t len);
void nl_put_u32(struct nl_req *q, uint16_t type, uint32_t value);
/* Adds the string with its NUL to the request. */
void nl_put_str(struct nl_req *q, uint16_t type, const char *value);
/*
 * Starts a nested attribute: what the caller puts between nl_nest() and nl_nest_end() is inside the
 * attribute. The caller passes what nl_nest() returns to nl_nest_end().
 */
size_t nl_nest(struct nl_req *q, uint16_t type);
void nl_nest_end(struct nl_req *q, size_t start);

/*
 * Takes the first message off a buffer of which *left bytes remain. Returns NULL if the buffer is
 * empty (*left is 0) or if the message is longer than the remaining bytes (*left is not 0).
 * libmnl's own mnl_nlmsg_ok() is not used, because it reads lengths of 2 GiB and more as negative
 * numbers and accepts them.
 */
const struct nlmsghdr *nl_next_message(const char **buf, size_t *left);

/*
 * The function that nl_call() calls for each message of a reply. nl_call() has checked the length
 * of the message, but not its content. A return value < 0 ends the reading, and nl_call() returns
 * that value.
 */
typedef int nl_reply_fn(const struct nlmsghdr *h, void *arg);

/*
 * Sends the request and reads until the kernel's acknowledgement, or until the end of the dump if
 * the request has NLM_F_DUMP. fn may be NULL. Returns -EINTR if the kernel's list changed during
 * the dump; the caller then drops what it has gathered and asks again.
 */
int nl_call(struct nl *nl, struct nl_req *q, nl_reply_fn *fn, void *arg) must_check;

/*
 * Reads one datagram of replies to the request with the number seq. Returns 1 if the reply is
 * complete, 0 if more is to come, or -errno as nl_call() does. nl_call() reads bytes from outside
 * only by this function, which is declared here so that tests can give it any bytes.
 */
int nl_read_replies(const void *data, size_t len, uint32_t seq, nl_reply_fn *fn, void *arg)
	must_check;

/*
 * Fills attrs[0..max] with the attributes behind a family header of header_len bytes; an element is
 * NULL if the message has no such attribute. Returns -EBADMSG if a message or an attribute is
 * longer than what contains it.
 */
int nl_attrs(const struct nlmsghdr *h, size_t header_len, const struct nlattr **attrs, uint16_t max)
	must_check;

/*
 * nl_payload() returns the family header of a message; nl_attr_data() and nl_attr_len() return the
 * value of an attribute and its length. The caller has checked the lengths.
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

/*
 * Returns the attribute of the given type inside the nested attribute `nest`, or NULL if there is
 * none. nest may be NULL.
 */
const struct nlattr *nl_attr_in(const struct nlattr *nest, uint16_t type);

/*
 * Copies the value of an attribute if the value has exactly len bytes. Returns false if the
 * attribute is absent or its value has another length.
 */
bool nl_attr_copy(const struct nlattr *a, void *ret, size_t len);

/*
 * nl_attr_u32() and nl_attr_str() return the value of an attribute, or the fallback if the
 * attribute is absent or malformed. A string must end in a NUL.
 */
uint32_t nl_attr_u32(const struct nlattr *a, uint32_t fallback);
const char *nl_attr_str(const struct nlattr *a, const char *fallback);
