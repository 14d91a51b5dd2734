/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/genid.h"

#include <sys/random.h>

#include "vm/arch/x86_64/arch.h"
#include "vm/vmclock.h"

int vm_genid_renew(const struct vm_memory *m)
{
	uint8_t id[VM_GENID_LEN];

	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		return err_sys("draw the machine's generation id");
	int r = vm_memory_write(m, ARCH_GENID, id, sizeof(id), "generation id");
	return r < 0 ? r : vm_vmclock_renew(m);
}
