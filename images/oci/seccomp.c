/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the default filter of system calls for containers from images. The names in the lists
 * below are those of the kernel's tables of calls (x86-64 and i386, Linux 6.1), and the calls that
 * Linux added up to 6.17. A call that no list names fails with ENOSYS, so that a program does
 * without the call, as on a kernel that lacks it.
 */
#include "images/oci/seccomp.h"

/* Calls that need no privilege and are safe to allow. */
static const char *const allowed[] = {"memfd_secret", "modify_ldt", "_llseek", "_newselect",
	"accept", "accept4", "access", "adjtimex", "alarm", "arch_prctl", "bind", "brk",
	"cachestat", "capget", "capset", "chdir", "chmod", "chown", "chown32", "chroot",
	"clock_adjtime", "clock_adjtime64", "clock_getres", "clock_getres_time64", "clock_gettime",
	"clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "close", "close_range",
	"connect", "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create",
	"epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd",
	"eventfd2", "execve", "execveat", "exit", "exit_group", "faccessat", "faccessat2",
	"fadvise64", "fadvise64_64", "fallocate", "fanotify_mark", "fchdir", "fchmod", "fchmodat",
	"fchmodat2", "fchown", "fchown32", "fchownat", "fcntl", "fcntl64", "fdatasync", "fgetxattr",
	"file_getattr", "file_setattr", "flistxattr", "flock", "fork", "fremovexattr", "fsetxattr",
	"fstat", "fstat64", "fstatat64", "fstatfs", "fstatfs64", "fsync", "ftruncate",
	"ftruncate64", "futex", "futex_requeue", "futex_time64", "futex_wait", "futex_waitv",
	"futex_wake", "futimesat", "get_mempolicy", "get_robust_list", "get_thread_area", "getcpu",
	"getcwd", "getdents", "getdents64", "getegid", "getegid32", "geteuid", "geteuid32",
	"getgid", "getgid32", "getgroups", "getgroups32", "getitimer", "getpeername", "getpgid",
	"getpgrp", "getpid", "getppid", "getpriority", "getrandom", "getresgid", "getresgid32",
	"getresuid", "getresuid32", "getrlimit", "getrusage", "getsid", "getsockname", "getsockopt",
	"gettid", "gettimeofday", "getuid", "getuid32", "getxattr", "getxattrat",
	"inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel",
	"io_destroy", "io_getevents", "io_pgetevents", "io_pgetevents_time64", "io_setup",
	"io_submit", "ioctl", "ioprio_get", "ioprio_set", "ipc", "kill", "landlock_add_rule",
	"landlock_create_ruleset", "landlock_restrict_self", "lchown", "lchown32", "lgetxattr",
	"link", "linkat", "listen", "listxattr", "listxattrat", "llistxattr", "lremovexattr",
	"lseek", "lsetxattr", "lstat", "lstat64", "madvise", "map_shadow_stack", "membarrier",
	"memfd_create", "mincore", "mkdir", "mkdirat", "mknod", "mknodat", "mlock", "mlock2",
	"mlockall", "mmap", "mmap2", "mprotect", "mq_getsetattr", "mq_notify", "mq_open",
	"mq_timedreceive", "mq_timedreceive_time64", "mq_timedsend", "mq_timedsend_time64",
	"mq_unlink", "mremap", "mseal", "msgctl", "msgget", "msgrcv", "msgsnd", "msync", "munlock",
	"munlockall", "munmap", "name_to_handle_at", "nanosleep", "newfstatat", "nice", "oldfstat",
	"oldlstat", "oldolduname", "oldstat", "olduname", "open", "openat", "openat2", "pause",
	"pidfd_open", "pidfd_send_signal", "pipe", "pipe2", "pkey_alloc", "pkey_free",
	"pkey_mprotect", "poll", "ppoll", "ppoll_time64", "prctl", "pread64", "preadv", "preadv2",
	"prlimit64", "process_madvise", "process_mrelease", "process_vm_readv", "process_vm_writev",
	"pselect6", "pselect6_time64", "ptrace", "pwrite64", "pwritev", "pwritev2", "read",
	"readahead", "readdir", "readlink", "readlinkat", "readv", "recvfrom", "recvmmsg",
	"recvmmsg_time64", "recvmsg", "remap_file_pages", "removexattr", "removexattrat", "rename",
	"renameat", "renameat2", "restart_syscall", "rmdir", "rseq", "rt_sigaction",
	"rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend",
	"rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sched_get_priority_max",
	"sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam",
	"sched_getscheduler", "sched_rr_get_interval", "sched_rr_get_interval_time64",
	"sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield",
	"seccomp", "select", "semctl", "semget", "semop", "semtimedop", "semtimedop_time64",
	"sendfile", "sendfile64", "sendmmsg", "sendmsg", "sendto", "set_robust_list",
	"set_thread_area", "set_tid_address", "setfsgid", "setfsgid32", "setfsuid", "setfsuid32",
	"setgid", "setgid32", "setgroups", "setgroups32", "setitimer", "setpgid", "setpriority",
	"setregid", "setregid32", "setresgid", "setresgid32", "setresuid", "setresuid32",
	"setreuid", "setreuid32", "setrlimit", "setsid", "setsockopt", "setuid", "setuid32",
	"setxattr", "setxattrat", "sgetmask", "shmat", "shmctl", "shmdt", "shmget", "shutdown",
	"sigaction", "sigaltstack", "signal", "signalfd", "signalfd4", "sigpending", "sigprocmask",
	"sigreturn", "sigsuspend", "socketpair", "splice", "ssetmask", "stat", "stat64", "statfs",
	"statfs64", "statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs", "sysinfo",
	"tee", "tgkill", "time", "timer_create", "timer_delete", "timer_getoverrun",
	"timer_gettime", "timer_gettime64", "timer_settime", "timer_settime64", "timerfd_create",
	"timerfd_gettime", "timerfd_gettime64", "timerfd_settime", "timerfd_settime64", "times",
	"tkill", "truncate", "truncate64", "ugetrlimit", "umask", "uname", "unlink", "unlinkat",
	"utime", "utimensat", "utimensat_time64", "utimes", "vfork", "vmsplice", "wait4", "waitid",
	"waitpid", "write", "writev", NULL};

/*
 * Calls that a program may make if it has a certain capability. Without that capability these calls
 * fail with EPERM.
 */
static const struct {
	const char *capability;
	const char *names[24];
} privileged[] = {
	{"CAP_SYS_ADMIN",
		{"mount", "umount", "umount2", "pivot_root", "open_tree", "move_mount", "fsopen",
			"fsconfig", "fsmount", "fspick", "mount_setattr", "setns", "unshare",
			"sethostname", "setdomainname", "quotactl", "quotactl_fd", "lookup_dcookie",
			"fanotify_init", "swapon", "swapoff", "syslog"}},
	{"CAP_DAC_READ_SEARCH", {"open_by_handle_at"}},
	{"CAP_BPF", {"bpf"}},
	{"CAP_PERFMON", {"perf_event_open"}},
	{"CAP_SYS_BOOT", {"reboot", "kexec_load", "kexec_file_load"}},
	{"CAP_SYS_MODULE", {"init_module", "finit_module", "delete_module", "create_module",
				   "query_module", "get_kernel_syms"}},
	{"CAP_SYS_PACCT", {"acct"}},
	{"CAP_SYS_RAWIO", {"ioperm", "iopl"}},
	{"CAP_SYS_TIME", {"settimeofday", "stime", "clock_settime", "clock_settime64"}},
	{"CAP_SYS_TTY_CONFIG", {"vhangup"}},
	{"CAP_SYS_PTRACE", {"kcmp", "pidfd_getfd"}},
	{"CAP_SYS_NICE", {"mbind", "set_mempolicy", "set_mempolicy_home_node", "move_pages",
				 "migrate_pages"}},
};

/*
 * Calls that no program may make, because their code in the kernel has had many security holes, or
 * because they reach things outside the container, such as the kernel's keyrings. These calls fail
 * with EPERM.
 */
static const char *const denied[] = {"io_uring_setup", "io_uring_enter", "io_uring_register",
	"userfaultfd", "keyctl", "add_key", "request_key", "nfsservctl", "uselib", "ustat", "sysfs",
	"_sysctl", "vm86", "vm86old", "statmount", "listmount", NULL};

/*
 * The flags CLONE_NEW* of clone(2), which make namespaces and need CAP_SYS_ADMIN. A filter cannot
 * see the flags of clone3(2), because they are in memory. Therefore a program without CAP_SYS_ADMIN
 * gets ENOSYS from clone3(2), and C libraries use clone(2) instead.
 */
#define NEW_NAMESPACES 0x7e020000u
#define AF_ALG 38u
#define AF_VSOCK 40u
#define ENOSYS_CODE 38
#define EPERM_CODE 1

static bool has(const char *const *capabilities, const char *name)
{
	for (; *capabilities; capabilities++)
		if (streq(*capabilities, name))
			return true;
	return false;
}

static void begin_rule(struct json_out *o, const char *action)
{
	json_out_object(o, NULL);
	json_out_str(o, "action", action);
}

static void put_names(struct json_out *o, const char *const *names)
{
	json_out_array(o, "names");
	for (; *names; names++)
		json_out_str(o, NULL, *names);
	json_out_end_array(o);
}

static void put_rule(struct json_out *o, const char *action, const char *const *names)
{
	begin_rule(o, action);
	put_names(o, names);
	if (streq(action, "SCMP_ACT_ERRNO"))
		json_out_u64(o, "errnoRet", EPERM_CODE);
	json_out_end_object(o);
}

/*
 * Allows the system call `name` if its first argument compares with `value` by the operator `op`.
 */
static void put_compared(
	struct json_out *o, const char *name, const char *op, uint64_t value, uint64_t second)
{
	begin_rule(o, "SCMP_ACT_ALLOW");
	put_names(o, (const char *const[]){name, NULL});
	json_out_array(o, "args");
	json_out_object(o, NULL);
	json_out_u64(o, "index", 0);
	json_out_u64(o, "value", value);
	json_out_u64(o, "valueTwo", second);
	json_out_str(o, "op", op);
	json_out_end_object(o);
	json_out_end_array(o);
	json_out_end_object(o);
}

/*
 * Allows socket(2), except for the kernel's cryptography (AF_ALG) and the hypervisor (AF_VSOCK).
 * socketcall(2) of 32-bit programs is in no list, because a filter cannot see its arguments in
 * memory. C libraries of the last ten years do not need socketcall(2).
 */
static void put_sockets(struct json_out *o)
{
	put_compared(o, "socket", "SCMP_CMP_LT", AF_ALG, 0);
	put_compared(o, "socket", "SCMP_CMP_EQ", AF_ALG + 1, 0);
	put_compared(o, "socket", "SCMP_CMP_GT", AF_VSOCK, 0);
}

/*
 * Allows the values of personality(2) that programs use: Linux, 32-bit Linux, both also without
 * address randomisation, and the query of the present value.
 */
static void put_personalities(struct json_out *o)
{
	static const uint64_t values[] = {0x0, 0x8, 0x20000, 0x20008, 0xffffffff};

	for (size_t i = 0; i < ARRAY_SIZE(values); i++)
		put_compared(o, "personality", "SCMP_CMP_EQ", values[i], 0);
}

static void put_architectures(struct json_out *o)
{
	json_out_array(o, "architectures");
#if defined(__x86_64__)
	json_out_str(o, NULL, "SCMP_ARCH_X86_64");
	json_out_str(o, NULL, "SCMP_ARCH_X86");
#elif defined(__aarch64__)
	json_out_str(o, NULL, "SCMP_ARCH_AARCH64");
	json_out_str(o, NULL, "SCMP_ARCH_ARM");
#endif
	json_out_end_array(o);
}

void seccomp_put_default(struct json_out *o, const char *const *capabilities)
{
	bool admin = has(capabilities, "CAP_SYS_ADMIN");

	json_out_object(o, "seccomp");
	json_out_str(o, "defaultAction", "SCMP_ACT_ERRNO");
	json_out_u64(o, "defaultErrnoRet", ENOSYS_CODE);
	put_architectures(o);
	json_out_array(o, "syscalls");
	put_rule(o, "SCMP_ACT_ALLOW", allowed);
	for (size_t i = 0; i < ARRAY_SIZE(privileged); i++)
		put_rule(o,
			admin || has(capabilities, privileged[i].capability) ? "SCMP_ACT_ALLOW"
									     : "SCMP_ACT_ERRNO",
			privileged[i].names);
	put_rule(o, "SCMP_ACT_ERRNO", denied);
	if (admin)
		put_rule(o, "SCMP_ACT_ALLOW", (const char *const[]){"clone", "clone3", NULL});
	else
		put_compared(o, "clone", "SCMP_CMP_MASKED_EQ", NEW_NAMESPACES, 0);
	put_sockets(o);
	put_personalities(o);
	json_out_end_array(o);
	json_out_end_object(o);
}
