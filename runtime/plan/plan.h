/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plan: everything that will be done to turn a bundle into a running container, as an array of
 * steps.
 *
 * Two parties walk the same array in order. The HOST is the runtime. INIT is the container's first
 * process, which STEP_CLONE makes. Each party does its own steps and skips the other's. The two
 * meet at STEP_BARRIERs: the party that `place` names reports that it has reached the barrier, and
 * the other one waits for that report. There is no other handshake. A party learns at its next
 * barrier that the other one has failed.
 *
 * In VM mode two more parties stand between HOST and INIT. The MONITOR is the process that HOST's
 * STEP_CLONE makes: it boots the machine (STEP_MACHINE), and the rest of the host sees it as the
 * container. The GUEST is caisson-guest, the machine's first process, whose own STEP_CLONE makes
 * INIT. A party waits for the barriers of the party that made it: the MONITOR for HOST's, and INIT
 * for the GUEST's. HOST also waits for the barriers of the MONITOR and of INIT, and the GUEST for
 * those of INIT.
 *
 * plan_build() is pure: it reads the spec and the facts in struct plan_env and makes no system
 * call. The plan points into the spec, and is allocated in the same arena.
 */
#pragma once
#include "spec/spec.h"

/*
 * The directory in the container that holds the container's NOTIFY_SOCKET, if caisson's caller has
 * one.
 */
#define PLAN_NOTIFY_DIR "/run/notify"
#define PLAN_NOTIFY_SOCKET PLAN_NOTIFY_DIR "/notify.sock"

/*
 * names of the files that caisson writes for the container's /etc if the container joins networks
 * of the host
 */
#define PLAN_HOSTS "hosts"
#define PLAN_RESOLV_CONF "resolv.conf"

/*
 * The annotation of config.json that asks that the process keep the supplementary groups of
 * caisson's caller.
 */
#define PLAN_KEEP_GROUPS "run.oci.keep_original_groups"

#define PLAN_BACKENDS_MAX 6 /* how many vhost-user back ends one microVM can have */

enum step_place { PLACE_HOST, PLACE_INIT, PLACE_MONITOR, PLACE_GUEST };

enum plan_isolation { PLAN_NS, PLAN_VM };

/*
 * The way in which the step PIVOT makes the container's root directory the root directory of INIT,
 * the container's first process.
 */
enum plan_pivot {
	PLAN_PIVOT_ROOT, /* The step PIVOT calls pivot_root(2). */
	/*
	 * The step PIVOT moves the root's mount and calls chroot(2), because --no-pivot was given.
	 */
	PLAN_PIVOT_MOVE,
	/*
	 * The step PIVOT has nothing to do, because the step ATTACH_ROOT has entered a mount
	 * namespace of the root alone.
	 */
	PLAN_PIVOT_IS_ROOT
};

/*
 * The kinds of steps as X(kind, name as printed, what the step does), in the order in which a plan
 * uses them.
 */
#define PLAN_STEP_KINDS(X) \
	X(CGROUP_CREATE, "cgroup-create", "make the cgroup") \
	X(CGROUP_LIMIT, "cgroup-limit", "write the limits and the device program") \
	X(OPEN_ROOT, "open-root", "take a private copy of the root file system's mount") \
	X(OPEN_SOURCE, "open-source", "take a private copy of a bind mount's source") \
	X(DEVICE_NODES, "device-nodes", "make the device nodes that INIT may not make") \
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
	X(NEW_NETWORK, "network", "make the network namespace; enter it") \
	X(NETWORKS, "networks", "join networks of the host, and publish ports") \
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

/*
 * A device node that the step DEVICE_NODES makes, and the slot (an index of struct plan) in which
 * that step stores the descriptor of the node's mount.
 */
struct plan_node {
	const struct spec_device *device;
	/* property of config.json that asks for the node, such as "linux.devices[0]" */
	const char *field;
	int slot;
};

struct step {
	enum step_kind kind;
	enum step_place place;
	/*
	 * index, in the array of the plan's descriptors, of the descriptor that this step opens, or
	 * that an earlier step opened for this one; -1: none
	 */
	int slot;
	/* property of config.json that error messages name, such as "mounts[3]"; may be NULL */
	const char *field;
	union {
		/*
		 * a text whose meaning depends on the kind of step: the barrier's name, the host
		 * name, the path to mask and so on; for AFFINITY NULL means all CPUs
		 */
		const char *text;
		/*
		 * a number whose meaning depends on the kind of step: propagation, personality,
		 * priority; for the step PIVOT an enum plan_pivot; for ENTER a set of CLONE_NEW*
		 * flags
		 */
		uint64_t number;
		struct {                /* members of the step CLONE */
			uint64_t flags; /* CLONE_NEW* flags that clone3(2) is called with */
			/*
			 * whether the process that the step CLONE makes is a stage, a process in
			 * between, which makes the container's first process at the step FORK
			 */
			bool staged;
		} clone;
		struct { /* members of the step FORK */
			/* CLONE_NEW* flags of the namespaces that the step FORK makes */
			uint64_t flags;
			/*
			 * whether the step CLONE made a stage, and the process that FORK makes does
			 * more than the step EXEC
			 */
			bool staged;
		} fork;
		struct { /* members of the step TIME_NS */
			struct spec_time_offset monotonic, boottime;
		} time;
		struct { /* members of the steps OPEN_NAMESPACE and JOIN */
			enum spec_ns type;
			const char *path;
		} ns;
		struct { /* members of the step ID_MAP */
			struct spec_id_maps uid, gid;
		} map;
		struct { /* members of the steps OPEN_ROOT, OPEN_SOURCE and ATTACH_ROOT */
			const char *path; /* absolute path of what the step opens */
			/* whether the path is inside the container's root, not on the host */
			bool in_root;
			bool recursive;
			/*
			 * Used by OPEN_ROOT: if these members are not NULL, the root is an overlay
			 * of the directories `lower` of `layers` (base/overlay.h), and `path` is
			 * not used.
			 */
			const char *layers, *lower, *upper, *work;
			bool userxattr;
			/*
			 * Used by OPEN_ROOT and ATTACH_ROOT: whether the step CLONE makes no mount
			 * namespace. Then OPEN_ROOT only opens the root, and ATTACH_ROOT makes and
			 * enters a mount namespace that holds a copy of the root and nothing else.
			 */
			bool as_namespace;
			/* MS_* flags that the step's copy of the mount gets */
			uint32_t propagation;
			/*
			 * used by OPEN_SOURCE: the mount of config.json to which the source
			 * belongs; NULL in other steps
			 */
			const struct spec_mount *mount;
			/* id maps for an idmapped mount; if n is 0, the mount is not idmapped */
			struct spec_id_maps idmap_uid, idmap_gid;
			/*
			 * whether the mount's ids are mapped by the id maps of the user namespace
			 * that the container joins
			 */
			bool idmap_joined;
		} open;
		struct { /* members of the step DEVICE_NODES */
			const struct plan_node *v;
			size_t n;
			/*
			 * id maps of the container's new user namespace; n == 0: the container
			 * joins an existing user namespace, and the id maps of that are read from
			 * the kernel
			 */
			struct spec_id_maps uid, gid;
		} nodes;
		/* members of the step CONNECT, for a mount that a vhost-user back end serves */
		struct {
			const struct spec_mount *mount;
			/* name of the mount's device in the guest: /dev/vdX, or a virtio-fs tag */
			const char *device;
		} connect;
		/*
		 * member of the step CONNECT_NET: the network interface that a vhost-user back end
		 * serves
		 */
		const struct spec_vm_net *net;
		struct { /* members of the step MOUNT */
			const struct spec_mount *mount;
			const char *label; /* linux.mountLabel (the SELinux label), or NULL */
			bool userns;       /* the container is in a user namespace of its own */
			bool cgroup_ns;    /* the container has a cgroup namespace */
			/* The id maps of the container's user namespace; empty if there is none. */
			struct spec_id_maps uid, gid;
		} mount;
		struct { /* members of the step DEVICE */
			const struct spec_device *device;
			/*
			 * whether the container's first process mounts the device node of which
			 * `slot` has a descriptor, instead of calling mknod(2)
			 */
			bool bind;
			/*
			 * Which node the slot refers to if `bind` is set. true: the node that the
			 * step DEVICE_NODES made for this container. false: the host's own node,
			 * which an OPEN_SOURCE step opened.
			 */
			bool made;
		} device;
		struct { /* members of the step SYMLINK */
			const char *target, *path;
		} link;
		/* member of the step NETWORKS: the values of --network */
		struct spec_strings networks;
		/* member of the steps SYSCTL (name and value) and NET_DEVICE (old and new name) */
		struct spec_pair pair;
		struct { /* members of the step HOOKS */
			/* name of the property in hooks, such as "createRuntime" */
			const char *name;
			/* status of the container that the hooks are told, such as "creating" */
			const char *status;
			struct spec_hooks hooks;
		} hooks;
		/*
		 * members of the step USER, and of the step MAPPED_ROOT, in which process is NULL
		 */
		struct {
			const struct spec_process *process;
			/* the process keeps the supplementary groups of caisson's caller */
			bool keep_groups;
		} user;
		struct { /* members of the step CAPABILITIES */
			const struct spec_capabilities *caps;
			/*
			 * whether the process keeps CAP_SYS_ADMIN until a later SECCOMP step has
			 * used it
			 */
			bool keep_sys_admin;
		} caps;
		struct { /* members of the steps SECCOMP and COMPILE_SECCOMP */
			const struct spec_seccomp *seccomp;
			const struct spec_capabilities *final_caps;
			/*
			 * whether the step sets the capabilities to final_caps (NULL: none) once it
			 * has loaded the filter
			 */
			bool drop_caps;
		} seccomp;
		const struct spec_intel_rdt *rdt;
		const struct spec_memory_policy *mempolicy;
		/*
		 * member of the steps that set one property of the process: the process of
		 * config.json
		 */
		const struct spec_process *process;
	};
};

struct plan {
	const struct step *steps;
	size_t n;
	int nslots;
	bool exec; /* whether the plan is that of an exec: its process joins a running container */
	/* the process that the container runs; NULL: config.json has no process */
	const struct spec_process *process;
	uint64_t joined; /* CLONE_NEW* flags of the namespaces that are joined by path */
	bool userns;     /* the process runs in another user namespace than the runtime */
	bool terminal;
	enum plan_isolation isolation;
};

/* Facts about the host and the command that a plan depends on. */
struct plan_env {
	enum plan_isolation isolation;
	const char *bundle; /* absolute path of the bundle */
	/*
	 * From --root-layers: the root is an overlay of the directories `lower` of the directory
	 * `layers`. NULL: the root is the bundle's root directory.
	 */
	const char *layers, *lower;
	bool rootless; /* caisson does not run as root: its effective user is not 0 */
	/*
	 * caisson runs in a user namespace other than the initial one, so it may not call mknod(2)
	 */
	bool in_userns;
	uint32_t uid, gid; /* effective user and group of caisson */
	bool no_pivot;
	/*
	 * whether the kernel's open_tree(2) knows OPEN_TREE_NAMESPACE: see sys_has_tree_namespace()
	 */
	bool tree_namespace;
	bool no_new_keyring;
	const char *keyring; /* name of the session keyring that the container gets */
	/* size of the caller's terminal, used if config.json has no consoleSize; 0: no terminal */
	uint16_t console_height, console_width;
	bool attached; /* for `run`: the program starts without a separate `start` command */
	bool cgroup;   /* whether caisson makes a cgroup; false if cgroups are disabled */
	struct spec_strings networks; /* networks that the container joins (--network) */
	/*
	 * directory of the host that holds PLAN_HOSTS and PLAN_RESOLV_CONF; NULL: the container
	 * gets no such files
	 */
	const char *names_dir;
	/* directory of the host that is mounted on PLAN_NOTIFY_DIR; NULL: no NOTIFY_SOCKET */
	const char *notify_dir;
	/*
	 * caisson moves the container's process into its cgroup after the process was made, because
	 * systemd makes the cgroup for an existing process
	 */
	bool cgroup_attach;
};

/*
 * Returns whether the runtime makes the container's network namespace in a thread and gives it to
 * the container's first process at the step NEW_NETWORK. If not, the step CLONE or FORK makes it.
 */
bool plan_makes_network(const struct spec *s, bool rootless);

int plan_build(struct arena *a, const struct spec *s, const struct plan_env *env, struct plan *ret)
	must_check;

/* Facts that the plan of an exec depends on: the container's spec and its state. */
struct plan_exec_env {
	enum plan_isolation isolation;
	const struct spec *spec;            /* the spec of the container */
	const struct spec_process *process; /* the process to run */
	bool cgroup_attach, no_new_keyring;
	bool rootless; /* caisson does not run as root: its effective user is not 0 */
	const char *keyring;
};

int plan_build_exec(struct arena *a, const struct plan_exec_env *env, struct plan *ret) must_check;

/*
 * Returns the CLONE_NEW* flags of the namespaces that are made for the container: by the CLONE step
 * of the party `who`, and by the FORK step after it.
 */
uint64_t plan_new_namespaces(const struct plan *p, enum step_place who);

/*
 * Says whether the step copies a mount of the host that a microVM gets in the virtio-fs share of
 * its files.
 */
bool plan_is_shared(const struct step *s);

/*
 * Returns the slot of the user namespace that an OPEN_NAMESPACE step opens, or -1 if the container
 * joins no user namespace by path.
 */
int plan_userns_slot(const struct plan *p);

/* Returns the slot of the compiled system call filter, or -1 if the plan has no filter. */
int plan_filter_slot(const struct plan *p);

/*
 * Returns whether INIT, the container's first process, runs hooks. INIT needs the container's state
 * for hooks.
 */
bool plan_has_init_hooks(const struct plan *p);

/* Says whether the party `who` waits at the step `barrier` for the report of another party. */
bool plan_awaits(const struct plan *p, enum step_place who, const struct step *barrier);

/* Returns the process's user id as seen from outside the container's user namespace. */
uint32_t plan_uid(const struct spec *s, const struct spec_process *p);
/*
 * Says whether the process's user becomes the owner of the cgroup. The user does if the container
 * has a cgroup namespace of its own and a writable /sys/fs/cgroup (config-linux.md "Cgroup
 * ownership").
 */
bool plan_delegates_cgroup(const struct spec *s);

const char *plan_step_name(enum step_kind k);
const char *plan_place_name(enum step_place p);
/*
 * Appends to `out` what the step acts on, such as the path of a mount. Appends nothing for a step
 * whose name says all.
 */
int plan_step_text(const struct step *s, struct strbuf *out) must_check;
uint64_t plan_ns_flag(enum spec_ns type); /* Returns the CLONE_NEW* flag of the namespace type. */
/* Returns the name of the namespace type, such as "network". */
const char *plan_ns_name(enum spec_ns type);

/*
 * plan_print() writes the plan as text, one line for each step. plan_print_json() writes the plan
 * as a JSON array with an object for each step.
 */
int plan_print(const struct plan *p, struct strbuf *out) must_check;
int plan_print_json(const struct plan *p, struct json_out *out) must_check;
