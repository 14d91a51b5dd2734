/* SPDX-License-Identifier: Apache-2.0 */
#include "images/guest/kernel_image.h"

#include <elf.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/str.h"

#define MAX_SEGMENTS 128
#define MAX_SECTIONS 1024
#define MAX_NAMES 65536 /* largest table of section names, in bytes */
/* longest release of a kernel: __NEW_UTS_LEN in include/uapi/linux/utsname.h */
#define MAX_RELEASE 64
/*
 * Text at the beginning of the kernel's linux_banner (init/version-timestamp.c). In linux_banner
 * the release follows this text.
 */
#define BANNER "Linux version "
#define SCAN_CHUNK 65536
/*
 * how many bytes of the kernel are searched for the banner "Linux version "; Debian's vmlinux has
 * 66 million bytes
 */
#define MAX_SCAN (512ULL << 20)

/*
 * Offsets of fields in the bzImage header (Documentation/arch/x86/boot.rst, "The Real-Mode Kernel
 * Header").
 */
#define BOOT_SETUP_SECTS 0x1f1
#define BOOT_SYSSIZE 0x1f4
#define BOOT_FLAG 0x1fe
#define BOOT_MAGIC 0x202
#define BOOT_VERSION 0x206
#define BOOT_KERNEL_VERSION 0x20e
#define BOOT_PREF_ADDRESS 0x258
#define BOOT_INIT_SIZE 0x260
#define BOOT_HEADER_END 0x264
#define BOOT_SECTOR 512

struct file {
	int fd;
	uint64_t size;
	const char *what;
};

static int read_at(const struct file *f, uint64_t offset, void *data, size_t len)
{
	char *p = data;

	if (offset > f->size || len > f->size - offset)
		return err_set(EINVAL,
			"%s: truncated: it ends at byte %" PRIu64
			", %zu bytes are expected at %" PRIu64,
			f->what, f->size, len, offset);
	while (len > 0) {
		ssize_t n = pread(f->fd, p, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys("%s: read", f->what);
		if (n == 0)
			return err_set(EINVAL, "%s: became shorter while it was read", f->what);
		p += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/*
 * Returns the length of the release that begins at s. The caller has read `len` bytes from s on.
 * Returns 0 if no release begins at s, or if the end of the release is not among these bytes.
 */
static size_t release_length(const char *s, size_t len)
{
	size_t n = 0;

	while (n < len && n <= MAX_RELEASE && s[n] && !strchr(" \t\n/", s[n]) && s[n] > 0)
		n++;
	return n < len && n <= MAX_RELEASE && s[n] == ' ' && s[0] >= '0' && s[0] <= '9' ? n : 0;
}

static int set_release(struct arena *a, const char *s, size_t len, const char **ret)
{
	*ret = arena_strndup(a, s, len);
	return *ret ? 0 : -ENOMEM;
}

/*
 * Looks for the banner "Linux version " in a part of the file, and sets *ret to the release behind
 * the banner. *ret stays NULL if there is no banner.
 */
static int scan_for_release(
	struct arena *a, const struct file *f, uint64_t offset, uint64_t len, const char **ret)
{
	/*
	 * Each chunk of the file repeats the last `keep` bytes of the chunk before it, because the
	 * banner may lie across the boundary of two chunks.
	 */
	const size_t keep = sizeof(BANNER) + MAX_RELEASE;
	_cleanup_free_ char *chunk = malloc(SCAN_CHUNK);

	if (!chunk)
		return err_set(ENOMEM, "%s: out of memory", f->what);
	while (len > keep) {
		size_t n = len < SCAN_CHUNK ? (size_t)len : SCAN_CHUNK;
		const char *at = chunk, *end = chunk + n;
		int r = read_at(f, offset, chunk, n);

		if (r < 0)
			return r;
		while ((at = memmem(at, (size_t)(end - at), BANNER, strlen(BANNER)))) {
			at += strlen(BANNER);
			size_t found = release_length(at, (size_t)(end - at));
			if (found)
				return set_release(a, at, found, ret);
		}
		offset += n - keep;
		len -= n - keep;
		if (n < SCAN_CHUNK)
			break;
	}
	return 0;
}

/*
 * Finds the section .rodata of the kernel, which begins with the banner "Linux version ".
 * ret->sh_size stays 0 if there is no such section.
 */
static int find_rodata(struct arena *a, const struct file *f, const Elf64_Ehdr *e, Elf64_Shdr *ret)
{
	Elf64_Shdr *s, *names;
	char *text;

	*ret = (Elf64_Shdr){0};
	if (e->e_shentsize != sizeof(*s) || e->e_shnum == 0 || e->e_shnum > MAX_SECTIONS ||
		e->e_shstrndx >= e->e_shnum)
		return 0;
	s = arena_array(a, e->e_shnum, sizeof(*s));
	if (!s)
		return -ENOMEM;
	int r = read_at(f, e->e_shoff, s, e->e_shnum * sizeof(*s));
	if (r < 0)
		return r;
	names = &s[e->e_shstrndx];
	if (names->sh_size == 0 || names->sh_size > MAX_NAMES)
		return 0;
	text = arena_alloc(a, names->sh_size + 1);
	if (!text)
		return -ENOMEM;
	r = read_at(f, names->sh_offset, text, names->sh_size);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < e->e_shnum; i++)
		if (s[i].sh_type == SHT_PROGBITS && s[i].sh_name < names->sh_size &&
			streq(text + s[i].sh_name, ".rodata"))
			*ret = s[i];
	return 0;
}

static int check_segments(
	struct arena *a, const struct file *f, const Elf64_Ehdr *e, uint64_t *ret_end)
{
	Elf64_Phdr *p;

	if (e->e_phentsize != sizeof(*p) || e->e_phnum == 0 || e->e_phnum > MAX_SEGMENTS)
		return err_set(ENOEXEC,
			"%s: not a kernel: an ELF file with %u program headers of %u bytes: "
			"expected 1 to %d of %zu",
			f->what, e->e_phnum, e->e_phentsize, MAX_SEGMENTS, sizeof(*p));
	p = arena_array(a, e->e_phnum, sizeof(*p));
	if (!p)
		return -ENOMEM;
	int r = read_at(f, e->e_phoff, p, e->e_phnum * sizeof(*p));
	if (r < 0)
		return r;
	for (unsigned i = 0; i < e->e_phnum; i++) {
		if (p[i].p_type == PT_INTERP)
			return err_set(ENOEXEC,
				"%s: not a kernel: a program of user space (it names an ELF "
				"interpreter)",
				f->what);
		if (p[i].p_type == PT_LOAD &&
			(p[i].p_offset > f->size || p[i].p_filesz > f->size - p[i].p_offset))
			return err_set(EINVAL,
				"%s: truncated: it has %" PRIu64 " bytes, and segment %u ends "
				"beyond them: install or build it again",
				f->what, f->size, i);
		if (p[i].p_type != PT_LOAD)
			continue;
		uint64_t end = p[i].p_paddr + p[i].p_memsz;
		if (end < p[i].p_paddr)
			end = UINT64_MAX;
		if (end > *ret_end)
			*ret_end = end;
	}
	return 0;
}

static int read_elf(struct arena *a, const struct file *f, struct kernel_image *ret)
{
	Elf64_Ehdr e;
	Elf64_Shdr rodata = {0};
	int r = read_at(f, 0, &e, sizeof(e));

	if (r < 0)
		return r;
	if (e.e_ident[EI_CLASS] != ELFCLASS64 || e.e_ident[EI_DATA] != ELFDATA2LSB ||
		e.e_machine != EM_X86_64)
		return err_set(ENOEXEC,
			"%s: an ELF file for another machine (class %u, machine %u): expected a "
			"64-bit x86 kernel",
			f->what, e.e_ident[EI_CLASS], e.e_machine);
	if (e.e_type != ET_EXEC && e.e_type != ET_DYN)
		return err_set(ENOEXEC, "%s: not a kernel: an ELF file of type %u, not executable",
			f->what, e.e_type);
	r = check_segments(a, f, &e, &ret->memory_end);
	if (r == 0)
		r = find_rodata(a, f, &e, &rodata);
	if (r < 0)
		return r;
	ret->release = NULL;
	if (rodata.sh_size > 0 && rodata.sh_offset <= f->size &&
		rodata.sh_size <= f->size - rodata.sh_offset)
		r = scan_for_release(a, f, rodata.sh_offset, rodata.sh_size, &ret->release);
	if (r == 0 && !ret->release)
		r = scan_for_release(
			a, f, 0, f->size < MAX_SCAN ? f->size : MAX_SCAN, &ret->release);
	if (r == 0 && !ret->release)
		return err_set(ENOEXEC,
			"%s: not a Linux kernel: an ELF file without the text \"" BANNER "...\"",
			f->what);
	return r;
}

static uint16_t le16_at(const unsigned char *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t le32_at(const unsigned char *p)
{
	return le16_at(p) | (uint32_t)le16_at(p + 2) << 16;
}

static int read_bzimage(
	struct arena *a, const struct file *f, const unsigned char *head, struct kernel_image *ret)
{
	unsigned sectors = head[BOOT_SETUP_SECTS] ? head[BOOT_SETUP_SECTS] : 4;
	uint64_t setup = (uint64_t)(sectors + 1) * BOOT_SECTOR;
	uint64_t whole = setup + 16 * (uint64_t)le32_at(head + BOOT_SYSSIZE);
	uint64_t at = BOOT_SECTOR + (uint64_t)le16_at(head + BOOT_KERNEL_VERSION);
	char text[MAX_RELEASE + 2];

	/*
	 * The file may be longer than the kernel that its header describes, because a signature for
	 * Secure Boot or padding can follow.
	 */
	if (whole > f->size)
		return err_set(EINVAL,
			"%s: truncated: a bzImage of %" PRIu64 " bytes, of which %" PRIu64
			" are there: install or build it again",
			f->what, whole, f->size);
	if (at == BOOT_SECTOR || at + sizeof(text) > setup)
		return err_set(ENOEXEC, "%s: a bzImage that names no kernel version", f->what);
	int r = read_at(f, at, text, sizeof(text));
	if (r < 0)
		return r;
	size_t len = release_length(text, sizeof(text));
	if (len == 0)
		return err_set(ENOEXEC, "%s: a bzImage that names no kernel version", f->what);
	if (le16_at(head + BOOT_VERSION) >= 0x20a)
		ret->memory_end = (le32_at(head + BOOT_PREF_ADDRESS) |
					  (uint64_t)le32_at(head + BOOT_PREF_ADDRESS + 4) << 32) +
				  le32_at(head + BOOT_INIT_SIZE);
	return set_release(a, text, len, &ret->release);
}

int kernel_image_read(struct arena *a, int fd, const char *what, struct kernel_image *ret)
{
	unsigned char head[BOOT_HEADER_END] = {0};
	struct file f = {.fd = fd, .what = what};
	struct stat st;

	*ret = (struct kernel_image){0};
	if (fstat(fd, &st) < 0)
		return err_sys("%s: stat", what);
	if (!S_ISREG(st.st_mode))
		return err_set(EINVAL, "%s: expected a kernel, not a %s", what,
			S_ISDIR(st.st_mode) ? "directory" : "special file");
	f.size = (uint64_t)st.st_size;
	int r = read_at(&f, 0, head, f.size < sizeof(head) ? (size_t)f.size : sizeof(head));
	if (r < 0)
		return r;
	if (memcmp(head, ELFMAG, SELFMAG) == 0) {
		ret->format = KERNEL_ELF;
		return read_elf(a, &f, ret);
	}
	if (le16_at(head + BOOT_FLAG) == 0xaa55 && memcmp(head + BOOT_MAGIC, "HdrS", 4) == 0 &&
		le16_at(head + BOOT_VERSION) >= 0x200) {
		ret->format = KERNEL_BZIMAGE;
		return read_bzimage(a, &f, head, ret);
	}
	return err_set(ENOEXEC,
		"%s: not a kernel: neither ELF (vmlinux) nor bzImage (vmlinuz); it has %" PRIu64
		" bytes and starts with %02x %02x %02x %02x",
		what, f.size, head[0], head[1], head[2], head[3]);
}
