/* SPDX-License-Identifier: Apache-2.0 */
#include "netsetup/rtnl/netlink.h"

#include <libmnl/libmnl.h>
#include <sched.h>
#include <sys/socket.h>

/*
 * The size of the receive buffer, because the kernel puts at most 32 KiB of a dump into one
 * datagram (af_netlink.c, netlink_dump).
 */
#define NL_RECV_MAX 32768

/*
 * Opens a socket in another network namespace. A socket belongs to the namespace of the thread that
 * makes it, so the thread enters the other namespace and comes back. Coming back needs privilege
 * over the thread's own namespace. So the thread first calls setns(2) for its own namespace, where
 * it is already, to find out before it leaves whether it could come back.
 */
static int socket_in(int netns_fd)
{
	_cleanup_fd_ int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int fd, saved;

	if (here < 0)
		return err_sys("open /proc/thread-self/ns/net");
	if (setns(here, CLONE_NEWNET) < 0)
		return err_sys("no permission to come back to this network namespace");
	if (setns(netns_fd, CLONE_NEWNET) < 0)
		return err_sys("enter the network namespace");
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	saved = errno;
	if (setns(here, CLONE_NEWNET) < 0) {
		saved = errno;
		if (fd >= 0)
			close(fd);
		errno = saved;
		return err_sys("come back to this network namespace");
	}
	errno = saved;
	return fd < 0 ? err_sys("open an rtnetlink socket") : fd;
}

int nl_open(struct nl *nl, int netns_fd)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	_cleanup_fd_ int fd = -EBADF;
	int on = 1;

	if (netns_fd >= 0) {
		fd = socket_in(netns_fd);
		if (fd < 0)
			return fd;
	} else {
		fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
		if (fd < 0)
			return err_sys("open an rtnetlink socket");
	}
	/*
	 * The socket options ask for error messages in words and without a copy of the request, and
	 * for dumps that obey the filters in their requests.
	 */
	if (setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on)) < 0 ||
		setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on)) < 0 ||
		setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on)) < 0)
		return err_sys("set up an rtnetlink socket");
	/*
	 * The socket is connected to the kernel, because a connected socket receives messages only
	 * from its peer.
	 */
	if (connect(fd, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		return err_sys("connect an rtnetlink socket");
	*nl = (struct nl){.fd = take_fd(&fd)};
	return 0;
}

void nl_close(struct nl *nl)
{
	fd_close(&nl->fd);
}

void nl_req_init(
	struct nl_req *q, uint16_t type, uint16_t flags, const void *family_header, size_t len)
{
	memset(q, 0, sizeof(*q));
	mnl_nlmsg_put_header(q->bytes);
	q->h.nlmsg_type = type;
	q->h.nlmsg_flags = NLM_F_REQUEST | flags;
	memcpy(mnl_nlmsg_put_extra_header(&q->h, len), family_header, len);
}

void nl_req_link(struct nl_req *q, uint16_t type, uint16_t flags, int ifindex)
{
	struct ifinfomsg link = {.ifi_family = AF_UNSPEC, .ifi_index = ifindex};

	nl_req_init(q, type, flags, &link, sizeof(link));
}

void nl_put(struct nl_req *q, uint16_t type, const void *data, size_t len)
{
	if (q->overflow || !mnl_attr_put_check(&q->h, sizeof(q->bytes), type, len, data))
		q->overflow = true;
}

void nl_put_u32(struct nl_req *q, uint16_t type, uint32_t value)
{
	nl_put(q, type, &value, sizeof(value));
}

void nl_put_str(struct nl_req *q, uint16_t type, const char *value)
{
	nl_put(q, type, value, strlen(value) + 1);
}

size_t nl_nest(struct nl_req *q, uint16_t type)
{
	size_t start = q->h.nlmsg_len;

	nl_put(q, type | NLA_F_NESTED, NULL, 0);
	return start;
}

void nl_nest_end(struct nl_req *q, size_t start)
{
	struct nlattr *nest = (struct nlattr *)(q->bytes + start);

	if (!q->overflow)
		nest->nla_len = (uint16_t)(q->h.nlmsg_len - start);
}

/*
 * Returns the text that the kernel put into an error message, or NULL if the message has no text.
 * The text follows the error number of an NLMSG_DONE, or the nlmsgerr of an NLMSG_ERROR, which has
 * no copy of the request (NLM_F_CAPPED).
 */
static const char *error_words(const struct nlmsghdr *h)
{
	const struct nlattr *attrs[NLMSGERR_ATTR_MAX + 1];
	bool error = h->nlmsg_type == NLMSG_ERROR;

	if (!(h->nlmsg_flags & NLM_F_ACK_TLVS) || (error && !(h->nlmsg_flags & NLM_F_CAPPED)) ||
		nl_attrs(h, error ? sizeof(struct nlmsgerr) : sizeof(int), attrs,
			NLMSGERR_ATTR_MAX) < 0)
		return NULL;
	return nl_attr_str(attrs[NLMSGERR_ATTR_MSG], NULL);
}

/*
 * Reads the message that ends a reply. Returns 1, or the failure that the message reports. An
 * NLMSG_DONE carries an error number, too.
 */
static int read_end(const struct nlmsghdr *h)
{
	size_t min = h->nlmsg_type == NLMSG_ERROR ? sizeof(struct nlmsgerr) : 0;
	size_t len = mnl_nlmsg_get_payload_len(h);
	const char *words;
	int error = 0;

	if (len < min)
		return err_set(
			EBADMSG, "rtnetlink: a reply of %u bytes is too short", h->nlmsg_len);
	if (len >= sizeof(error))
		memcpy(&error, mnl_nlmsg_get_payload(h), sizeof(error));
	if (error >= 0)
		return 1;
	if (error < -4095)
		return err_set(EBADMSG,
			"rtnetlink: a reply has the error %d, expected one from -4095 to 0", error);
	words = error_words(h);
	if (words && words[0])
		return err_set(-error, "%s (%s)", strerror(-error), words);
	return err_set(-error, "%s", strerror(-error));
}

const struct nlmsghdr *nl_next_message(const char **buf, size_t *left)
{
	const struct nlmsghdr *h = (const struct nlmsghdr *)(const void *)*buf;
	size_t step;

	if (*left < sizeof(*h) || h->nlmsg_len < sizeof(*h) || h->nlmsg_len > *left)
		return NULL;
	step = MNL_ALIGN((size_t)h->nlmsg_len);
	/* the last message of a datagram may lack the padding to a multiple of 4 bytes */
	if (step > *left)
		step = *left;
	*buf += step;
	*left -= step;
	return h;
}

int nl_read_replies(const void *data, size_t len, uint32_t seq, nl_reply_fn *fn, void *arg)
{
	const struct nlmsghdr *h;
	const char *at = data;
	size_t left = len;
	int r;

	while ((h = nl_next_message(&at, &left))) {
		/*
		 * Skips a late reply to an earlier request, because no caller waits for it any
		 * more.
		 */
		if (h->nlmsg_seq != seq)
			continue;
		if (h->nlmsg_flags & NLM_F_DUMP_INTR)
			return err_set(EINTR, "the kernel's list changed while it was read");
		if (h->nlmsg_type == NLMSG_ERROR || h->nlmsg_type == NLMSG_DONE)
			return read_end(h);
		/* Skips control messages such as NLMSG_NOOP. */
		if (h->nlmsg_type < NLMSG_MIN_TYPE)
			continue;
		r = fn ? fn(h, arg) : 0;
		if (r < 0)
			return r;
	}
	if (left > 0)
		return err_set(
			EBADMSG, "rtnetlink: a reply is cut short, %zu bytes are left over", left);
	return 0;
}

int nl_call(struct nl *nl, struct nl_req *q, nl_reply_fn *fn, void *arg)
{
	_Alignas(struct nlmsghdr) char buf[NL_RECV_MAX];
	ssize_t n;
	int r;

	if (q->overflow)
		return err_set(
			EMSGSIZE, "rtnetlink: a request is longer than %d bytes", NL_REQ_MAX);
	/*
	 * A dump ends with NLMSG_DONE; every other reply ends with the acknowledgement that
	 * NLM_F_ACK asks for.
	 */
	if ((q->h.nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP)
		q->h.nlmsg_flags |= NLM_F_ACK;
	q->h.nlmsg_seq = ++nl->seq;
	do
		n = send(nl->fd, &q->h, q->h.nlmsg_len, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_sys("send to rtnetlink");
	for (;;) {
		n = recv(nl->fd, buf, sizeof(buf), MSG_TRUNC);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys("receive from rtnetlink");
		if ((size_t)n > sizeof(buf))
			return err_set(EBADMSG,
				"rtnetlink: a reply has %zd bytes, expected at most %d", n,
				NL_RECV_MAX);
		r = nl_read_replies(buf, (size_t)n, nl->seq, fn, arg);
		if (r != 0)
			return r < 0 ? r : 0;
	}
}

int nl_attrs(const struct nlmsghdr *h, size_t header_len, const struct nlattr **attrs, uint16_t max)
{
	size_t aligned = MNL_ALIGN(header_len);
	const char *end = (const char *)h + h->nlmsg_len;
	const struct nlattr *a;
	int left;

	memset(attrs, 0, (max + 1u) * sizeof(*attrs));
	if (mnl_nlmsg_get_payload_len(h) < header_len)
		return err_set(EBADMSG,
			"rtnetlink: a message of %u bytes is too short for its type", h->nlmsg_len);
	if (mnl_nlmsg_get_payload_len(h) < aligned)
		return 0;
	for (a = mnl_nlmsg_get_payload_offset(h, header_len);; a = mnl_attr_next(a)) {
		left = (int)(end - (const char *)a);
		if (!mnl_attr_ok(a, left))
			break;
		if (mnl_attr_get_type(a) <= max)
			attrs[mnl_attr_get_type(a)] = a;
	}
	if (left > 0)
		return err_set(
			EBADMSG, "rtnetlink: an attribute is longer than the message it is in");
	return 0;
}

const struct nlattr *nl_attr_in(const struct nlattr *nest, uint16_t type)
{
	const struct nlattr *a = nest ? mnl_attr_get_payload(nest) : NULL;
	int left = nest ? mnl_attr_get_payload_len(nest) : 0;

	while (a && mnl_attr_ok(a, left)) {
		if (mnl_attr_get_type(a) == type)
			return a;
		left -= (int)MNL_ALIGN(a->nla_len);
		a = mnl_attr_next(a);
	}
	return NULL;
}

bool nl_attr_copy(const struct nlattr *a, void *ret, size_t len)
{
	if (!a || mnl_attr_get_payload_len(a) != len)
		return false;
	memcpy(ret, mnl_attr_get_payload(a), len);
	return true;
}

uint32_t nl_attr_u32(const struct nlattr *a, uint32_t fallback)
{
	return a && mnl_attr_validate(a, MNL_TYPE_U32) >= 0 ? mnl_attr_get_u32(a) : fallback;
}

const char *nl_attr_str(const struct nlattr *a, const char *fallback)
{
	return a && mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0 ? mnl_attr_get_str(a) : fallback;
}
