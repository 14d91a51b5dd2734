/* SPDX-License-Identifier: Apache-2.0 */
/* What the checkpoint and the restore of a container by CRIU have in common: names and options. */
#pragma once
#include "launch/criu.h"
#include "launch/criu_rpc.h"

#define CRIU_STREAMS 3 /* the standard streams 0, 1 and 2 */
/* file of the image directory with the names of the standard streams, as runc writes it */
#define CRIU_STREAMS_FILE "descriptors.json"
#define CRIU_LOG_ALL 4 /* log level at which CRIU writes all it does */
#define CRIU_MOUNTINFO_MAX ((size_t)16 * 1024 * 1024)

/* Kinds of namespaces that the host can own and that CRIU can leave out of the image. */
struct criu_ns {
	enum spec_ns type;
	const char *file; /* name of the namespace in /proc/PID/ns */
	const char *key;  /* name in the image; runc uses the same */
};
#define CRIU_EXTERNAL_NS 2
extern const struct criu_ns criu_external_ns[CRIU_EXTERNAL_NS];

/* Writes the options that a checkpoint and a restore have in common. */
int criu_put_common(const struct criu_options *o, const char *log, struct criu_message *opts)
	must_check;

/* the annotation that names a configuration file of CRIU; runc and crun read it too */
#define CRIU_ANNOTATION "org.criu.config"

/*
 * Tells CRIU which configuration file to read: that of the annotation, or else the one of the host.
 * `listen` is the address on which CRIU is to listen as a page server, or NULL. CRIU takes no
 * address from its caller for that, and would listen on all of the host's, where anyone could fetch
 * the container's memory. It does take one from a configuration file, so the function then makes
 * such a file in memory. *ret_file becomes its descriptor, which criu must inherit, or stays as it
 * is.
 */
int criu_put_config(const struct spec *s, const char *listen, struct criu_message *opts,
	int *ret_file) must_check;

/* Returns the path of the directory of CRIU's log: --work-path, or that of the images. */
const char *criu_work_path(const struct criu_options *o, const char *image_path);
/* Opens the directory of CRIU's log: --work-path, or a duplicate of `image`. */
int criu_open_work(const struct criu_options *o, int image) must_check;

/* Adds the path of CRIU's log to the error message if r is a failure of CRIU. Returns r. */
int criu_with_log(int r, const char *work, const char *log);
