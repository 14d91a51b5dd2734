/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.json as C data: runtime-spec 1.3, config.md, config-linux.md, config-vm.md.
 *
 * spec_load() reads and validates; what it returns needs no more checks of form (types, ranges,
 * required fields, absolute paths). Everything lives in the caller's arena and is read-only
 * afterwards. A property that the specification does not know is ignored. Errors carry the JSON
 * path: "config.json: process.rlimits[2].hard: expected a number from 0 to 18446744073709551615,
 * found a string".
 *
 * Names follow the specification's, in snake case. A pointer to an optional object is NULL when
 * absent; an optional string is NULL when absent (an empty one too, where the specification gives
 * "" no meaning).
 */
#pragma once
#include "base/arena.h"
#include "base/json.h"
#include "base/opt.h"
#include "cgroups/resources.h"

#define SPEC_VERSION "1.3.0"            /* the newest this program knows; 1.x.y is accepted */
#define SPEC_MAX_SIZE (8 * 1024 * 1024) /* bytes of config.json read */

struct spec_strings {
	const char *const *v; /* NULL-terminated, n strings */
	size_t n;
};

struct spec_id_map {
	uint32_t container_id, host_id, size;
};

struct spec_id_maps {
	const struct spec_id_map *v;
	size_t n;
};

/* mounts[].options, taken apart by spec_parse_mount_options(). */
struct spec_mount {
	const char *destination; /* absolute; a relative one was read as relative to "/" */
	const char *type;        /* NULL when absent; "bind" needs no option bind */
	const char *source;  /* NULL when absent; a bind's relative one is relative to the bundle */
	const char *backend; /* of source "vhost-user:PATH": PATH, the socket of who serves it */
	bool bind;           /* a bind mount: always has a source */
	bool rbind;          /* ... with what is mounted beneath it; bind is set too */
	/*
	 * MOUNT_ATTR_*, of the mount itself, as mount_setattr(2) takes them. "ro" is only here:
	 * whether the super block of a new file system becomes read-only too is the mounting step's
	 * decision.
	 */
	uint64_t attr_set, attr_clr;
	uint64_t rec_attr_set, rec_attr_clr; /* MOUNT_ATTR_*, recursively: rro, rnosuid, ... */
	uint32_t sb_flags; /* MS_SYNCHRONOUS, MS_DIRSYNC, MS_LAZYTIME, ... of the file system */
	uint32_t sb_flags_clr;
	uint32_t propagation; /* MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE, with MS_REC or
				 not; 0: none */
	bool idmap, ridmap;   /* map ids (also set by mappings alone); ridmap: of the whole tree */
	const char *idmap_text;   /* of "idmap=TEXT": read into the mappings below; or NULL */
	bool copy_symlink;        /* bind: of a source that is a symbolic link make the same one */
	bool src_nofollow;        /* bind: a source that is a symbolic link is mounted itself */
	bool dest_nofollow;       /* bind: ... and a destination that is one is mounted on itself */
	bool remount;             /* change the flags of what is mounted there already */
	bool tmpcopyup;           /* tmpfs: start with a copy of what it covers */
	struct spec_strings data; /* what is left, for the file system, unsplit: "mode=755" */
	struct spec_id_maps uid_mappings,
		gid_mappings; /* idmapped mounts; empty: the container's */
};

struct spec_rlimit {
	int resource; /* RLIMIT_* */
	const char *name;
	uint64_t soft, hard; /* RLIM_INFINITY is 2^64-1 */
};

struct spec_scheduler {
	int policy; /* SCHED_* */
	int32_t nice, priority;
	uint64_t flags;                     /* SCHED_FLAG_* */
	uint64_t runtime, deadline, period; /* nanoseconds */
};

struct spec_user {
	uint32_t uid, gid;
	struct opt_i64 umask;
	const uint32_t *additional_gids;
	size_t nadditional_gids;
};

/* Bit sets over CAP_* numbers. Unknown names are warned of and left out, as config.md asks. */
struct spec_capabilities {
	uint64_t bounding, effective, inheritable, permitted, ambient;
};

struct spec_process {
	bool terminal;
	bool has_user;                          /* user was given */
	uint16_t console_height, console_width; /* 0: not given */
	struct spec_user user;
	struct spec_strings args, env;
	const char *cwd;
	const struct spec_capabilities *capabilities;
	const struct spec_rlimit *rlimits;
	size_t nrlimits;
	bool no_new_privileges;
	const char *apparmor_profile, *selinux_label;
	struct opt_i64 oom_score_adj; /* -1000..1000 */
	const struct spec_scheduler *scheduler;
	struct opt_i64 io_priority; /* as ioprio_set(2) takes it: class << 13 | priority */
	const char *exec_affinity_initial, *exec_affinity_final; /* CPU lists */
};

struct spec_hook {
	const char *path;
	struct spec_strings args; /* args[0] included; empty: path */
	struct spec_strings env;
	bool has_env;           /* env was given, if only []; else the hook gets its caller's */
	struct opt_i64 timeout; /* seconds, > 0 */
};

struct spec_hooks {
	const struct spec_hook *v;
	size_t n;
};

enum spec_ns {
	SPEC_NS_USER,
	SPEC_NS_PID,
	SPEC_NS_NETWORK,
	SPEC_NS_MOUNT,
	SPEC_NS_IPC,
	SPEC_NS_UTS,
	SPEC_NS_CGROUP,
	SPEC_NS_TIME,
	SPEC_NS_COUNT
};

struct spec_namespace {
	size_t index;     /* its place in linux.namespaces, for messages */
	bool set;         /* listed in linux.namespaces */
	const char *path; /* NULL: a new one */
};

struct spec_device {
	const char *path;
	char type; /* 'c', 'b' or 'p' ('u' is read as 'c') */
	uint32_t major, minor;
	struct opt_u64 file_mode, uid, gid;
};

struct spec_net_device {
	const char *name;     /* on the host */
	const char *new_name; /* in the container; NULL: the same */
};

struct spec_pair {
	const char *key, *value;
};

struct spec_pairs {
	const struct spec_pair *v;
	size_t n;
};

struct spec_time_offset {
	bool set;
	int64_t secs;
	uint32_t nanosecs;
};

struct spec_seccomp_arg {
	uint32_t index;
	uint64_t value, value_two;
	uint32_t op; /* enum scmp_compare */
};

struct spec_seccomp_rule {
	struct spec_strings names;
	uint32_t action; /* SCMP_ACT_*, errnoRet merged in */
	const struct spec_seccomp_arg *args;
	size_t nargs;
};

struct spec_seccomp {
	uint32_t default_action;       /* SCMP_ACT_*, defaultErrnoRet merged in */
	const uint32_t *architectures; /* SCMP_ARCH_* */
	size_t narchitectures;
	uint64_t flags; /* SECCOMP_FILTER_FLAG_* */
	const char *listener_path, *listener_metadata;
	const struct spec_seccomp_rule *rules;
	size_t nrules;
	bool notify; /* some rule or the default is SCMP_ACT_NOTIFY */
};

struct spec_intel_rdt {
	const char *clos_id, *l3_cache_schema, *mem_bw_schema;
	struct spec_strings schemata;
	bool enable_monitoring;
};

struct spec_memory_policy {
	int mode;          /* MPOL_* | MPOL_F_* */
	const char *nodes; /* a list, or NULL */
};

struct spec_vm_iomem {
	struct opt_u64 first_gfn; /* absent: first_mfn */
	uint64_t first_mfn, nr_mfns;
};

/*
 * The Go bindings write objects without contents as "path": "": such a hypervisor or image is
 * absent, and such a kernel stands for caisson's own. hwConfig is also read under the bindings'
 * spelling, hwconfig.
 */
struct spec_vm {
	const char *hypervisor_path, *kernel_path, *kernel_initrd, *device_tree;
	const char *image_path, *image_format; /* the format is "raw" when absent */
	struct spec_strings hypervisor_parameters, kernel_parameters;
	struct opt_u64 vcpus, memory; /* memory in bytes */
	struct spec_strings dtdevs;   /* these three: device passthrough */
	const struct spec_vm_iomem *iomems;
	size_t niomems;
	const uint32_t *irqs;
	size_t nirqs;
};

/* An IP address, in network order; IPv4 in the first four bytes. */
struct spec_ip {
	uint8_t family; /* AF_INET, AF_INET6 */
	uint8_t prefix; /* of an interface's: the bits that it shares with its neighbours' */
	uint8_t bytes[16];
	const char *text; /* as given */
};

struct spec_ips {
	const struct spec_ip *v;
	size_t n;
};

/* The annotation SPEC_VM_NET: a network device of a microVM that a vhost-user back end serves. */
#define SPEC_VM_NET "io.caisson.vm.net"
struct spec_vm_net {
	const char *socket; /* of the back end */
	const char *name;   /* of the interface; "eth0" when absent */
	uint8_t mac[6];     /* has_mac: else it is caisson's to choose */
	bool has_mac;
	uint16_t mtu; /* 0: not given */
	/* Each gateway is in the network of one of the addresses, or link-local: one a family. */
	struct spec_ips addresses, gateways;
};

struct spec {
	const char *oci_version;
	const char *root_path; /* absolute or relative to the bundle; never NULL */
	bool root_readonly;
	const char *hostname, *domainname;
	const struct spec_mount *mounts;
	size_t nmounts;
	const struct spec_process *process; /* NULL when absent: create works, start does not */
	struct {
		struct spec_hooks prestart, create_runtime, create_container, start_container,
			poststart, poststop;
	} hooks;
	struct spec_pairs annotations;

	/* linux */
	struct spec_namespace ns[SPEC_NS_COUNT];
	/*
	 * Both or neither. Neither with a new user namespace is left to the plan: an ordinary
	 * user's are filled in from /etc/subuid, for root it is an error.
	 */
	struct spec_id_maps uid_mappings, gid_mappings;
	struct spec_time_offset time_monotonic, time_boottime;
	const struct spec_device *devices;
	size_t ndevices;
	const struct spec_net_device *net_devices;
	size_t nnet_devices;
	const char *cgroups_path;
	struct cg_resources resources;
	bool has_resources;
	const struct spec_intel_rdt *intel_rdt;
	const struct spec_memory_policy *memory_policy;
	uint32_t rootfs_propagation; /* MS_*, with MS_REC or not; 0: not given */
	const struct spec_seccomp *seccomp;
	struct spec_pairs sysctl; /* names as given, with dots or slashes */
	struct spec_strings masked_paths, readonly_paths;
	const char *mount_label;
	struct opt_u64 personality; /* for personality(2) */
	const struct spec_vm *vm;
	const struct spec_vm_net *vm_net; /* of the annotation, or NULL */

	const struct json *json; /* the document as read: hooks see it through the bundle, `state`
				    its annotations */
};

/* Reads the text of a config.json; `what` names it in errors. */
int spec_parse(struct arena *a, const char *text, size_t len, const char *what,
	const struct spec **ret) must_check;

/* A process object by itself: exec --process FILE ("-" is standard input). */
int spec_load_process(struct arena *a, const char *path, const struct spec_process **ret)
	must_check;

/* The same from memory; `what` names it in errors. */
int spec_parse_process(struct arena *a, const char *text, size_t len, const char *what,
	const struct spec_process **ret) must_check;

/* What p does not say is as in from: what it may do, as whom and with which priority, not what it
 * runs. */
void spec_process_inherit(struct spec_process *p, const struct spec_process *from);

/*
 * The process as JSON that can be read again, but for its labels. Strings that are not UTF-8
 * change: JSON has no others.
 */
void spec_process_json(const struct spec_process *p, struct json_out *o);

/*
 * Limits that a guest enforces (plan_vm_split_limits()), as a member that spec_parse_resources()
 * reads.
 */
void spec_guest_resources_json(const struct cg_resources *res, const char *key, struct json_out *o);

/* A resources object by itself: update --resources FILE ("-" is standard input). */
int spec_load_resources(struct arena *a, const char *path, struct cg_resources *ret) must_check;

/* The same from a parsed document; node NULL: -EINVAL. */
int spec_parse_resources(struct arena *a, const struct json *node, const char *what,
	struct cg_resources *ret) must_check;

/*
 * Single values, shared with the command line and with `features`. NULL/0-terminated tables of
 * names; the functions return -EINVAL with a message that says what was expected.
 */
int spec_parse_capability(const char *name, unsigned *ret_number) must_check; /* "CAP_CHOWN" */
int spec_parse_mount_options(struct arena *a, struct spec_strings options, struct spec_mount *m)
	must_check;
const char *spec_annotation(const struct spec *s, const char *key); /* NULL when absent */

/* For `features`: every name accepted, in order, NULL at the end. Static storage. */
const char *const *spec_known_mount_options(void);
const char *const *spec_known_namespaces(void);
const char *const *spec_known_capabilities(void);
const char *const *spec_known_seccomp_actions(void);
const char *const *spec_known_seccomp_operators(void);
const char *const *spec_known_seccomp_archs(void);
const char *const *spec_known_seccomp_flags(void);
const char *const *spec_known_mempolicy_modes(void);
const char *const *spec_known_mempolicy_flags(void);

/* The config.json that `caisson spec` writes (rootless: for an ordinary user of these ids). */
int spec_write_default(struct json_out *o, bool rootless, uint32_t uid, uint32_t gid) must_check;
