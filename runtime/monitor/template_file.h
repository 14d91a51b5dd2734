/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of templates in the cache directory (images/guest/cache.h). A template is one file,
 * template-BOOT-FILES-BUILD-HASH: the guest's memory, and behind it the snapshot
 * (vm/snapshot/format.h). HASH is the hash of the key, which describes the machine, its kernel and
 * this host's boot. The other parts are hashes too (struct template_key), by which template_make()
 * finds the templates that no machine can use any more.
 *
 *	hit:  template_open() opens the file and checks it
 *	miss: template_make() takes the lock CACHE/template.lock, makes the file with the suffix
 *	      .tmp, and starts a process, the keeper. The monitor is in its jail when the
 *	      template is complete. It then tells the keeper so, and the keeper renames the file.
 *
 * If the monitor ends without that, the keeper removes the .tmp file. If the keeper is killed too,
 * the next template_make() removes it. So the final name is always that of a complete file. The
 * kernel releases the lock when the last of the processes that hold it ends.
 *
 * A template serves only until the host boots again, because its key has the host's boot id. So it
 * is not synced to the disk.
 */
#pragma once
#include <sys/types.h>

#include "images/guest/cache.h"
#include "vm/snapshot/format.h"

/* Says which machines can start from a template. */
struct template_key {
	struct strbuf text; /* describes all that machines of the template have in common */
	/* Hashes: of the host's boot, of the paths of caisson and of the kernel, of these files. */
	uint32_t boot, files, build;
};

/* What a template says of itself, in the section SNAPSHOT_OWNER; the key follows. */
struct template_owner {
	/*
	 * The time of the last change of the template's file, which the keeper sets. A file with
	 * another time was changed afterwards and is not used.
	 */
	int64_t made;
	uint32_t agent_port; /* vsock port at which the agent connects after the start */
	uint32_t unused;
};

struct template_found {
	char name[CACHE_NAME_SIZE]; /* name of the entry in the cache */
	int fd;              /* the template's file; its offset 0 is that of the guest's memory */
	struct strbuf bytes; /* the snapshot */
	struct snapshot snapshot;
	struct template_owner owner;
};

/* A template that is being made. */
struct template_new {
	int fd; /* the empty file; its offset is where the snapshot begins */
	/* socket to the keeper: a byte from the monitor says that the file is complete */
	int keeper;
	struct strbuf owner; /* bytes for the section SNAPSHOT_OWNER */
	pid_t pid;           /* the keeper, a child of the monitor; 0: it was reaped */
};

/*
 * Opens the template of the machine with this key and `memory` bytes of memory. Returns 0, -ENOENT
 * without a message if there is none, or another error with a message if the template cannot be
 * used.
 */
int template_open(int cache, const struct template_key *key, uint64_t memory,
	struct template_found *ret) must_check;
void template_release(struct template_found *t);

/*
 * Begins a template, and starts its keeper. The port is for the member agent_port. Removes the
 * templates of an earlier boot of the host, and those of files that the same paths led to before.
 * Returns -ETIMEDOUT with a message if another process makes a template.
 */
int template_make(int cache, const struct template_key *key, uint64_t memory, uint32_t port,
	struct template_new *ret) must_check;
void template_abandon(struct template_new *t);

/*
 * What template_make() and template_pages_make() share: makes the file `name` of the cache with the
 * suffix .tmp, and starts its keeper, which holds the lock. t->owner begins with a struct
 * template_owner, from which the keeper takes the time of the file's last change.
 */
int template_keep(int cache, int lock, const char *name, struct template_new *t) must_check;

/* Prefix of the files of template_pages.h. Such a file has the rest of its template's name. */
#define TEMPLATE_PAGES "pages-"
void template_pages_name(const struct template_found *t, char ret[static CACHE_NAME_SIZE]);
