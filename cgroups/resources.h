/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.json's linux.resources (runtime-spec 1.3, config-linux.md "Control groups") as plain data.
 * runtime/spec/ fills it in; cg_apply() writes it to cgroup v2. Strings and arrays belong to the
 * caller's arena. Units are the specification's: bytes, microseconds, counts; -1 is "unlimited"
 * where the specification says so.
 *
 * As with runc, 0 is the same as absent for memory.limit, reservation and swap, cpu.shares, quota
 * and period, and blockIO.weight, because engines send zeros for what they do not limit. It is a
 * value for pids.limit, cpu.burst and cpu.idle.
 */
#pragma once
#include <stddef.h>

#include "base/opt.h"

struct cg_device_rule {
	bool allow;
	char type;          /* 'a': all devices, 'c': character, 'b': block */
	int64_t major;      /* -1: any */
	int64_t minor;      /* -1: any */
	const char *access; /* letters of "rwm", never NULL; "" stands for "rwm", as with crun */
};

struct cg_device_value {
	uint64_t major, minor;
	uint64_t value; /* bytes or operations per second (0: no limit), or a weight */
};

struct cg_device_values {
	const struct cg_device_value *v;
	size_t n;
};

struct cg_hugepage_limit {
	const char *page_size; /* such as "2MB", "1GB", "64KB" */
	uint64_t limit;        /* bytes */
};

struct cg_rdma_limit {
	const char *device; /* name of the RDMA device, such as "mlx5_1" */
	struct opt_u64 hca_handles, hca_objects;
};

struct cg_unified {
	const char *file; /* name of the control file, such as "memory.high" */
	const char *value;
};

struct cg_resources {
	/* in the order of config.json; later rules override earlier ones */
	const struct cg_device_rule *devices;
	size_t ndevices;

	struct {
		struct opt_i64 limit, reservation, swap;
		struct opt_i64 kernel, kernel_tcp;  /* cgroup v1 only */
		struct opt_u64 swappiness;          /* cgroup v1 only */
		struct opt_bool disable_oom_killer; /* cgroup v1 only */
		struct opt_bool use_hierarchy;      /* cgroup v1 only: v2 is always hierarchical */
		struct opt_bool check_before_update;
		/*
		 * The limit is not below what the processes can get anyway, so a missing controller
		 * is no error.
		 */
		bool upper_bound;
	} memory;

	struct {
		struct opt_u64 shares, burst, period;
		struct opt_i64 quota, idle;
		struct opt_i64 realtime_runtime; /* cgroup v1 only */
		struct opt_u64 realtime_period;  /* cgroup v1 only */
		const char *cpus, *mems;         /* lists such as "0-3,7"; NULL if absent */
	} cpu;

	struct opt_i64 pids_limit; /* 0: only the first process is allowed; negative: unlimited */

	struct {
		struct opt_u64 weight;      /* from 10 to 1000 */
		struct opt_u64 leaf_weight; /* cgroup v1 only */
		struct cg_device_values weight_device;
		struct cg_device_values leaf_weight_device; /* cgroup v1 only */
		struct cg_device_values throttle_read_bps, throttle_write_bps;
		struct cg_device_values throttle_read_iops, throttle_write_iops;
	} block_io;

	const struct cg_hugepage_limit *hugepages;
	size_t nhugepages;
	const struct cg_rdma_limit *rdma;
	size_t nrdma;
	struct opt_u64 net_class_id; /* cgroup v1 only */
	size_t nnet_priorities;      /* number of priorities in config.json; cgroup v1 only */
	const struct cg_unified *unified;
	size_t nunified;
};
