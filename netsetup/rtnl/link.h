/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding and changing one interface. Errors say what failed; the caller adds the name of the
 * interface.
 */
#pragma once
#include "netsetup/rtnl/netlink.h"

struct link {
	int index;
	unsigned flags; /* IFF_* */
	char name[IFNAMSIZ];
};

/*
 * Finds an interface by its name or an alternative name, or, if name is NULL, by its index. -ENODEV
 * with a message: there is none.
 */
int link_get(struct nl *nl, const char *name, int index, struct link *ret) must_check;

/* The greatest index of an interface in the namespace. */
int link_max_index(struct nl *nl) must_check;

/* Sets and clears IFF_* flags. */
int link_set_flags(struct nl *nl, int index, unsigned set, unsigned clear) must_check;

/*
 * Checks that the kernel accepts the text as the name of an interface (dev_valid_name): 1 to 15
 * bytes, without a blank, '/' or ':', and neither "." nor "..". allow_template: one "%d" may be in
 * it. 0, or -EINVAL with a message.
 */
int link_check_name(const char *name, bool allow_template) must_check;
