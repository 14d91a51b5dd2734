/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes fake guest kernels and trees of modules: a kernel is a header with a version, a module is a
 * line of text. Each test runs in a directory of its own.
 */
#pragma once
#include "images/guest/guest_kernel.h"

#define CACHED "cache/initramfs-*"
/*
 * The text of a modules.dep that has every module which images/guest/guest_kernel.c requires, and
 * the modules on which these depend.
 */
#define DEP \
	"k/virtio.ko:\nk/virtio_ring.ko: k/virtio.ko\nk/virtio_mmio.ko: k/virtio_ring.ko " \
	"k/virtio.ko\n" \
	"k/fuse.ko:\nk/virtiofs.ko: k/fuse.ko k/virtio_ring.ko k/virtio.ko\n" \
	"k/vsock.ko:\nk/vmw_vsock_virtio_transport.ko: k/vsock.ko\nk/virtio_console.ko:\n" \
	"k/virtio_blk.ko:\nk/virtio_net.ko:\nk/virtio-rng.ko:\nk/virtio_balloon.ko:\n" \
	"k/overlay.ko:\nk/ext4.ko:\nk/unrelated.ko:\n"
#define FILES \
	"virtio virtio_ring virtio_mmio fuse virtiofs vsock vmw_vsock_virtio_transport " \
	"virtio_console virtio_blk virtio_net virtio-rng virtio_balloon overlay ext4"
#define CONFIG \
	"CONFIG_VIRTIO_MMIO=y\nCONFIG_VIRTIO_FS=y\nCONFIG_VIRTIO_VSOCKETS=y\n" \
	"CONFIG_VIRTIO_CONSOLE=y\nCONFIG_VIRTIO_BLK=y\nCONFIG_VIRTIO_NET=y\n" \
	"CONFIG_HW_RANDOM_VIRTIO=y\nCONFIG_VIRTIO_BALLOON=y\nCONFIG_OVERLAY_FS=y\n"

void put_file(const char *path, const void *data, size_t len);

void put_text(const char *path, const char *text);

/*
 * Makes a bzImage of boot protocol 2.15: a boot sector, one sector of setup code, and 64 bytes of
 * code. Returns its length.
 */
size_t make_bzimage(unsigned char image[2048], const char *release);

void put_vmlinuz(const char *path, const char *release);

/*
 * Writes an ELF kernel that has one segment of `size` bytes, with the version banner at offset
 * `at`.
 */
void put_vmlinux(const char *path, const char *release, size_t size, size_t at);

/*
 * Makes the directory BASE/RELEASE with a modules.dep and with the module files, whose names end in
 * the suffix.
 */
void put_modules(const char *base, const char *release, const char *dep, const char *suffix);

int kernel_tree_setup(void **state);

int kernel_tree_teardown(void **state);

void find_fails(const char *kernel, int code, const char *text);
