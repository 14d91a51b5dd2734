/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bare-metal guests of a few bytes, position-independent, which test_vm_vcpu.c loads at 1 MiB. They
 * use these ports: 0x510 takes a byte for the test's log, 0x514 a 32-bit value, 0x600 switches
 * power (arch.h).
 */
#define POWER_OFF mov $0x600, %dx; mov $0x34, %al; out %al, %dx
#define GUEST(name) .globl guest_##name, guest_##name##_end; guest_##name:
#define END(name) guest_##name##_end:

	.section .rodata
	.code64
GUEST(hello)
	mov $0x510, %dx
	mov $'h', %al
	out %al, %dx
	lea text(%rip), %rsi
	mov $4, %ecx
	cld
	rep outsb		/* one exit with several items */
	mov $0xd0000000, %ebx
	movl $0x12345678, (%rbx)
	mov (%rbx), %eax	/* what the test's device answers */
	mov $0x514, %dx
	out %eax, %dx
	in %dx, %eax
	mov %eax, 4(%rbx)
	mov $0x700, %dx		/* nobody's port: all ones */
	in %dx, %eax
	mov $0x514, %dx
	out %eax, %dx
	POWER_OFF
1:	jmp 1b
text:	.ascii "ello"
END(hello)

GUEST(argument)
	mov $0x514, %dx
	mov %esi, %eax
	out %eax, %dx
	mov $0x602, %dx
	mov $1, %al
	out %al, %dx		/* reset */
1:	jmp 1b
END(argument)

	.code32
GUEST(pvh)
	mov $0x514, %dx
	mov %ebx, %eax
	out %eax, %dx
	mov %cr0, %eax
	out %eax, %dx
	POWER_OFF
1:	jmp 1b
END(pvh)

	.code64
GUEST(triple)
	mov $0x11223344, %r9d
	ud2
END(triple)

GUEST(nowhere)
	mov $0xd0001000, %eax
	jmp *%rax
END(nowhere)

GUEST(sleep_s3)
	mov $0x600, %dx
	mov $0x2c, %al
	out %al, %dx
1:	jmp 1b
END(sleep_s3)

/* Counts at 0x200000 for ever. */
GUEST(spin)
	mov $0x200000, %ebx
1:	incq (%rbx)
	jmp 1b
END(spin)

/* Halts for ever, with interrupts off. */
GUEST(halt)
	mov $0x510, %dx
	mov $'.', %al
	out %al, %dx
1:	hlt
	jmp 1b
END(halt)

/*
 * Writes to the doorbell at 0xd0002050: first value 0, which its ioeventfd matches, then value 1,
 * which no eventfd matches.
 */
GUEST(doorbell)
	mov $0xd0002050, %ebx
	movl $0, (%rbx)
	movl $0, (%rbx)
	movl $1, (%rbx)
	POWER_OFF
1:	jmp 1b
END(doorbell)

/* Routes GSI 5 to vector 0x40. The test has put an IDT with that gate (to `handler`) at 0x1000. */
GUEST(interrupt)
	mov $0x90000, %esp
	lea idtr(%rip), %rax
	lidt (%rax)
	mov $0xfee000f0, %ebx
	movl $0x1ff, (%rbx)	/* LAPIC on */
	mov $0xfec00000, %ebx
	movl $0x1a, (%rbx)	/* redirection of pin 5: low half */
	movl $0x40, 0x10(%rbx)
	sti
	mov $0x510, %dx
	mov $'r', %al
	out %al, %dx		/* the test raises the line now */
1:	hlt
	jmp 1b
	.balign 64
	/* At a multiple of 64 so that the test finds it: guest_interrupt_handler */
	.globl guest_interrupt_handler
guest_interrupt_handler:
	mov $0x510, %dx
	mov $'i', %al
	out %al, %dx
	mov $0xfee000b0, %ebx
	movl $0, (%rbx)		/* EOI */
	POWER_OFF
	iretq
idtr:	.word 0x7ff
	.quad 0x1000
END(interrupt)

/* Copies `ap` to 0x8000, wakes vCPU 1 there by INIT and SIPI, and waits for its flag at 0x8800. */
GUEST(smp)
	lea ap(%rip), %rsi
	mov $0x8000, %edi
	mov $(ap_end - ap), %ecx
	cld
	rep movsb
	mov $0xfee00000, %ebx
	movl $0x1ff, 0xf0(%rbx)
	movl $0x01000000, 0x310(%rbx)
	movl $0x4500, 0x300(%rbx)
	movl $0x01000000, 0x310(%rbx)
	movl $0x4608, 0x300(%rbx)
	mov $0x8800, %edi
1:	pause
	cmpb $0x5a, (%rdi)
	jne 1b
	mov $0x510, %dx
	mov $'2', %al
	out %al, %dx
	POWER_OFF
2:	jmp 2b
	.code16
ap:	mov %cs, %ax
	mov %ax, %ds
	movb $0x5a, 0x800
3:	hlt
	jmp 3b
ap_end:
	.code64
END(smp)
	.section .note.GNU-stack, "", @progbits
