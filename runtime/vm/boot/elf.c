/* SPDX-License-Identifier: Apache-2.0 */
#include <elf.h>
#include <inttypes.h>
#include <string.h>

#include "base/str.h"
#include "vm/arch/x86_64/arch.h"
#include "vm/boot/boot.h"

#define SEGMENTS_MAX 64
#define NOTES_MAX 65536
#define XEN_ELFNOTE_PHYS32_ENTRY 18

static size_t phdr_size(const Elf64_Ehdr *h)
{
	return h->e_ident[EI_CLASS] == ELFCLASS32 ? sizeof(Elf32_Phdr) : sizeof(Elf64_Phdr);
}

static int check_header(const Elf64_Ehdr *h)
{
	unsigned class = h->e_ident[EI_CLASS], machine = h->e_machine;

	if (!(class == ELFCLASS64 && machine == EM_X86_64) &&
		!(class == ELFCLASS32 && machine == EM_386))
		return err_set(ENOEXEC,
			"a kernel for another machine: expected ELF for x86-64 or i386; found "
			"class %u, machine %u",
			class, machine);
	if (h->e_ident[EI_DATA] != ELFDATA2LSB)
		return err_set(ENOEXEC, "ELF data %u: expected little-endian", h->e_ident[EI_DATA]);
	if (h->e_type != ET_EXEC && h->e_type != ET_DYN)
		return err_set(ENOEXEC, "ELF type %u: expected an executable", h->e_type);
	if (h->e_phentsize != phdr_size(h) || h->e_phnum == 0 || h->e_phnum > SEGMENTS_MAX)
		return err_set(ENOEXEC, "%u program headers of %u bytes: expected 1 to %u of %zu",
			h->e_phnum, h->e_phentsize, SEGMENTS_MAX, phdr_size(h));
	return 0;
}

/*
 * Reads the ELF header. The header of a 32-bit ELF, which a PVH kernel may be because PVH starts it
 * in 32-bit mode, is converted to the 64-bit form.
 */
static int read_header(int fd, Elf64_Ehdr *ret)
{
	Elf32_Ehdr h;
	int r = boot_read(fd, ret, 0, sizeof(*ret), "kernel");

	if (r < 0 || ret->e_ident[EI_CLASS] != ELFCLASS32)
		return r;
	memcpy(&h, ret, sizeof(h));
	ret->e_type = h.e_type;
	ret->e_machine = h.e_machine;
	ret->e_phoff = h.e_phoff;
	ret->e_phentsize = h.e_phentsize;
	ret->e_phnum = h.e_phnum;
	return 0;
}

/* Reads the program headers, and converts those of a 32-bit ELF to the 64-bit form. */
static int read_phdrs(int fd, const Elf64_Ehdr *h, Elf64_Phdr *ret)
{
	Elf32_Phdr small[SEGMENTS_MAX];

	if (h->e_ident[EI_CLASS] == ELFCLASS64)
		return boot_read(fd, ret, h->e_phoff, h->e_phnum * sizeof(*ret), "kernel");
	int r = boot_read(fd, small, h->e_phoff, h->e_phnum * sizeof(*small), "kernel");
	for (unsigned i = 0; r >= 0 && i < h->e_phnum; i++)
		ret[i] = (Elf64_Phdr){.p_type = small[i].p_type,
			.p_offset = small[i].p_offset,
			.p_paddr = small[i].p_paddr,
			.p_filesz = small[i].p_filesz,
			.p_memsz = small[i].p_memsz};
	return r;
}

static bool in_file(uint64_t offset, uint64_t len, uint64_t file)
{
	return offset <= file && len <= file - offset;
}

static int load_segment(
	const struct vm_memory *m, int fd, const Elf64_Phdr *p, struct boot_kernel *k)
{
	if (p->p_memsz == 0 && p->p_filesz == 0)
		return 0;
	if (p->p_filesz > p->p_memsz)
		return err_set(ENOEXEC,
			"a segment with %" PRIu64 " bytes in memory and %" PRIu64
			" in the file: expected no more in the file",
			p->p_memsz, p->p_filesz);
	/*
	 * Refuses a segment of the kernel below 1 MiB, because the page tables, the command line
	 * and the ACPI tables lie there.
	 */
	if (p->p_paddr < ARCH_KERNEL)
		return err_set(
			ENOEXEC, "a segment at 0x%" PRIx64 ": expected it above 1 MiB", p->p_paddr);
	void *to = vm_memory_at(m, p->p_paddr, p->p_memsz);
	if (!to)
		return err_set(ENOSPC,
			"a segment of %" PRIu64 " bytes at 0x%" PRIx64
			" does not fit into the machine's memory of %" PRIu64
			" MiB; give the machine more "
			"memory",
			p->p_memsz, p->p_paddr, m->size >> 20);
	int r = boot_read(fd, to, p->p_offset, p->p_filesz, "kernel");
	if (r < 0)
		return r;
	if (k->end == 0 || p->p_paddr < k->start)
		k->start = p->p_paddr;
	if (p->p_paddr + p->p_memsz > k->end)
		k->end = p->p_paddr + p->p_memsz;
	return 0;
}

/*
 * Looks for the PVH entry address in the ELF notes. Returns 1 and sets *ret if it is there, else 0.
 */
static int find_entry(const char *notes, uint64_t len, uint64_t *ret)
{
	for (uint64_t at = 0; len - at >= sizeof(Elf64_Nhdr);) {
		Elf64_Nhdr n;

		memcpy(&n, notes + at, sizeof(n));
		at += sizeof(n);
		uint64_t name = ((uint64_t)n.n_namesz + 3) & ~UINT64_C(3);
		uint64_t desc = ((uint64_t)n.n_descsz + 3) & ~UINT64_C(3);
		if (name > len - at || desc > len - at - name)
			return 0;
		if (n.n_type == XEN_ELFNOTE_PHYS32_ENTRY && n.n_namesz == 4 &&
			memcmp(notes + at, "Xen", 4) == 0 && (n.n_descsz == 4 || n.n_descsz == 8)) {
			*ret = 0;
			memcpy(ret, notes + at + name, n.n_descsz);
			return 1;
		}
		at += name + desc;
	}
	return 0;
}

static int read_notes(int fd, const Elf64_Phdr *p, struct boot_kernel *k)
{
	char notes[NOTES_MAX];

	if (p->p_filesz > sizeof(notes))
		/*
		 * Gives up the search for the PVH entry, because the notes are longer than those of
		 * any kernel.
		 */
		return 0;
	int r = boot_read(fd, notes, p->p_offset, p->p_filesz, "kernel");
	return r < 0 ? r : find_entry(notes, p->p_filesz, &k->entry);
}

static int load_segments(const struct vm_memory *m, int fd, const Elf64_Phdr *p, unsigned count,
	uint64_t file, struct boot_kernel *k)
{
	int found = 0;

	for (unsigned i = 0; i < count; i++) {
		int r = 0;

		if (p[i].p_type != PT_LOAD && p[i].p_type != PT_NOTE)
			continue;
		if (!in_file(p[i].p_offset, p[i].p_filesz, file))
			return err_set(ENOEXEC,
				"truncated: segment %u ends past the file's %" PRIu64 " bytes", i,
				file);
		if (p[i].p_type == PT_LOAD)
			r = err_ctx(load_segment(m, fd, &p[i], k), "segment %u", i);
		else if (!found)
			found = r = read_notes(fd, &p[i], k);
		if (r < 0)
			return r;
	}
	if (!found)
		return err_set(ENOEXEC, "no PVH entry: expected an ELF note "
					"XEN_ELFNOTE_PHYS32_ENTRY (a Linux kernel "
					"with CONFIG_PVH=y)");
	if (k->entry < k->start || k->entry >= k->end)
		return err_set(ENOEXEC, "the PVH entry 0x%" PRIx64 " is in no segment", k->entry);
	return 0;
}

int boot_load_elf(const struct vm_memory *m, int fd, uint64_t file, struct boot_kernel *ret)
{
	Elf64_Phdr phdrs[SEGMENTS_MAX];
	Elf64_Ehdr h = {0};
	int r = read_header(fd, &h);

	if (r >= 0)
		r = check_header(&h);
	if (r >= 0 && !in_file(h.e_phoff, h.e_phnum * phdr_size(&h), file))
		r = err_set(ENOEXEC, "truncated: the program headers end past the end of the file");
	if (r >= 0)
		r = read_phdrs(fd, &h, phdrs);
	if (r >= 0)
		r = load_segments(m, fd, phdrs, h.e_phnum, file, ret);
	return r;
}
