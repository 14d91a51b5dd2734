/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of libmnl that netsetup/ uses, written for static programs, because distributions
 * have no static libmnl. libmnl's header declares these functions; libmnl's documentation and
 * netlink(7) say what they do. caisson-guest is linked with this file, and so is caisson in the
 * static build.
 */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <string.h>

#define ATTR_HEADER MNL_ALIGN(sizeof(struct nlattr))

struct nlmsghdr *mnl_nlmsg_put_header(void *buf)
{
	struct nlmsghdr *h = buf;

	memset(h, 0, MNL_NLMSG_HDRLEN);
	h->nlmsg_len = MNL_NLMSG_HDRLEN;
	return h;
}

void *mnl_nlmsg_put_extra_header(struct nlmsghdr *h, size_t size)
{
	void *at = (char *)h + h->nlmsg_len;

	memset(at, 0, MNL_ALIGN(size));
	h->nlmsg_len += (uint32_t)MNL_ALIGN(size);
	return at;
}

void *mnl_nlmsg_get_payload(const struct nlmsghdr *h)
{
	return (char *)h + MNL_NLMSG_HDRLEN;
}

void *mnl_nlmsg_get_payload_offset(const struct nlmsghdr *h, size_t offset)
{
	return (char *)h + MNL_NLMSG_HDRLEN + MNL_ALIGN(offset);
}

size_t mnl_nlmsg_get_payload_len(const struct nlmsghdr *h)
{
	return h->nlmsg_len - MNL_NLMSG_HDRLEN;
}

bool mnl_nlmsg_ok(const struct nlmsghdr *h, int len)
{
	return len >= (int)sizeof(*h) && h->nlmsg_len >= sizeof(*h) && (int)h->nlmsg_len <= len;
}

uint16_t mnl_attr_get_type(const struct nlattr *a)
{
	return a->nla_type & NLA_TYPE_MASK;
}

uint16_t mnl_attr_get_payload_len(const struct nlattr *a)
{
	return (uint16_t)(a->nla_len - ATTR_HEADER);
}

void *mnl_attr_get_payload(const struct nlattr *a)
{
	return (char *)a + ATTR_HEADER;
}

bool mnl_attr_ok(const struct nlattr *a, int len)
{
	return len >= (int)sizeof(*a) && a->nla_len >= sizeof(*a) && (int)a->nla_len <= len;
}

struct nlattr *mnl_attr_next(const struct nlattr *a)
{
	return (struct nlattr *)(void *)((char *)a + MNL_ALIGN(a->nla_len));
}

uint32_t mnl_attr_get_u32(const struct nlattr *a)
{
	uint32_t v;

	memcpy(&v, mnl_attr_get_payload(a), sizeof(v));
	return v;
}

const char *mnl_attr_get_str(const struct nlattr *a)
{
	return mnl_attr_get_payload(a);
}

/*
 * Validates an attribute. Knows only the two types that netsetup/ checks and refuses all others, so
 * that a test fails if netsetup/ checks a new type.
 */
int mnl_attr_validate(const struct nlattr *a, enum mnl_attr_data_type type)
{
	size_t len = mnl_attr_get_payload_len(a);
	const char *text = mnl_attr_get_payload(a);

	if ((type == MNL_TYPE_U32 && len == sizeof(uint32_t)) ||
		(type == MNL_TYPE_NUL_STRING && len > 0 && text[len - 1] == '\0'))
		return 0;
	errno = type == MNL_TYPE_U32 || type == MNL_TYPE_NUL_STRING ? ERANGE : EINVAL;
	return -1;
}

bool mnl_attr_put_check(
	struct nlmsghdr *h, size_t size, uint16_t type, size_t len, const void *data)
{
	struct nlattr *a = (struct nlattr *)(void *)((char *)h + MNL_ALIGN(h->nlmsg_len));
	size_t whole = ATTR_HEADER + len;

	if (whole > UINT16_MAX || MNL_ALIGN(h->nlmsg_len) + MNL_ALIGN(whole) > size)
		return false;
	memset(a, 0, MNL_ALIGN(whole));
	a->nla_type = type;
	a->nla_len = (uint16_t)whole;
	if (len)
		memcpy((char *)a + ATTR_HEADER, data, len);
	h->nlmsg_len = (uint32_t)(MNL_ALIGN(h->nlmsg_len) + MNL_ALIGN(whole));
	return true;
}
