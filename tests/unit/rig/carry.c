/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rig/carry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <unistd.h>

#include "unit/rig/net.h"

void add_interface(const struct nets *n, const char *name, const char *far, const char *mac)
{
	char command[512];

	snprintf(command, sizeof(command),
		"ip link add %s address %s type veth peer name %s netns /proc/%d/fd/%d && ip "
		"link set %s up && nsenter --net=/proc/%d/fd/%d ip link set %s up",
		name, mac, far, getpid(), n->peer, name, getpid(), n->peer, far);
	run_shell(command);
}

void read_box(const struct nets *n, struct arena *a, struct net_config *ret)
{
	assert_ok(net_config_read(a, n->box, ret));
}

int carry_setup(void **state)
{
	struct nets *n = nets_new();

	if (n) {
		n->peer = net_namespace_new();
		n->guest = net_namespace_new();
		n->box = net_namespace_new();
	}
	*state = n;
	return 0;
}
