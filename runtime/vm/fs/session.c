/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A request is a chain of buffers in guest memory: a header, the operation's fixed part, names, and
 * data. fs_handle() copies everything that decisions depend on, once, and checks the length, the
 * node and each name by the table below. Only then it calls the operation. The data of WRITE and
 * the reply to READ are never copied: the kernel moves them between the file and guest memory. If
 * the guest changes this data in the meantime, only the guest is affected.
 *
 * The guest's kernel checks permissions (virtiofs always mounts with default_permissions). So the
 * server acts with the capabilities of a file server, and takes over the request's ids only to
 * create something. A hostile guest must not get out of the share. So each name is one component,
 * no link is ever followed, and files are opened through descriptors.
 */
#include <stdlib.h>

#include "vm/fs/fs.h"
#include "vm/virtio/iov.h"

enum {
	FS_CHANGES = 1, /* the operation fails with EROFS on a read-only share */
	FS_SILENT = 2,  /* FUSE has no reply to this operation */
	FS_NO_NODE = 4, /* nodeid has no meaning in this request */
	/*
	 * the operation exists only if the server takes the guest's locks on the host
	 * (config->locks)
	 */
	FS_LOCKS = 8,
	FS_IS_DIR = 16, /* nodeid must be the node of a directory */
};

struct fs_operation {
	fs_op *serve;
	uint16_t args; /* bytes of the fixed part of the arguments */
	/*
	 * one letter for each string that follows the arguments. n: a name in a directory; t: any
	 * string, such as a link target or the name of an xattr. NULL: no strings
	 */
	const char *names;
	unsigned int flags;
};

static fs_op fs_init, fs_destroy, fs_forget, fs_batch_forget, fs_interrupt, fs_refuse_ioctl;

static const struct fs_operation operations[] = {
	[FUSE_LOOKUP] = {fs_lookup, 0, "n", FS_IS_DIR},
	[FUSE_FORGET] = {fs_forget, sizeof(struct fuse_forget_in), NULL, FS_SILENT | FS_NO_NODE},
	[FUSE_GETATTR] = {fs_getattr, sizeof(struct fuse_getattr_in), NULL, 0},
	[FUSE_SETATTR] = {fs_setattr, sizeof(struct fuse_setattr_in), NULL, FS_CHANGES},
	[FUSE_READLINK] = {fs_readlink, 0, NULL, 0},
	[FUSE_SYMLINK] = {fs_symlink, 0, "nt", FS_CHANGES | FS_IS_DIR},
	[FUSE_MKNOD] = {fs_mknod, sizeof(struct fuse_mknod_in), "n", FS_CHANGES | FS_IS_DIR},
	[FUSE_MKDIR] = {fs_mkdir, sizeof(struct fuse_mkdir_in), "n", FS_CHANGES | FS_IS_DIR},
	[FUSE_UNLINK] = {fs_unlink, 0, "n", FS_CHANGES | FS_IS_DIR},
	[FUSE_RMDIR] = {fs_rmdir, 0, "n", FS_CHANGES | FS_IS_DIR},
	[FUSE_RENAME] = {fs_rename, sizeof(struct fuse_rename_in), "nn", FS_CHANGES | FS_IS_DIR},
	[FUSE_LINK] = {fs_link, sizeof(struct fuse_link_in), "n", FS_CHANGES | FS_IS_DIR},
	[FUSE_OPEN] = {fs_open, sizeof(struct fuse_open_in), NULL, 0},
	[FUSE_READ] = {fs_read, sizeof(struct fuse_read_in), NULL, 0},
	[FUSE_WRITE] = {fs_write, sizeof(struct fuse_write_in), NULL, FS_CHANGES},
	[FUSE_STATFS] = {fs_statfs, 0, NULL, 0},
	[FUSE_RELEASE] = {fs_release, sizeof(struct fuse_release_in), NULL, 0},
	[FUSE_FSYNC] = {fs_fsync, sizeof(struct fuse_fsync_in), NULL, 0},
	/*
	 * FUSE_SETXATTR has an extended form that is 8 bytes longer. The request INIT decides which
	 * form the guest uses.
	 */
	[FUSE_SETXATTR] = {fs_setxattr, FUSE_COMPAT_SETXATTR_IN_SIZE, "t", FS_CHANGES},
	[FUSE_GETXATTR] = {fs_getxattr, sizeof(struct fuse_getxattr_in), "t", 0},
	[FUSE_LISTXATTR] = {fs_listxattr, sizeof(struct fuse_getxattr_in), NULL, 0},
	[FUSE_REMOVEXATTR] = {fs_removexattr, 0, "t", FS_CHANGES},
	[FUSE_FLUSH] = {fs_flush, sizeof(struct fuse_flush_in), NULL, FS_LOCKS},
	[FUSE_INIT] = {fs_init, 16, NULL, FS_NO_NODE},
	[FUSE_OPENDIR] = {fs_opendir, sizeof(struct fuse_open_in), NULL, FS_IS_DIR},
	[FUSE_READDIR] = {fs_readdir, sizeof(struct fuse_read_in), NULL, FS_IS_DIR},
	[FUSE_RELEASEDIR] = {fs_releasedir, sizeof(struct fuse_release_in), NULL, FS_IS_DIR},
	[FUSE_FSYNCDIR] = {fs_fsyncdir, sizeof(struct fuse_fsync_in), NULL, FS_IS_DIR},
	[FUSE_GETLK] = {fs_getlk, sizeof(struct fuse_lk_in), NULL, FS_LOCKS},
	[FUSE_SETLK] = {fs_setlk, sizeof(struct fuse_lk_in), NULL, FS_LOCKS},
	[FUSE_SETLKW] = {fs_setlkw, sizeof(struct fuse_lk_in), NULL, FS_LOCKS},
	[FUSE_CREATE] = {fs_create, sizeof(struct fuse_create_in), "n", FS_CHANGES | FS_IS_DIR},
	[FUSE_INTERRUPT] = {fs_interrupt, 0, NULL, FS_SILENT | FS_NO_NODE},
	[FUSE_DESTROY] = {fs_destroy, 0, NULL, FS_NO_NODE},
	[FUSE_IOCTL] = {fs_refuse_ioctl, 0, NULL, FS_NO_NODE},
	[FUSE_BATCH_FORGET] = {fs_batch_forget, sizeof(struct fuse_batch_forget_in), NULL,
		FS_SILENT | FS_NO_NODE},
	[FUSE_FALLOCATE] = {fs_fallocate, sizeof(struct fuse_fallocate_in), NULL, FS_CHANGES},
	[FUSE_READDIRPLUS] = {fs_readdirplus, sizeof(struct fuse_read_in), NULL, FS_IS_DIR},
	[FUSE_RENAME2] = {fs_rename2, sizeof(struct fuse_rename2_in), "nn", FS_CHANGES | FS_IS_DIR},
	[FUSE_LSEEK] = {fs_lseek, sizeof(struct fuse_lseek_in), NULL, 0},
	[FUSE_COPY_FILE_RANGE] = {fs_copy_file_range, sizeof(struct fuse_copy_file_range_in), NULL,
		FS_CHANGES},
	[FUSE_SYNCFS] = {fs_syncfs, sizeof(struct fuse_syncfs_in), NULL, FS_IS_DIR},
	/*
	 * A FUSE_TMPFILE request has a name that the server ignores, because a temporary file has
	 * no name.
	 */
	[FUSE_TMPFILE] = {fs_tmpfile, sizeof(struct fuse_create_in), NULL, FS_CHANGES | FS_IS_DIR},
	/*
	 * The server answers ENOSYS to the operations that this table lacks: ACCESS (the guest's
	 * kernel decides and never asks), POLL, BMAP, NOTIFY_REPLY, SETUPMAPPING and REMOVEMAPPING
	 * (there is no DAX window).
	 */
};

static size_t copy_in(void *dst, const struct fs_request *r, size_t skip, size_t len)
{
	return iov_read((struct iov_range){r->in, r->nin, skip, len}, dst);
}

static void copy_out(const struct fs_request *r, size_t skip, const void *src, size_t len)
{
	(void)iov_write((struct iov_range){r->out, r->nout, skip, len}, src);
}

static int reset_session(struct fs_session *s)
{
	fs_file_release_all(s);
	fs_node_release_all(s);
	s->started = false;
	s->setxattr_ext = false;
	return fs_node_init(s);
}

static uint32_t agree_features(const struct fs_session *s, uint32_t offered)
{
	uint32_t want = FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_DONT_MASK |
			FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO |
			FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_POSIX_ACL | FUSE_MAX_PAGES |
			FUSE_CACHE_SYMLINKS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT;

	/*
	 * The server does not offer FUSE_SUBMOUNTS, because Linux does not honour ACLs in a mount
	 * that it makes for a submount of FUSE. So the guest has the whole share as one file
	 * system.
	 *
	 * The server offers FUSE_POSIX_LOCKS and FUSE_FLOCK_LOCKS only if config->locks is set.
	 * Without these flags the guest's kernel handles its locks alone, which is right and fast
	 * if only one guest uses the share.
	 */
	if (s->config->locks)
		want |= FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS;
	return want & offered;
}

static int fs_init(struct fs_session *s, struct fs_request *r)
{
	struct fuse_init_in in = {0};
	struct fuse_init_out *out = (struct fuse_init_out *)s->reply;
	size_t len = 16 + r->tail_len;

	memcpy(&in, r->args, len < sizeof(in) ? len : sizeof(in));
	*out = (struct fuse_init_out){
		.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION};
	if (in.major > FUSE_KERNEL_VERSION)
		/*
		 * Answers a guest that has a newer major version of FUSE with the server's version
		 * alone. The guest then sends INIT a second time, with the server's version.
		 */
		return sizeof(*out);
	/* Refuses guests older than FUSE 7.31 (Linux 5.4), which virtio-fs needs. */
	if (in.major < FUSE_KERNEL_VERSION || in.minor < 31)
		return -EPROTO;
	/*
	 * Forgets all nodes and files of the session, because a guest that sends INIT again was
	 * reset and knows none of these any more.
	 */
	if (reset_session(s) < 0)
		return -EIO;
	if (in.minor < out->minor)
		out->minor = in.minor;
	out->max_readahead = in.max_readahead;
	out->flags = agree_features(s, in.flags);
	out->max_background = 64;
	out->congestion_threshold = 48;
	out->max_write = FS_MAX_WRITE;
	out->max_pages = FS_MAX_PAGES;
	out->time_gran = 1;
	s->setxattr_ext = out->flags & FUSE_SETXATTR_EXT;
	s->started = true;
	return sizeof(*out);
}

static int fs_destroy(struct fs_session *s, struct fs_request *r)
{
	return reset_session(s) < 0 ? -EIO : 0;
}

static int fs_forget(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_forget_in *in = r->args;

	fs_node_forget(s, r->head.nodeid, in->nlookup);
	return 0;
}

static int fs_batch_forget(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_batch_forget_in *in = r->args;
	struct fuse_forget_one one;

	for (size_t i = 0; i < in->count && (i + 1) * sizeof(one) <= r->tail_len; i++) {
		memcpy(&one, r->tail + i * sizeof(one), sizeof(one));
		fs_node_forget(s, one.nodeid, one.nlookup);
	}
	return 0;
}

/*
 * Serves INTERRUPT, which has no effect: the server never interrupts a request that it serves, and
 * Linux sends no INTERRUPT on virtio-fs for one that waits for a lock.
 */
static int fs_interrupt(struct fs_session *s, struct fs_request *r)
{
	return 0;
}

/* Refuses every ioctl, because the host's file systems would serve it with the server's rights. */
static int fs_refuse_ioctl(struct fs_session *s, struct fs_request *r)
{
	return -ENOTTY;
}

int fs_check_component(const char *name, size_t len)
{
	if (len == 0 || memchr(name, '\0', len) || memchr(name, '/', len) || streq(name, ".") ||
		streq(name, ".."))
		return -EINVAL;
	return len > NAME_MAX ? -ENAMETOOLONG : 0;
}

static int take_names(const struct fs_operation *op, struct fs_request *r)
{
	for (size_t i = 0; op->names && op->names[i]; i++) {
		size_t len = strnlen((const char *)r->tail, r->tail_len);

		if (len == r->tail_len)
			return -EINVAL; /* the string does not end with a NUL */
		r->name[i] = (const char *)r->tail;
		r->tail += len + 1;
		r->tail_len -= len + 1;
		int e = op->names[i] == 'n' ? fs_check_component(r->name[i], len)
			: len == 0          ? -EINVAL
			: len >= PATH_MAX   ? -ENAMETOOLONG
					    : 0;
		if (e < 0)
			return e;
	}
	return 0;
}

static int check_request(struct fs_session *s, const struct fs_operation *op, struct fs_request *r)
{
	size_t args = op->args, len;

	if (r->head.len < sizeof(r->head) || r->head.len > r->in_len)
		return -EINVAL;
	r->in_len = r->head.len;
	if (!s->started && r->head.opcode != FUSE_INIT)
		return -EIO;
	if (r->head.opcode == FUSE_SETXATTR && s->setxattr_ext)
		args = sizeof(struct fuse_setxattr_in);
	len = r->in_len - sizeof(r->head);
	if (len < args)
		return -EINVAL;
	if (r->head.opcode == FUSE_WRITE)
		/*
		 * Copies only the arguments of a WRITE request, because its data stays in guest
		 * memory.
		 */
		len = args;
	else if (len > FS_ARGS_MAX)
		return -E2BIG;
	if (copy_in(s->args, r, sizeof(r->head), len) != len)
		return -EIO;
	r->args = s->args;
	r->tail = s->args + args;
	r->tail_len = len - args;
	int e = take_names(op, r);
	if (e < 0)
		return e;
	/*
	 * Refuses bytes behind the last name, because they mean that a name contains a NUL. Only
	 * SETXATTR has data behind its name.
	 */
	if (op->names && r->tail_len && r->head.opcode != FUSE_SETXATTR)
		return -EINVAL;
	if ((op->flags & FS_CHANGES) && s->config->read_only)
		return -EROFS;
	if ((op->flags & FS_LOCKS) && !s->config->locks)
		return -ENOSYS;
	if (op->flags & FS_NO_NODE)
		return 0;
	struct fs_node *n = fs_node_get(s, r->head.nodeid);
	if (!n)
		return -ESTALE;
	if ((op->flags & FS_IS_DIR) && !S_ISDIR(n->type))
		return -ENOTDIR;
	e = fs_node_pin(s, n);
	if (e == 0)
		r->node = n;
	return e;
}

static int serve_operation(
	struct fs_session *s, const struct fs_operation *op, struct fs_request *r)
{
	/*
	 * Checks that the reply has room before the operation is done, because a create, for
	 * example, must not be done if the guest cannot learn its result.
	 */
	if (!(op->flags & FS_SILENT) && r->out_len < sizeof(struct fuse_out_header))
		return -EINVAL;
	int n = op->serve(s, r);
	if (n > 0 && (size_t)n > r->out_len - sizeof(struct fuse_out_header))
		return -EIO;
	return n;
}

int fs_handle(struct fs_session *s, struct fs_request *r)
{
	static const struct fs_operation unknown = {0};
	const struct fs_operation *op = &unknown;
	struct fuse_out_header out;

	r->in_len = iov_bytes(r->in, r->nin);
	r->out_len = iov_bytes(r->out, r->nout);
	r->direct = false;
	r->node = NULL;
	if (copy_in(&r->head, r, 0, sizeof(r->head)) != sizeof(r->head))
		/*
		 * Without a complete header the request's id is not known, so no reply is possible.
		 */
		return 0;
	if (r->head.opcode < ARRAY_SIZE(operations) && operations[r->head.opcode].serve)
		op = &operations[r->head.opcode];
	int n = op->serve ? check_request(s, op, r) : -ENOSYS;
	if (n == 0)
		n = serve_operation(s, op, r);
	if (r->node)
		fs_node_unpin(s, r->node);
	if (n == FS_LATER && !r->give_up)
		return n;
	if (n == FS_LATER)
		n = -ENOLCK;
	if ((op->flags & FS_SILENT) || r->out_len < sizeof(out))
		return 0;
	out = (struct fuse_out_header){
		.len = (uint32_t)(sizeof(out) + (n > 0 ? (size_t)n : 0)),
		.error = n < 0 ? n : 0,
		.unique = r->head.unique,
	};
	copy_out(r, 0, &out, sizeof(out));
	if (n > 0 && !r->direct)
		copy_out(r, sizeof(out), s->reply, (size_t)n);
	return (int)out.len;
}

int fs_session_init(struct fs_session *s, const struct vmfs_config *c)
{
	*s = (struct fs_session){.config = c, .uid = geteuid(), .gid = getegid(), .mask = umask(0)};
	umask(s->mask);
	s->nodes.max = c->max_nodes;
	s->files.max = c->max_handles;
	s->args = malloc(FS_ARGS_MAX);
	s->reply = malloc(FS_REPLY_MAX);
	s->iov = calloc(FS_MAX_IOV + 1, sizeof(*s->iov));
	if (!s->args || !s->reply || !s->iov)
		return err_set(ENOMEM, "virtio-fs: out of memory");
	/*
	 * The process changes to /proc/self/fd, because the paths of fs_node_path() are relative to
	 * it.
	 */
	if (fchdir(c->proc) < 0)
		return err_sys("virtio-fs: enter /proc/self/fd");
	return fs_node_init(s);
}

void fs_session_release(struct fs_session *s)
{
	fs_file_release_all(s);
	fs_node_release_all(s);
	fs_slots_release(&s->files);
	fs_slots_release(&s->nodes);
	free(s->devices);
	free(s->bucket);
	free(s->args);
	free(s->reply);
	free(s->iov);
	*s = (struct fs_session){0};
}
