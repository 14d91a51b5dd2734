/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The main program of the bare-metal guest: it finds the devices, does with each of them what the
 * kernel's command line says, and reports the result on the console.
 */
#include <linux/virtio_blk.h>
#include <linux/virtio_fs.h>

#include "unit/drive/drive.h"

#define BASE 0xd0000000UL
#define STEP 0x1000UL
#define MAGIC 0x74726976

struct start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, cmdline, rsdp, map;
	uint32_t map_count, reserved;
};

struct map_entry {
	uint64_t at, len;
	uint32_t type, reserved;
};

uint64_t edges[3];

static struct device devices[DEVICES_MAX];
static struct device spares[DEVICES_MAX];
static unsigned device_count, spare_count, checked;
static char report[512];
static size_t report_len;
static bool hasty; /* the guest switches the machine off before its report is written */

static void add(const char *text)
{
	while (*text && report_len < sizeof(report))
		report[report_len++] = *text++;
}

static void add_number(unsigned n)
{
	char digits[12], *p = digits + sizeof(digits);

	*--p = '\0';
	do
		*--p = (char)('0' + n % 10);
	while (n /= 10);
	add(p);
}

static void say_by_serial_port(void)
{
	for (size_t i = 0; i < report_len; i++)
		__asm__ volatile("outb %0, %1" : : "a"(report[i]), "d"((uint16_t)0x3f8));
}

static void say(struct device *console)
{
	if (hasty && bring_up(console)) {
		const struct part all = {report, (uint32_t)report_len, false};
		offer(console, 1, put(console, 1, &all, 1));
		kick(console, 1);
	} else if (bring_up(console)) {
		console_say(console, report, report_len);
	}
}

static void end(void)
{
	bool said = false;

	for (unsigned i = 0; i < device_count; i++) {
		if (devices[i].id != ID_CONSOLE)
			continue;
		say(&devices[i]);
		said = true;
	}
	if (!said)
		say_by_serial_port();
	__asm__ volatile("outb %0, %1" : : "a"((uint8_t)0x34), "d"((uint16_t)0x600));
	for (;;)
		pause();
}

void check_at(const struct device *d, bool ok, const char *what, int line)
{
	checked++;
	if (ok)
		return;
	add("\n");
	add(d->name);
	add(": ");
	add((const char *)PROGRESS_AT);
	add(": not true: ");
	add(what);
	add(", line ");
	add_number((unsigned)line);
	add("\n");
	end();
}

void progress(const struct device *d, const char *what)
{
	char *p = (char *)PROGRESS_AT;
	const char *const texts[] = {d->name, " ", what};

	for (unsigned i = 0; i < 3; i++)
		for (const char *t = texts[i]; *t && p < (char *)PROGRESS_AT + 127; t++)
			*p++ = *t;
	*p = '\0';
}

uint32_t random32(void)
{
	static uint32_t state = 1;

	state = state * 1664525 + 1013904223;
	return state >> 8;
}

bool identify(struct device *d)
{
	static const struct device kinds[] = {
		{0, ID_CONSOLE, "console", 2, 1, 12, use_console},
		{0, ID_RNG, "rng", 1, 0, 0, use_rng},
		{0, ID_BALLOON, "balloon", 3, 0, 8, use_balloon},
		{0, ID_BLK, "blk", 1, 0, sizeof(struct virtio_blk_config), use_blk},
		{0, ID_FS, "fs", 2, 1, sizeof(struct virtio_fs_config), use_fs},
		{0, ID_NET, "net", 2, 1, 12, use_net},
		{0, ID_VSOCK, "vsock", 3, 1, 8, use_vsock},
	};

	const uint64_t base = d->base;
	const uint32_t id = get(d, VIRTIO_MMIO_DEVICE_ID);

	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (kinds[i].id != id)
			continue;
		*d = kinds[i];
		d->base = base;
		return true;
	}
	return false;
}

static void find_devices(void)
{
	for (uint64_t base = BASE; *(volatile uint32_t *)base == MAGIC; base += STEP) {
		struct device *d = &devices[device_count];

		d->base = base;
		if (get(d, VIRTIO_MMIO_DEVICE_ID) == 0) {
			spares[spare_count++] = *d;
			check_at(d, spare_count < DEVICES_MAX, "room for a spare slot", __LINE__);
			continue;
		}
		device_count++;
		check_at(d, identify(d) && device_count < DEVICES_MAX, "a known device", __LINE__);
	}
}

static void find_edges(const struct start_info *info)
{
	const struct map_entry *m = (const struct map_entry *)info->map;

	edges[0] = m[2].at + m[2].len;
	edges[1] = info->map_count > 3 ? m[3].at : 0x100000000;
	edges[2] = info->map_count > 3 ? m[3].at + m[3].len : edges[1];
}

static void do_all(char what)
{
	for (unsigned i = 0; i < device_count; i++) {
		struct device *d = &devices[i];

		if (what == 'R')
			sweep_registers(d);
		if (what == 'C')
			sweep_config(d);
		if (what == 'Q' && d->id != ID_FS)
			bad_rings(d);
		if (what == 'D' && d->id != ID_FS)
			bad_chains(d);
		if (what == 'S')
			reset_storm(d);
		if (what == '2')
			race(d);
		if (what == 'F' && d->id == ID_FS)
			break_once(d);
		if (what != 'F' || d->id != ID_FS) {
			progress(d, "use");
			CHECK(d, use_device(d));
		}
	}
}

void main(const struct start_info *info);

void main(const struct start_info *info)
{
	find_edges(info);
	find_devices();
	for (const char *what = (const char *)info->cmdline; *what; what++) {
		if (*what == 'P')
			survive(devices, device_count);
		else if (*what == 'L')
			hasty = true;
		else if (*what == 'H')
			plug_in(devices, device_count, spares, spare_count);
		else
			do_all(*what);
	}
	add("\nok ");
	add_number(checked);
	add("\n");
	end();
}
