/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clone_vm.h"

#include <sched.h>

#ifdef __x86_64__
/* The child's stack is empty, so the child calls fn and must not return to the caller's frames. */
pid_t clone_vm(struct clone_args *args, int (*fn)(void *data), void *data)
{
	long r;
	register long fn_reg __asm__("r8") = (long)fn;
	register long data_reg __asm__("r9") = (long)data;

	__asm__ volatile(
		"syscall\n\t"
		"test %%rax, %%rax\n\t"
		"jnz 1f\n\t"
		"xor %%ebp, %%ebp\n\t"
		"mov %%r9, %%rdi\n\t"
		"call *%%r8\n\t"
		"hlt\n"
		"1:"
		: "=a"(r)
		: "a"(SYS_clone3), "D"(args), "S"(sizeof(*args)), "r"(fn_reg), "r"(data_reg)
		: "rcx", "r11", "memory", "cc");
	if (r < 0)
		errno = (int)-r;
	return r < 0 ? -1 : (pid_t)r;
}
#else
/* Without assembly only the flags and the stack reach the kernel, and musl may refuse the flags. */
pid_t clone_vm(struct clone_args *args, int (*fn)(void *data), void *data)
{
	char *top = (char *)(uintptr_t)args->stack + args->stack_size;

	return clone(fn, top, (int)(args->flags | args->exit_signal), data);
}
#endif
