/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/irq.h"

#include <sys/eventfd.h>

int vm_irq_init_gsi(struct vm_irq *ret, const struct vm_kvm *k, unsigned gsi)
{
	_cleanup_fd_ int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return err_sys("create an eventfd for an interrupt");
	int r = vm_kvm_irqfd(k, fd, gsi);
	if (r < 0)
		return r;
	*ret = (struct vm_irq){.fd = take_fd(&fd), .gsi = gsi};
	return 0;
}

int vm_irq_init(struct vm_irq *ret, const struct vm_kvm *k, unsigned index)
{
	if (index >= VM_GSI_COUNT)
		return err_set(ENOSPC, "device %u: the machine has %u interrupt lines for devices",
			index, VM_GSI_COUNT);
	return vm_irq_init_gsi(ret, k, VM_GSI_FIRST + index);
}

void vm_irq_release(struct vm_irq *irq)
{
	fd_close(&irq->fd);
}

void vm_irq_raise(const struct vm_irq *irq)
{
	/*
	 * Ignores an error of write(2), because it fails only if the counter of the eventfd is
	 * full, and KVM delivers an edge in that case too.
	 */
	eventfd_t one = 1;
	ssize_t n = write(irq->fd, &one, sizeof(one));

	(void)n;
}
