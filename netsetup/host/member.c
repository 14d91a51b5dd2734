/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes interfaces of the host on which networks are built, and gives them back. These are the
 * parents of VLANs, macvlans and ipvlans, and the members of bridges and bonds.
 *
 *	STATE/members/INTERFACE    a symbolic link to "NETWORK:up" or "NETWORK:down"
 *
 * The link, called a note, says whether the interface was up before the first network used it, and
 * is made before anything changes. Giving the interface back restores that state. The kernel itself
 * restores the MAC address and the MTU of a bond's member. Nobody restores addresses, so an
 * interface with an address cannot become a member.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "netsetup/host/host_internal.h"

#define NOTE_MAX (NETWORK_NAME_MAX + 8)
#define NOTE_PATH_MAX (IFNAMSIZ + 16)

bool network_uses(const struct network *n, const char *interface)
{
	if (!interface[0])
		return false;
	for (size_t i = 0; i < n->member_count; i++)
		if (streq(n->members[i], interface))
			return true;
	return streq(n->parent, interface);
}

/* Returns whether a network shares the interface with no other network. */
static bool is_exclusive(const struct network *n, const char *interface)
{
	return !streq(n->parent, interface) || (n->kind == NETWORK_DEVICE && !n->functions);
}

static int check_one(const struct network *n, const char *name, const struct network *other)
{
	if (streq(n->name, other->name) || !network_uses(other, name) ||
		(!is_exclusive(n, name) && !is_exclusive(other, name)))
		return 0;
	return err_set(EEXIST, "%s: network %s uses it already: expected another interface", name,
		other->name);
}

int members_check(const struct network *n, const struct network *all, size_t count)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < count; i++) {
		if (n->parent[0])
			r = check_one(n, n->parent, &all[i]);
		for (size_t k = 0; r >= 0 && k < n->member_count; k++)
			r = check_one(n, n->members[k], &all[i]);
	}
	return r;
}

/* --- Notes: record whether an interface was up before the first network used it --- */

static void note_path(const char *name, char ret[NOTE_PATH_MAX])
{
	snprintf(ret, NOTE_PATH_MAX, "members/%s", name);
}

/*
 * Reads the note that says whether the interface was up before the first network used it. Returns
 * false if the interface has no note.
 */
static bool read_note(struct host *h, const char *name, char ret[NOTE_MAX])
{
	char path[NOTE_PATH_MAX];
	ssize_t len;

	note_path(name, path);
	len = h->state_dir < 0 ? -1 : readlinkat(h->state_dir, path, ret, NOTE_MAX - 1);
	if (len < 0)
		return false;
	ret[len] = '\0';
	return true;
}

static int write_note(struct host *h, const char *network, const char *name, bool up)
{
	char path[NOTE_PATH_MAX], note[NOTE_MAX];

	snprintf(note, sizeof(note), "%s:%s", network, up ? "up" : "down");
	note_path(name, path);
	if (mkdirat(h->state_dir, "members", 0755) < 0 && errno != EEXIST)
		return err_sys("make the directory members");
	if (unlinkat(h->state_dir, path, 0) < 0 && errno != ENOENT)
		return err_sys("remove %s", path);
	return symlinkat(note, h->state_dir, path) < 0 ? err_sys("make %s", path) : 0;
}

static int remove_note(struct host *h, const char *name)
{
	char path[NOTE_PATH_MAX];

	note_path(name, path);
	if (unlinkat(h->state_dir, path, 0) < 0 && errno != ENOENT)
		return err_sys("remove %s", path);
	(void)unlinkat(h->state_dir, "members", AT_REMOVEDIR);
	return 0;
}

/* --- Using an interface of the host for a network --- */

static int find_device(
	struct host *h, const struct network *n, const char *name, struct device *ret)
{
	int r = device_read(&h->nl, name, 0, ret);

	if (r != -ENODEV)
		return r;
	/*
	 * In a dry run a missing interface is no error, because another network may have to make it
	 * first, which a dry run does not do.
	 */
	if (h->dry_run) {
		err_clear();
		*ret = (struct device){0};
		return 0;
	}
	return err_set(ENODEV, "%s: interface %s does not exist: `ip link` lists them",
		streq(n->parent, name) ? "parent" : "members", name);
}

static int note_device(
	struct host *h, const struct network *n, const char *name, const struct device *d)
{
	char note[NOTE_MAX];

	return h->dry_run || read_note(h, name, note)
		       ? 0
		       : write_note(h, n->name, name, d->link.flags & IFF_UP);
}

int member_use(struct host *h, const struct network *n, const char *name, struct device *ret)
{
	int r = find_device(h, n, name, ret);

	if (r >= 0)
		r = note_device(h, n, name, ret);
	if (r < 0 || ret->link.flags & IFF_UP || host_skips(h, "interface %s: set it up", name))
		return r;
	r = link_set_flags(&h->nl, ret->link.index, IFF_UP, 0);
	return r < 0 ? err_ctx(r, "set the interface %s up", name) : 0;
}

static int refuse_address(uint8_t family, const uint8_t *raw, uint8_t prefix, void *arg)
{
	struct ip ip = {.family = family};
	char text[IP_TEXT];

	memcpy(ip.bytes, raw, ip_len(family));
	return err_set(EBUSY,
		"members: interface %s has the address %s, which it would lose: remove the "
		"address first, and give it to the bridge or bond",
		(const char *)arg, ip_subnet_text(&ip, prefix, text));
}

static int add_member(struct host *h, const struct network *n, const char *name, int master)
{
	char copy[IFNAMSIZ];
	struct device d;
	int r = find_device(h, n, name, &d);

	if (r < 0 || (d.link.index && d.master == master && master))
		return r;
	if (d.master)
		return err_set(EBUSY,
			"members: interface %s is a port of another interface already: expected "
			"one that is free",
			name);
	snprintf(copy, sizeof(copy), "%s", name);
	if (d.link.index)
		r = device_each_address(&h->nl, d.link.index, true, refuse_address, copy);
	if (r >= 0)
		r = note_device(h, n, name, &d);
	if (r < 0 || host_skips(h, "interface %s: make it a member of %s", name, n->interface))
		return r;
	/*
	 * Sets the interface down, because the kernel lets a bond take only members that are down.
	 * The last call below sets it up again.
	 */
	if (n->kind == NETWORK_BOND && d.link.flags & IFF_UP)
		r = link_set_flags(&h->nl, d.link.index, 0, IFF_UP);
	if (r >= 0)
		r = device_set_master(&h->nl, d.link.index, master);
	if (r >= 0)
		r = link_set_flags(&h->nl, d.link.index, IFF_UP, 0);
	return r < 0 ? err_ctx(r, "make %s a member of %s", name, n->interface) : 0;
}

int members_apply(struct host *h, const struct network *n, int master)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < n->member_count; i++)
		r = add_member(h, n, n->members[i], master);
	return r;
}

/* --- Giving an interface back that no network needs any more --- */

/* Returns another network that uses the interface, or NULL. */
static const struct network *find_other(
	const struct network *n, const char *name, const struct network *all, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!streq(all[i].name, n->name) && network_uses(&all[i], name))
			return &all[i];
	return NULL;
}

static int release_one(
	struct host *h, const struct network *n, const char *name, const struct network *other)
{
	size_t len = strlen(n->name);
	char note[NOTE_MAX];
	struct device d;
	bool up;

	if (!read_note(h, name, note) || strncmp(note, n->name, len) != 0 || note[len] != ':')
		return 0;
	up = streq(note + len, ":up");
	if (host_skips(h, "interface %s: release it, and set it %s", name, up ? "up" : "down"))
		return 0;
	/*
	 * If another network still uses the interface, keeps the note about its former state and
	 * writes that network's name into it, because that network has to give the interface back
	 * later.
	 */
	if (other)
		return write_note(h, other->name, name, up);
	int r = device_read(&h->nl, name, 0, &d);
	if (r == -ENODEV) {
		err_clear();
		return remove_note(h, name);
	}
	if (r >= 0)
		r = link_set_flags(&h->nl, d.link.index, up ? IFF_UP : 0, up ? 0 : IFF_UP);
	return r < 0 ? err_ctx(r, "release the interface %s", name) : remove_note(h, name);
}

int members_release(struct host *h, const struct network *n)
{
	struct network *all;
	size_t count;
	int r;

	if (!n->parent[0] && !n->member_count)
		return 0;
	r = network_list(h, &all, &count);
	if (r >= 0 && n->parent[0])
		r = release_one(h, n, n->parent, find_other(n, n->parent, all, count));
	for (size_t i = 0; r >= 0 && i < n->member_count; i++)
		r = release_one(h, n, n->members[i], find_other(n, n->members[i], all, count));
	/*
	 * Removes the directory of notes if it is empty, because a process that was killed may have
	 * left it empty.
	 */
	if (!h->dry_run)
		(void)unlinkat(h->state_dir, "members", AT_REMOVEDIR);
	return r;
}
