/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plan: what will be done to turn a bundle into a running container, as an array of steps.
 *
 * Two parties walk the same array in order. The HOST is the runtime. INIT is the container's first
 * process, made by STEP_CLONE. Each does its own steps and skips the other's. They meet at
 * STEP_BARRIERs: the party named by `place` reports that it got there, the other waits for that
 * report. There is no other handshake; a failure on either side reaches the other at its next
 * barrier.
 *
 * In VM mode two more parties stand between them. The MONITOR is the process that HOST's STEP_CLONE
 * makes: it boots the machine (STEP_MACHINE), and the rest of the host sees it as the container.
 * The GUEST is caisson-init, the machine's first process, whose own STEP_CLONE makes INIT. A party
 * waits for the barriers of the party that made it: the MONITOR for HOST's, INIT for the GUEST's.
 * HOST waits for those of the MONITOR and of INIT, the GUEST for those of INIT.
 *
 * plan_build() is pure: it looks at the spec and at the facts in struct plan_env and calls nothing.
 * The plan points into the spec, and lives in the same arena.
 */
#pragma once
#include "spec/spec.h"

/* The directory in which a container finds its NOTIFY_SOCKET, if caisson's caller has one. */
#define PLAN_NOTIFY_DIR "/run/notify"
#define PLAN_NOTIFY_SOCKET PLAN_NOTIFY_DIR "/notify.sock"

/* The annotation that keeps the caller's supplementary groups. */
#define PLAN_KEEP_GROUPS "run.oci.keep_original_groups"

#define PLAN_BACKENDS_MAX 6 /* vhost-user back ends of one microVM */

enum step_place { PLACE_HOST, PLACE_INIT, PLACE_MONITOR, PLACE_GUEST };

enum plan_isolation { PLAN_NS, PLAN_VM };

/* X(kind, name printed, what it does). The order is the order of first use. */
#define PLAN_STEP_KINDS(X) \
	X(CGROUP_CREATE, "cgroup-create", "make the cgroup") \
	X(CGROUP_LIMIT, "cgroup-limit", "write the limits and the device program") \
	X(OPEN_ROOT, "open-root", "take a private copy of the root file system's mount") \
	X(OPEN_SOURCE, "open-source", "take a private copy of a bind mount's source") \
	X(CONNECT, "connect", "connect to the vhost-user back end of a mount; mount its device") \
	X(CONNECT_NET, "connect-net", "connect to the vhost-user back end of a network device") \
	X(OPEN_NAMESPACE, "open-namespace", "open a namespace to join, and check its type") \
	X(COMPILE_SECCOMP, "compile-seccomp", "compile the system call filter, or find it cached") \
	X(CLONE, "clone", "make the first process, in its new namespaces") \
	X(MACHINE, "machine", "boot the virtual machine, with the shares and the network") \
	X(ID_MAP, "id-map", "write the user namespace's id maps") \
	X(CGROUP_ATTACH, "cgroup-attach", "move the process into its cgroup") \
	X(INTEL_RDT, "intel-rdt", "assign the process to a resctrl group") \
	X(ENTER, "enter", "enter the namespaces of the running container") \
	X(TIME_NS, "time-namespace", "make a time namespace, and set its clocks") \
	X(FORK, "fork", "make the process that is in all namespaces; this one ends") \
	X(BARRIER, "barrier", "this side is done so far; the other one waits for it") \
	X(JOIN, "join", "enter an existing namespace") \
	X(MAPPED_ROOT, "mapped-root", "become root of the user namespace") \
	X(CGROUP_NS, "cgroup-namespace", "make the cgroup the root that the container sees") \
	X(LOOPBACK, "loopback", "bring the loopback interface up") \
	X(HOSTNAME, "hostname", "set the host name") \
	X(DOMAINNAME, "domainname", "set the NIS domain name") \
	X(ATTACH_ROOT, "attach-root", "attach the root file system in the new mount namespace") \
	X(MOUNT, "mount", "mount") \
	X(DEVICE, "device", "make or bind a device node") \
	X(SYMLINK, "symlink", "make a symbolic link") \
	X(NET_DEVICE, "net-device", "move a network interface into the container") \
	X(HOOKS, "hooks", "run hooks") \
	X(PIVOT, "pivot", "make the root file system the root") \
	X(CONSOLE, "console", "open a terminal and send it to the runtime") \
	X(SYSCTL, "sysctl", "write a kernel parameter of the container's namespaces") \
	X(READONLY_PATH, "readonly-path", "make a path read-only") \
	X(MASK_PATH, "mask-path", "hide a path") \
	X(READONLY_ROOT, "readonly-root", "make the root file system read-only") \
	X(ROOT_PROPAGATION, "root-propagation", "set the root's mount propagation") \
	X(MEMORY_POLICY, "memory-policy", "set the NUMA memory policy") \
	X(PERSONALITY, "personality", "set the execution domain") \
	X(RLIMITS, "rlimits", "set resource limits") \
	X(OOM_SCORE, "oom-score", "set the OOM score adjustment") \
	X(SCHEDULER, "scheduler", "set the scheduling policy") \
	X(IO_PRIORITY, "io-priority", "set the I/O priority") \
	X(AFFINITY, "affinity", "set the CPU affinity") \
	X(KEYRING, "keyring", "join a new session keyring") \
	X(EXEC_LABEL, "exec-label", "set the LSM label that execve takes on") \
	X(FIND_PROGRAM, "find-program", "enter the working directory and find the program") \
	X(USER, "user", "switch to the process's user and groups") \
	X(CAPABILITIES, "capabilities", "set the five capability sets") \
	X(NO_NEW_PRIVS, "no-new-privileges", "forbid gaining privileges by execve") \
	X(CLOSE, "close", "close all descriptors of the host") \
	X(SECCOMP, "seccomp", "load the system call filter") \
	X(WAIT_START, "wait-start", "wait for start") \
	X(EXEC, "exec", "become the program")

enum step_kind {
#define X(kind, name, text) STEP_##kind,
	PLAN_STEP_KINDS(X)
#undef X
		STEP_COUNT
};

struct step {
	enum step_kind kind;
	enum step_place place;
	int slot;          /* >= 0: where HOST leaves a descriptor for INIT to inherit; -1: none */
	const char *field; /* property of config.json, for messages: "mounts[3]"; may be NULL */
	union {
		/* the barrier's name, the host name, the path to mask, ...; AFFINITY: NULL: all */
		const char *text;
		uint64_t number;        /* propagation, personality, priority; ENTER: CLONE_NEW* */
		struct {                /* CLONE */
			uint64_t flags; /* CLONE_NEW* made by clone3 itself */
			bool staged;    /* the process FORKs at once: add_clone() of plan.c */
		} clone;
		struct {                /* FORK */
			uint64_t flags; /* CLONE_NEW* */
			bool staged;    /* of a staged CLONE: more steps than EXEC follow */
		} fork;
		struct { /* TIME_NS */
			struct spec_time_offset monotonic, boottime;
		} time;
		struct { /* OPEN_NAMESPACE, JOIN */
			enum spec_ns type;
			const char *path;
		} ns;
		struct { /* ID_MAP */
			struct spec_id_maps uid, gid;
		} map;
		struct {                  /* OPEN_ROOT, OPEN_SOURCE */
			const char *path; /* absolute */
			bool in_root;     /* path is one of the container's root */
			bool recursive;
			uint32_t propagation;                     /* the copy's, MS_* */
			const struct spec_mount *mount;           /* OPEN_SOURCE */
			struct spec_id_maps idmap_uid, idmap_gid; /* n > 0: make it idmapped */
		} open;
		struct { /* CONNECT */
			const struct spec_mount *mount;
			const char *device; /* in the guest: /dev/vdX, or a virtio-fs tag */
		} connect;
		const struct spec_vm_net *net; /* CONNECT_NET */
		struct {                       /* MOUNT */
			const struct spec_mount *mount;
			const char *label; /* linux.mountLabel or NULL */
			bool userns;       /* inside a user namespace */
			bool cgroup_ns;    /* the container has a cgroup namespace */
			/* The container's user namespace maps these ids; empty: it has none. */
			struct spec_id_maps uid, gid;
		} mount;
		struct { /* DEVICE */
			const struct spec_device *device;
			bool bind; /* bind the host's node instead of mknod(2) */
		} device;
		struct { /* SYMLINK */
			const char *target, *path;
		} link;
		struct spec_pair pair;      /* SYSCTL; NET_DEVICE: name, new name */
		struct {                    /* HOOKS */
			const char *name;   /* "createRuntime" */
			const char *status; /* the state they are told: "creating", ... */
			struct spec_hooks hooks;
		} hooks;
		struct { /* USER; MAPPED_ROOT, without process */
			const struct spec_process *process;
			bool keep_groups; /* the caller's supplementary groups stay */
		} user;
		struct { /* CAPABILITIES */
			const struct spec_capabilities *caps;
			bool keep_sys_admin; /* a later SECCOMP step needs it */
		} caps;
		struct { /* SECCOMP, COMPILE_SECCOMP */
			const struct spec_seccomp *seccomp;
			const struct spec_capabilities *final_caps;
			bool drop_caps; /* set final_caps (NULL: none) once the filter is loaded */
		} seccomp;
		const struct spec_intel_rdt *rdt;
		const struct spec_memory_policy *mempolicy;
		const struct spec_process *process; /* the process's own steps */
	};
};

struct plan {
	const struct step *steps;
	size_t n;
	int nslots;
	bool exec;                          /* the process joins a running container */
	const struct spec_process *process; /* NULL: nothing to run */
	uint64_t joined;                    /* CLONE_NEW* flags of namespaces entered by path */
	bool userns;                        /* the process is in another user namespace */
	bool terminal;
	enum plan_isolation isolation;
};

/* Facts about the host and the command that a plan depends on. */
struct plan_env {
	enum plan_isolation isolation;
	const char *bundle; /* absolute */
	bool rootless;      /* the effective user is not 0 */
	bool in_userns;     /* this process is in a user namespace of its own: no mknod */
	uint32_t uid, gid;  /* effective */
	bool no_pivot;
	bool no_new_keyring;
	const char *keyring; /* name of the session keyring that the container gets */
	/* size of the caller's terminal, for a process without consoleSize; 0: there is none */
	uint16_t console_height, console_width;
	bool attached;          /* `run`: start follows without a second command */
	bool cgroup;            /* there is a cgroup to make (not disabled) */
	const char *notify_dir; /* the host's directory to mount on PLAN_NOTIFY_DIR; NULL: none */
	bool cgroup_attach;     /* the process is moved into its cgroup once it exists (systemd) */
};

int plan_build(struct arena *a, const struct spec *s, const struct plan_env *env, struct plan *ret)
	must_check;

/* Facts that the plan of an exec depends on: the container's spec and its state. */
struct plan_exec_env {
	enum plan_isolation isolation;
	const struct spec *spec;            /* the container's */
	const struct spec_process *process; /* to run */
	bool cgroup_attach, no_new_keyring;
	bool rootless; /* the effective user is not 0 */
	const char *keyring;
};

int plan_build_exec(struct arena *a, const struct plan_exec_env *env, struct plan *ret) must_check;

/*
 * Makes the plan for a microVM from the plan `ns` for namespaces. What a VM cannot honour is an
 * error that names the field. plan_build() and plan_build_exec() call these if `isolation` says so.
 */
int plan_for_vm(struct arena *a, const struct spec *s, const struct plan_env *env,
	const struct plan *ns, struct plan *ret) must_check;
int plan_exec_for_vm(struct arena *a, const struct plan *ns, struct plan *ret) must_check;

/*
 * Whether a microVM is made without this device of the host. That is so if linux.resources.devices
 * allows all devices, as with engines' --privileged, which also lists every device of the host.
 * Without that rule such a device is an error.
 */
bool plan_vm_drops_device(const struct spec *s, const struct spec_device *d);

/* The limits of linux.resources, split by the kernel that holds them; vm_limits.c has the rule. */
struct plan_vm_limits {
	struct cg_resources guest, host;
};
int plan_vm_split_limits(
	struct arena *a, const struct cg_resources *all, struct plan_vm_limits *ret) must_check;
/*
 * Returns how many bytes of memory the container may have by memory.limit, or by memory.max of
 * unified, which overrides it. 0: no limit. *ret_field names the property in messages.
 */
uint64_t plan_vm_memory_limit(const struct cg_resources *res, const char **ret_field);

/* CLONE_NEW* of the namespaces that the CLONE of `who`, and the FORK behind it, make for INIT. */
uint64_t plan_new_namespaces(const struct plan *p, enum step_place who);

/* The slot of the compiled system call filter, or -1 if there is none. */
int plan_filter_slot(const struct plan *p);

/* Whether `who` waits for this barrier, which another party reports. */
bool plan_awaits(const struct plan *p, enum step_place who, const struct step *barrier);

/* Returns the process's user id as it is outside the container's user namespace. */
uint32_t plan_uid(const struct spec *s, const struct spec_process *p);
/*
 * Whether the cgroup is given to the process's user: it is if the container has a cgroup namespace
 * of its own and a writable /sys/fs/cgroup (config-linux.md "Cgroup ownership").
 */
bool plan_delegates_cgroup(const struct spec *s);

const char *plan_step_name(enum step_kind k);
uint64_t plan_ns_flag(enum spec_ns type);    /* CLONE_NEW* */
const char *plan_ns_name(enum spec_ns type); /* "network" */

/* plan_print() writes a line for each step, for people; plan_print_json() an array of objects. */
int plan_print(const struct plan *p, struct strbuf *out) must_check;
int plan_print_json(const struct plan *p, struct json_out *out) must_check;
