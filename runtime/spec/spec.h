/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares config.json as C data: runtime-spec 1.3, config.md, config-linux.md and config-vm.md.
 *
 * spec_parse() reads and validates the document. Code that uses the result need not check its form
 * again (types, ranges, required fields, absolute paths). All data is in the caller's arena and is
 * read-only afterwards. A property that the specification does not know is ignored. Error messages
 * have the JSON path: "config.json: process.rlimits[2].hard: expected a number from 0 to
 * 18446744073709551615, found a string".
 *
 * Members have the specification's names, in snake case. A pointer to an optional object is NULL if
 * the object is absent. An optional string is NULL if it is absent; if the specification gives ""
 * no meaning, an empty string becomes NULL too.
 */
#pragma once
#include "base/arena.h"
#include "base/json.h"
#include "base/opt.h"
#include "cgroups/resources.h"

/* the newest version of runtime-spec that caisson knows; caisson accepts any 1.x.y */
#define SPEC_VERSION "1.3.0"
#define SPEC_MAX_SIZE (8 * 1024 * 1024) /* largest config.json, in bytes */

struct spec_strings {
	const char *const *v; /* array of n strings, followed by a NULL */
	size_t n;
};

struct spec_id_map {
	uint32_t container_id, host_id, size;
};

struct spec_id_maps {
	const struct spec_id_map *v;
	size_t n;
};

/*
 * The source of a mount of the file system on vm.image, which is then a disk beside the root
 * (SPEC_IMAGE_USE).
 */
#define SPEC_MOUNT_IMAGE "vm.image"

/* A mount. spec_parse_mount_options() sets the members from `bind` on, from mounts[].options. */
struct spec_mount {
	/* path of the mount point; a relative path counts as relative to "/" */
	const char *destination;
	/*
	 * type of the file system; NULL if absent; with the type "bind", `bind` is set even without
	 * the option "bind"
	 */
	const char *type;
	/* path or name of the source, perhaps relative to the bundle; NULL if absent */
	const char *source;
	/*
	 * for a source "vhost-user:PATH": PATH, the socket of the process that serves the file
	 * system; for the source SPEC_MOUNT_IMAGE: that name; else NULL
	 */
	const char *backend;
	bool bind; /* the mount is a bind mount, and `source` is set */
	/* the bind mount includes all mounts beneath the source; `bind` is set too */
	bool rbind;
	/*
	 * MOUNT_ATTR_* that the mount itself gets, as mount_setattr(2) takes them. The option "ro"
	 * is stored only here: the step that mounts a new file system decides whether its super
	 * block becomes read-only too.
	 */
	uint64_t attr_set, attr_clr;
	/*
	 * MOUNT_ATTR_* that the mount and all mounts beneath it get, from options such as rro and
	 * rnosuid
	 */
	uint64_t rec_attr_set, rec_attr_clr;
	/* flags of the file system: MS_SYNCHRONOUS and the like */
	uint32_t sb_flags;
	uint32_t sb_flags_clr;
	/*
	 * propagation MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE, with or without MS_REC; 0:
	 * absent
	 */
	uint32_t propagation;
	/*
	 * idmap: the mount's ids are mapped (id mappings in config.json set idmap too); ridmap: the
	 * ids of all mounts beneath it are mapped as well
	 */
	bool idmap, ridmap;
	/*
	 * TEXT of the mount option "idmap=TEXT", which is parsed into uid_mappings and
	 * gid_mappings; or NULL
	 */
	const char *idmap_text;
	/*
	 * for a bind mount: if the source is a symbolic link, the same link is made in the
	 * container
	 */
	bool copy_symlink;
	/* for a bind mount: if the source is a symbolic link, the link itself is mounted */
	bool src_nofollow;
	/*
	 * for a bind mount: if the destination is a symbolic link, the mount is put on the link
	 * itself
	 */
	bool dest_nofollow;
	/* the mount that exists at the destination gets other flags, instead of a new mount */
	bool remount;
	bool tmpcopyup; /* for a tmpfs: the mount starts with a copy of the files that it covers */
	/* all other mount options, such as "mode=755", which are passed to the file system */
	struct spec_strings data;
	/*
	 * Id mappings of an idmapped mount. If both are empty, the container's id mappings apply.
	 */
	struct spec_id_maps uid_mappings, gid_mappings;
};

struct spec_rlimit {
	int resource; /* a number of the kernel: RLIMIT_* */
	const char *name;
	uint64_t soft, hard; /* values of the limit; RLIM_INFINITY is 2^64-1 */
};

struct spec_scheduler {
	int policy; /* a number of the kernel: SCHED_* */
	int32_t nice, priority;
	uint64_t flags;                     /* flags of sched_setattr(2): SCHED_FLAG_* */
	uint64_t runtime, deadline, period; /* times in nanoseconds */
};

struct spec_user {
	uint32_t uid, gid;
	struct opt_i64 umask;
	const uint32_t *additional_gids;
	size_t nadditional_gids;
};

/*
 * Sets of capabilities, in which bit N is the capability with number N. Unknown names cause a
 * warning and are left out, as config.md asks.
 */
struct spec_capabilities {
	uint64_t bounding, effective, inheritable, permitted, ambient;
};

struct spec_process {
	bool terminal;
	bool has_user;                          /* whether the property `user` is present */
	uint16_t console_height, console_width; /* size of the terminal in characters; 0: absent */
	struct spec_user user;
	struct spec_strings args, env;
	const char *cwd;
	const struct spec_capabilities *capabilities;
	const struct spec_rlimit *rlimits;
	size_t nrlimits;
	bool no_new_privileges;
	const char *apparmor_profile, *selinux_label;
	struct opt_i64 oom_score_adj; /* from -1000 to 1000 */
	const struct spec_scheduler *scheduler;
	/* I/O priority as ioprio_set(2) takes it: class << 13 | priority */
	struct opt_i64 io_priority;
	/* lists of CPUs, such as "0-3,7" */
	const char *exec_affinity_initial, *exec_affinity_final;
};

struct spec_hook {
	const char *path;
	/* arguments of the hook, including args[0]; if the list is empty, args[0] is the path */
	struct spec_strings args;
	struct spec_strings env;
	/*
	 * The hook has the property `env`, perhaps as []. A hook without `env` gets the environment
	 * of the process that runs it.
	 */
	bool has_env;
	struct opt_i64 timeout; /* time limit of the hook in seconds, larger than 0 */
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
	size_t index;     /* index in linux.namespaces, which error messages use */
	bool set;         /* the namespace is listed in linux.namespaces */
	const char *path; /* path of an existing namespace; NULL: a new one is made */
};

struct spec_device {
	const char *path;
	char type; /* type of the device: 'c', 'b' or 'p' ('u' is read as 'c') */
	uint32_t major, minor;
	struct opt_u64 file_mode, uid, gid;
};

struct spec_net_device {
	const char *name; /* name of the network interface on the host */
	/* name of the network interface in the container; NULL: the name on the host is kept */
	const char *new_name;
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
	uint32_t op; /* comparison, a value of enum scmp_compare */
};

struct spec_seccomp_rule {
	struct spec_strings names;
	uint32_t action; /* the action SCMP_ACT_*, with errnoRet in its low bits */
	const struct spec_seccomp_arg *args;
	size_t nargs;
};

struct spec_seccomp {
	/* the action SCMP_ACT_*, with defaultErrnoRet in its low bits */
	uint32_t default_action;
	const uint32_t *architectures; /* numbers SCMP_ARCH_* of libseccomp */
	size_t narchitectures;
	uint64_t flags; /* flags of seccomp(2): SECCOMP_FILTER_FLAG_* */
	const char *listener_path, *listener_metadata;
	const struct spec_seccomp_rule *rules;
	size_t nrules;
	bool notify; /* whether the action of a rule, or the default action, is SCMP_ACT_NOTIFY */
};

struct spec_intel_rdt {
	const char *clos_id, *l3_cache_schema, *mem_bw_schema;
	struct spec_strings schemata;
	bool enable_monitoring;
};

struct spec_memory_policy {
	int mode;          /* argument of set_mempolicy(2): MPOL_* | MPOL_F_* */
	const char *nodes; /* list of NUMA nodes such as "0-3,7", or NULL */
};

struct spec_vm_iomem {
	struct opt_u64 first_gfn; /* first guest frame number; if absent, it equals first_mfn */
	uint64_t first_mfn, nr_mfns;
};

/*
 * The property `vm` of config.json. The Go bindings of runtime-spec write an object without
 * contents as "path": "". A hypervisor or an image with an empty path counts as absent, and a
 * kernel with an empty path stands for caisson's own kernel. hwConfig is also read under the Go
 * bindings' spelling, hwconfig.
 */
struct spec_vm {
	const char *hypervisor_path, *kernel_path, *kernel_initrd, *device_tree;
	/* "raw" is the format of the image if image_format is absent */
	const char *image_path, *image_format;
	struct spec_strings hypervisor_parameters, kernel_parameters;
	struct opt_u64 vcpus, memory; /* vcpus: number of CPUs; memory: size in bytes */
	struct spec_strings dtdevs;   /* dtdevs, iomems and irqs are for device passthrough */
	const struct spec_vm_iomem *iomems;
	size_t niomems;
	const uint32_t *irqs;
	size_t nirqs;
};

/* An IP address in network byte order. An IPv4 address is in the first four bytes. */
struct spec_ip {
	uint8_t family; /* AF_INET or AF_INET6 */
	/* length of the network's prefix in bits, if this is the address of an interface */
	uint8_t prefix;
	uint8_t bytes[16];
	const char *text; /* text from which the address was parsed */
};

struct spec_ips {
	const struct spec_ip *v;
	size_t n;
};

/*
 * The name of the annotation that describes a network device of a microVM, which a vhost-user back
 * end serves.
 */
#define SPEC_VM_NET "io.caisson.vm.net"
struct spec_vm_net {
	const char *socket; /* path of the socket of the vhost-user back end */
	const char *name;   /* name of the network interface in the guest; "eth0" if absent */
	/* MAC address of the interface, if has_mac is set; else caisson chooses a MAC address */
	uint8_t mac[6];
	bool has_mac;
	uint16_t mtu; /* MTU of the network interface; 0: absent */
	/*
	 * `gateways` has at most one address for each family. A gateway is in the network of one of
	 * the addresses, or is link-local.
	 */
	struct spec_ips addresses, gateways;
};

struct spec {
	const char *oci_version;
	/* path of the root directory, absolute or relative to the bundle; never NULL */
	const char *root_path;
	bool root_readonly;
	const char *hostname, *domainname;
	const struct spec_mount *mounts;
	size_t nmounts;
	/* the process of the container; NULL if absent, and then `start` fails */
	const struct spec_process *process;
	struct {
		struct spec_hooks prestart, create_runtime, create_container, start_container,
			poststart, poststop;
	} hooks;
	struct spec_pairs annotations;

	/* The members from here on are properties of the object `linux` in config.json. */
	struct spec_namespace ns[SPEC_NS_COUNT];
	/*
	 * The id maps of a user namespace. config.json has either both maps or neither. If it has
	 * neither and asks for a new user namespace, the plan maps an ordinary user to root and no
	 * other id; for root this is an error.
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
	uint32_t rootfs_propagation; /* propagation MS_*, with or without MS_REC; 0: absent */
	const struct spec_seccomp *seccomp;
	/* sysctls with names as in config.json, with dots or with slashes */
	struct spec_pairs sysctl;
	struct spec_strings masked_paths, readonly_paths;
	const char *mount_label;
	struct opt_u64 personality; /* argument of personality(2) */
	const struct spec_vm *vm;
	const struct spec_vm_net *vm_net; /* parsed annotation SPEC_VM_NET, or NULL */

	const struct json *json; /* the parsed document; `state` prints its annotations */
};

/* Parses the text of a config.json. `what` is the name of the document in error messages. */
int spec_parse(struct arena *a, const char *text, size_t len, const char *what,
	const struct spec **ret) must_check;

/* Reads a process object from the file of `exec --process FILE`. "-" is standard input. */
int spec_load_process(struct arena *a, const char *path, const struct spec_process **ret)
	must_check;

/* Parses the text of a process object. `what` names the document in errors. */
int spec_parse_process(struct arena *a, const char *text, size_t len, const char *what,
	const struct spec_process **ret) must_check;

/*
 * Completes p: copies from `from` those properties that p leaves out and that say as which user,
 * with which rights and with which priority a process runs. The program and its arguments are not
 * copied.
 */
void spec_process_inherit(struct spec_process *p, const struct spec_process *from);

/* Reads the resources object of `caisson update --resources FILE`. "-" means standard input. */
int spec_load_resources(struct arena *a, const char *path, struct cg_resources *ret) must_check;

/* Parses a resources object of a parsed document. If node is NULL, returns -EINVAL. */
int spec_parse_resources(struct arena *a, const struct json *node, const char *what,
	struct cg_resources *ret) must_check;

/*
 * Adapts limits to the version of the specification in which s is written. spec_parse() has adapted
 * the limits in s itself; a later `update` calls this function for the limits that it brings. Up to
 * version 1.2 a pids.limit of 0 has no meaning of its own: engines write 0 for "unlimited", and Go
 * programs write 0 for a limit that was not given. Since version 1.3 a pids.limit of 0 is a limit.
 */
void spec_settle_resources(const struct spec *s, struct cg_resources *res);

/*
 * Functions that parse single values, which the command line uses too. They return -EINVAL with a
 * message that says what was expected.
 */
/* name is a capability such as "CAP_CHOWN" */
int spec_parse_capability(const char *name, unsigned *ret_number) must_check;
int spec_parse_mount_options(struct arena *a, struct spec_strings options, struct spec_mount *m)
	must_check;
/* Returns the value of an annotation of config.json, or NULL if the annotation is absent. */
const char *spec_annotation(const struct spec *s, const char *key);

/*
 * The name of the annotation that says what vm.image is for: "root", the root file system;
 * "overlay", the same, but the guest only reads the image, and keeps in its memory what the
 * container changes; or "disk", a block device of the guest beside the root file system of
 * root.path.
 */
#define SPEC_IMAGE_USE "io.caisson.vm.image.use"
#define SPEC_IMAGE_OVERLAY "overlay" /* a value of SPEC_IMAGE_USE */
/* Returns whether vm.image holds the root file system. */
bool spec_image_is_root(const struct spec *s);
/* Says whether the mount is one of the file system on vm.image. */
bool spec_mount_is_image(const struct spec_mount *m);
bool spec_image_is_overlay(const struct spec *s);

/*
 * The name of the annotation that says what runs in the microVM: "container", the process of
 * config.json, which caisson's agent starts; or "foreign", the operating system that is in
 * vm.image, with a kernel, an init and users of its own. caisson's agent is not in a foreign guest.
 */
#define SPEC_GUEST "io.caisson.vm.guest"
/* what process.args holds for a foreign guest (see SPEC_GUEST): the guest runs its own init */
#define SPEC_GUEST_INIT "init"
bool spec_guest_is_foreign(const struct spec *s);

/*
 * Returns the first name in linux.sysctl that belongs to a namespace of type ns, or NULL if there
 * is none. `a` is for temporary memory.
 */
const char *spec_sysctl_of(struct arena *a, const struct spec *s, enum spec_ns ns);
/* Returns whether the sysctl `key` belongs to a namespace of the type ns. */
bool spec_sysctl_is_of(struct arena *a, const char *key, enum spec_ns ns);

/*
 * Appends id maps to `out` in the form of /proc/PID/uid_map. This function is in kernel_text.c,
 * which is also linked into caisson-init.
 */
int spec_id_maps_text(const struct spec_id_maps *maps, struct strbuf *out) must_check;
/*
 * Turns the name of a sysctl, in place, into its path below /proc/sys. As in sysctl(8), the
 * separator that comes first decides whether "." or "/" separates components. So
 * "net.ipv4.conf.eth0/1.forwarding" and "net/ipv4/conf/eth0.1/forwarding" are the same file, for
 * the interface eth0.1. Returns whether the name is valid.
 */
bool spec_sysctl_path(char *name);

/*
 * The functions spec_known_*() return a static array of every name that caisson accepts in a place
 * of config.json, with NULL at its end, for `caisson features`.
 */
const char *const *spec_known_mount_options(void);
const char *const *spec_known_namespaces(void);
const char *const *spec_known_capabilities(void);
const char *const *spec_known_seccomp_actions(void);
const char *const *spec_known_seccomp_operators(void);
const char *const *spec_known_seccomp_archs(void);
const char *const *spec_known_seccomp_flags(void);
const char *const *spec_known_mempolicy_modes(void);
const char *const *spec_known_mempolicy_flags(void);

/* The id maps of an ordinary user's container, as text in the form of /proc/PID/uid_map. */
struct spec_user_maps {
	const char *users, *groups;
};

/*
 * Writes the config.json of `caisson spec`. If `maps` is not NULL, this config.json is for the
 * ordinary user who may write these id maps.
 */
int spec_write_default(struct json_out *o, const struct spec_user_maps *maps) must_check;
/*
 * Writes linux.uidMappings or gidMappings (`key`) from the text `map`, which has the form of
 * /proc/PID/uid_map.
 */
void spec_write_id_map(struct json_out *o, const char *key, const char *map);
