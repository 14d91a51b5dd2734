/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The start of the bare-metal guest. It goes from Xen's PVH entry (32-bit, no paging, EBX = start
 * info) to main() in long mode, with the first 4 GiB mapped 1:1. The second vCPU goes from real
 * mode at AP_AT to ap_main(). Interrupts stay off.
 */
#define AP_AT 0x8000

	.section .note.Xen, "a", @note
	.balign 4
	.long 4, 4, 18		/* XEN_ELFNOTE_PHYS32_ENTRY */
	.ascii "Xen\0"
	.long start32

	.text
	.code32
	.globl start32
start32:
	cld
	mov $stack_end, %esp
	mov %ebx, %esi
	mov $directories, %edi
	mov $0x83, %eax		/* present, writable, 2 MiB */
	mov $2048, %ecx
1:	mov %eax, (%edi)
	add $0x200000, %eax
	add $8, %edi
	loop 1b
	mov $directories + 3, %eax
	mov $pointers, %edi
	mov $4, %ecx
2:	mov %eax, (%edi)
	add $0x1000, %eax
	add $8, %edi
	loop 2b
	movl $pointers + 3, top
	mov $main, %ebp
	jmp to_long

ap32:	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $ap_stack_end, %esp
	mov $ap_main, %ebp

to_long:
	mov %cr4, %eax
	or $0x20, %eax		/* PAE */
	mov %eax, %cr4
	mov $top, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx
	rdmsr
	or $0x100, %eax		/* EFER.LME */
	wrmsr
	mov %cr0, %eax
	or $0x80000000, %eax
	mov %eax, %cr0
	lgdt gdt_at
	ljmp $8, $start64

	.code64
start64:
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov %esi, %edi
	mov %ebp, %eax
	call *%rax
3:	hlt
	jmp 3b

	.code16
	.globl ap_start, ap_end
ap_start:
	cli
	xor %ax, %ax
	mov %ax, %ds
	lgdtl AP_AT + ap_gdt_at - ap_start
	mov %cr0, %eax
	or $1, %al
	mov %eax, %cr0
	ljmpl $0x18, $ap32
ap_gdt_at:
	.word 31
	.long gdt
ap_end:

	.section .rodata
	.balign 8
gdt:	.quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff, 0x00cf9a000000ffff
gdt_at:	.word 31
	.quad gdt

	.bss
	.balign 4096
top:	.skip 4096
pointers: .skip 4096
directories: .skip 4 * 4096
	.skip 8192
stack_end:
	.skip 8192
ap_stack_end:
	.section .note.GNU-stack, "", @progbits
