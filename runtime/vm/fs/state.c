/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saves and loads what the guest knows of the share: its nodes and its open files.
 *
 * Theory of operation. A saved node is a parked node (descriptor_cache.c): its directory and its
 * name there, and what identifies the inode. At the load the server opens every node once by its
 * name, from the root on, and checks that the name still leads to the same inode. Device numbers
 * and mounts may be others than before, because the share was mounted again. So an inode is known
 * by its number and birth time, and the node then gets the device and the mount that it has now.
 *
 * A file on the host may have been removed or replaced meanwhile. If the guest has it open, the
 * load fails, because the guest's program would write to nowhere. Otherwise the node is lost: a
 * request for it fails with ESTALE, and the guest's kernel looks the path up again.
 *
 * File locks that the server holds on the host for the guest cannot be saved, because others may
 * take them before the load.
 */
#include <stdlib.h>

#include "vm/fs/fs.h"
#include "vm/snapshot/format.h"

/*
 * The flags of the guest's open(2) that the server sets again when it opens a file after a
 * snapshot.
 */
#define REOPEN_FLAGS (O_ACCMODE | O_SYNC | O_DSYNC | O_NOATIME)

/*
 * A table of nodes or of open files in a snapshot: how many slots it has, and the newest generation
 * of their numbers, so that the restored table does not use a number again.
 */
struct slots_state {
	uint32_t used, generation;
};

struct session_state {
	uint32_t started, setxattr_ext;
	uint32_t nodes, files, devices, unused;
	struct slots_state node_slots, file_slots;
};

struct node_state {
	uint64_t id, parent, ino, lookups;
	int64_t birth_sec;
	uint32_t birth_nsec, type, device, name_len;
	/*
	 * In the snapshot this struct is followed by the node's name, name_len bytes without a NUL.
	 */
};

struct file_state {
	uint64_t id, node;
	/* position in a directory; 0 for a regular file, whose position the guest's kernel keeps */
	int64_t position;
	uint32_t flags, is_dir;
};

static void *slot_object(const struct fs_slots *t, uint32_t i)
{
	return t->slot[i].object;
}

static uint32_t count_objects(const struct fs_slots *t)
{
	uint32_t n = 0;

	for (uint32_t i = 1; i < t->used; i++)
		n += slot_object(t, i) != NULL;
	return n;
}

static struct slots_state slots_state(const struct fs_slots *t)
{
	struct slots_state s = {.used = t->used};

	for (uint32_t i = 1; i < t->used; i++)
		if (t->slot[i].generation > s.generation)
			s.generation = t->slot[i].generation;
	return s;
}

/* --- Saving: writes the nodes and the open files to a snapshot --- */

static int save_node(struct fs_session *s, struct snapshot_writer *w, const struct fs_node *n)
{
	struct node_state state = {.id = n->id,
		.parent = n->parent,
		.ino = n->ino,
		.lookups = n->lookups,
		.birth_sec = n->birth.tv_sec,
		.birth_nsec = n->birth.tv_nsec,
		.type = n->type,
		.device = fs_device_index(s, n->dev),
		.name_len = n->name ? (uint32_t)strlen(n->name) : 0};
	struct statx st;

	if (n->files > 0 && !n->name)
		return err_set(ENOTSUP,
			"virtio-fs: the guest has a file open that has no name any more (inode "
			"%llu): such a file is gone once no one has it open",
			(unsigned long long)n->ino);
	/*
	 * Reads the inode's birth time once more, because overlayfs reports another birth time
	 * after it has copied the file up.
	 */
	if (n->fd >= 0 && fs_node_stat(n->fd, &st) == 0) {
		state.birth_sec = st.stx_btime.tv_sec;
		state.birth_nsec = st.stx_btime.tv_nsec;
	}
	int r = snapshot_put(w, &state, sizeof(state));
	return r < 0 ? r : snapshot_put(w, n->name, state.name_len);
}

static int save_file(struct snapshot_writer *w, const struct fs_file *f)
{
	const int flags = fcntl(f->fd, F_GETFL);
	const struct file_state state = {.id = f->id,
		.node = f->node->id,
		.position = f->is_dir ? lseek(f->fd, 0, SEEK_CUR) : 0,
		.flags = (uint32_t)flags & REOPEN_FLAGS,
		.is_dir = f->is_dir};

	if (flags < 0 || state.position < 0)
		return err_sys("virtio-fs: read the state of an open file");
	return snapshot_put(w, &state, sizeof(state));
}

int fs_session_save(struct fs_session *s, struct snapshot_writer *w)
{
	struct session_state state = {.started = s->started,
		.setxattr_ext = s->setxattr_ext,
		.nodes = count_objects(&s->nodes) - 1,
		.files = count_objects(&s->files),
		.node_slots = slots_state(&s->nodes),
		.file_slots = slots_state(&s->files)};
	int r = 0;

	if (s->nowners > 0)
		return err_set(ENOTSUP,
			"virtio-fs: the guest holds %u file locks on the host, which cannot be "
			"saved",
			s->nowners);
	/*
	 * Puts the device of each node into s->devices before the number of devices is written,
	 * because writing the nodes later must not make the list longer.
	 */
	for (uint32_t i = 2; i < s->nodes.used; i++)
		if (slot_object(&s->nodes, i))
			(void)fs_device_index(
				s, ((struct fs_node *)slot_object(&s->nodes, i))->dev);
	state.devices = s->ndevices;
	r = snapshot_put(w, &state, sizeof(state));
	for (uint32_t i = 2; r >= 0 && i < s->nodes.used; i++)
		if (slot_object(&s->nodes, i))
			r = save_node(s, w, slot_object(&s->nodes, i));
	for (uint32_t i = 1; r >= 0 && i < s->files.used; i++)
		if (slot_object(&s->files, i))
			r = save_file(w, slot_object(&s->files, i));
	return r;
}

/* --- Loading: makes the nodes and the open files of a snapshot --- */

static int bad_state(const char *what)
{
	return err_set(EBADMSG, "virtio-fs: the snapshot's state is not possible: %s", what);
}

static int load_node(struct fs_session *s, struct snapshot_part *p)
{
	struct node_state state;
	struct fs_node *n = NULL;
	char name[NAME_MAX + 1];

	int r = snapshot_get(p, &state, sizeof(state));
	if (r < 0)
		return r;
	if (state.name_len > NAME_MAX || (state.type & ~(uint32_t)S_IFMT) ||
		state.device > FS_DEVICES_MAX)
		return bad_state("a node");
	r = snapshot_get(p, name, state.name_len);
	if (r < 0)
		return r;
	name[state.name_len] = '\0';
	if (state.name_len > 0 && fs_check_component(name, state.name_len) < 0)
		return bad_state("a name that is no single component");
	const struct fs_node key = {.id = state.id,
		.ino = state.ino,
		.birth = {.tv_sec = state.birth_sec, .tv_nsec = state.birth_nsec},
		.type = state.type,
		.lookups = state.lookups,
		.parent = state.parent,
		.device = state.device};
	int e = fs_node_restore(s, &key, &n);
	if (e == -EEXIST)
		return bad_state("two nodes with one number");
	if (e == 0 && state.name_len > 0 && !(n->name = strdup(name)))
		e = -ENOMEM;
	return e < 0 ? err_set(-e, "virtio-fs: load a node: %s", strerror(-e)) : 0;
}

/*
 * Writes the node's path in the share into `text`, as far as the path fits, for an error message.
 */
static void print_path(const struct fs_session *s, const struct fs_node *n, char *text, size_t size)
{
	char path[PATH_MAX];
	size_t at = sizeof(path) - 1;

	path[at] = '\0';
	for (int depth = 0; n && n->name && depth < 256; depth++) {
		size_t len = strlen(n->name);

		if (len + 1 > at)
			break;
		at -= len;
		memcpy(path + at, n->name, len);
		path[--at] = '/';
		n = fs_node_get(s, n->parent);
	}
	str_quote_end(text, size, path + at, sizeof(path) - 1 - at);
}

static int load_file(struct fs_session *s, struct snapshot_part *p)
{
	struct file_state state;
	char path[512];

	int r = snapshot_get(p, &state, sizeof(state));
	if (r < 0)
		return r;
	struct fs_node *n = fs_node_get(s, state.node);
	if (!n || (state.flags & ~(uint32_t)REOPEN_FLAGS) || state.is_dir > 1 ||
		state.is_dir != S_ISDIR(n->type) || state.position < 0)
		return bad_state("an open file");
	int e = fs_node_pin(s, n);
	if (e < 0) {
		print_path(s, n, path, sizeof(path));
		return err_set(ESTALE,
			"virtio-fs: %s, which the guest has open, is gone or is another file now",
			path);
	}
	int fd = fs_node_open(n, (int)state.flags | (state.is_dir ? O_DIRECTORY : 0));
	if (fd >= 0 && state.is_dir && lseek(fd, state.position, SEEK_SET) < 0) {
		e = -errno;
		fd_close(&fd);
		fd = e;
	}
	e = fd < 0 ? fd : fs_file_restore(s, n, fd, state.id);
	struct fs_file *f = e < 0 ? NULL : fs_slots_get(&s->files, state.id);
	if (f) {
		f->is_dir = state.is_dir;
		f->list_start = (uint64_t)state.position;
	}
	if (e < 0) {
		print_path(s, n, path, sizeof(path));
		r = err_set(
			-e, "virtio-fs: open %s, which the guest has open: %s", path, strerror(-e));
	}
	fs_node_unpin(s, n);
	return r;
}

/*
 * Opens each node once by its name, so that it gets its device and mount. A node whose inode is not
 * found stays loaded without them, and later requests for it fail with ESTALE.
 */
static void find_nodes(struct fs_session *s)
{
	for (uint32_t i = 2; i < s->nodes.used; i++) {
		struct fs_node *n = slot_object(&s->nodes, i);

		if (n && n->loaded)
			(void)!fs_node_hold(s, n);
	}
}

int fs_session_load(struct fs_session *s, struct snapshot_part *p)
{
	struct session_state state;

	int r = snapshot_get(p, &state, sizeof(state));
	if (r < 0)
		return r;
	if (state.started > 1 || state.setxattr_ext > 1 || state.unused ||
		state.devices > FS_DEVICES_MAX)
		return bad_state("its header");
	fs_file_release_all(s);
	fs_node_release_all(s);
	fs_slots_release(&s->files);
	r = fs_node_init(s);
	if (r >= 0 && fs_expect_devices(s, state.devices) < 0)
		r = err_set(ENOMEM, "virtio-fs: out of memory");
	if (r >= 0 && (fs_slots_reach(&s->nodes, state.node_slots.used) < 0 ||
			      fs_slots_reach(&s->files, state.file_slots.used) < 0))
		r = err_set(ENFILE,
			"virtio-fs: the snapshot has room for %u nodes and %u open files: the "
			"server may have %u and %u",
			state.node_slots.used, state.file_slots.used, s->nodes.max, s->files.max);
	for (uint32_t i = 0; r >= 0 && i < state.nodes; i++)
		r = load_node(s, p);
	fs_slots_settle(&s->nodes, state.node_slots.generation);
	if (r >= 0)
		find_nodes(s);
	for (uint32_t i = 0; r >= 0 && i < state.files; i++)
		r = load_file(s, p);
	fs_slots_settle(&s->files, state.file_slots.generation);
	s->started = state.started;
	s->setxattr_ext = state.setxattr_ext;
	return r;
}
