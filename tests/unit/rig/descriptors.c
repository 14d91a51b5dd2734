/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rig/descriptors.h"

#include <fcntl.h>

unsigned descriptors_below(int limit)
{
	unsigned n = 0;

	for (int fd = 0; fd < limit; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}
