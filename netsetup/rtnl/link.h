/* SPDX-License-Identifier: Apache-2.0 */
/* One interface: finding it and changing it. Internal to netsetup/. Errors name what failed, not
 * the interface. */
#pragma once
#include "netsetup/rtnl/netlink.h"

struct link {
	int index;
	unsigned flags; /* IFF_* */
	char name[IFNAMSIZ];
};

/*
 * By name (alternative names count) or, with name NULL, by index. -ENODEV if there is none, which
 * sets the message too.
 */
int link_get(struct nl *nl, const char *name, int index, struct link *ret) must_check;

/* The greatest index in use. */
int link_max_index(struct nl *nl) must_check;

/* Sets and clears IFF_* flags. */
int link_set_flags(struct nl *nl, int index, unsigned set, unsigned clear) must_check;

/*
 * 0 if the kernel takes the text for the name of an interface (dev_valid_name): 1 to 15 bytes, no
 * blank, '/', ':', not "." or "..". With template, one "%d" may be in it. Else -EINVAL with a
 * message.
 */
int link_check_name(const char *name, bool allow_template) must_check;
