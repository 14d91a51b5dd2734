/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of the program caisson-init; IMAGE is its path in the build directory. */
	.section .rodata
	.global caisson_init_image, caisson_init_image_end
	.balign 16
caisson_init_image:
	.incbin IMAGE
caisson_init_image_end:
	.byte 0
	.section .note.GNU-stack, "", %progbits
