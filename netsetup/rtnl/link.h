/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds and changes one interface. Error messages say what failed; the caller adds the name of the
 * interface.
 */
#pragma once
#include "netsetup/rtnl/netlink.h"

struct link {
	int index;
	unsigned flags; /* flags of the interface: IFF_* */
	char name[IFNAMSIZ];
};

/*
 * Finds an interface by its name or an alternative name, or by its index if name is NULL. Returns
 * -ENODEV with a message if there is no such interface.
 */
int link_get(struct nl *nl, const char *name, int index, struct link *ret) must_check;

/* Returns the greatest index of an interface in the namespace, or -errno. */
int link_max_index(struct nl *nl) must_check;

/* Sets and clears IFF_* flags of the interface. */
int link_set_flags(struct nl *nl, int index, unsigned set, unsigned clear) must_check;

/*
 * Checks that the kernel accepts the text as the name of an interface, by the rule of its
 * dev_valid_name() and by its sysctls: 1 to 15 bytes, without a blank, '/' or ':', and none of ".",
 * "..", "all" and "default". If allow_template is set, one "%d" may be in the name. Returns 0, or
 * -EINVAL with a message.
 */
int link_check_name(const char *name, bool allow_template) must_check;
