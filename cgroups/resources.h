/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.json's linux.resources (runtime-spec 1.3, config-linux.md "Control groups") as plain data.
 * runtime/spec/ fills it in; cg_apply() writes it to cgroup v2. Strings and arrays belong to the
 * caller's arena. Units are the specification's: bytes, microseconds, counts; -1 is "unlimited"
 * where the specification says so.
 *
 * As with runc, 0 is the same as absent for memory.limit, reservation and swap, cpu.shares, quota
 * and period, and blockIO.weight, because engines send zeros for what they do not limit. For
 * pids.limit, cpu.burst and cpu.idle 0 is a value.
 */
#pragma once
#include <stddef.h>

#include "base/opt.h"

struct cg_device_rule {
	bool allow;
	char type;     /* type of the device: 'a': all devices, 'c': character, 'b': block */
	int64_t major; /* major number; -1: any */
	int64_t minor; /* minor number; -1: any */
	/* accesses: letters of "rwm", never NULL; "" stands for "rwm", as with crun */
	const char *access;
};

struct cg_device_value {
	uint64_t major, minor;
	uint64_t value; /* a rate in bytes or operations per second (0: no limit), or a weight */
};

struct cg_device_values {
	const struct cg_device_value *v;
	size_t n;
};

struct cg_hugepage_limit {
	const char *page_size; /* size of a huge page, such as "2MB", "1GB", "64KB" */
	uint64_t limit;        /* limit in bytes */
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
	/* rules in the order of config.json; later rules override earlier ones */
	const struct cg_device_rule *devices;
	size_t ndevices;

	struct {
		struct opt_i64 limit, reservation, swap;
		struct opt_i64 kernel, kernel_tcp;  /* limits that only cgroup v1 has */
		struct opt_u64 swappiness;          /* a setting that only cgroup v1 has */
		struct opt_bool disable_oom_killer; /* a setting that only cgroup v1 has */
		/* a setting that only cgroup v1 has, because v2 is always hierarchical */
		struct opt_bool use_hierarchy;
		struct opt_bool check_before_update;
		/*
		 * memory.limit is not below what the container's processes can get anyway, so a
		 * missing controller is no error.
		 */
		bool upper_bound;
	} memory;

	struct {
		struct opt_u64 shares, burst, period;
		struct opt_i64 quota, idle;
		struct opt_i64 realtime_runtime; /* a setting that only cgroup v1 has */
		struct opt_u64 realtime_period;  /* a setting that only cgroup v1 has */
		const char *cpus, *mems;         /* lists such as "0-3,7"; NULL if absent */
	} cpu;

	/* largest number of processes; 0: only the first process is allowed; negative: unlimited */
	struct opt_i64 pids_limit;

	struct {
		struct opt_u64 weight;      /* weight of the container's I/O, from 10 to 1000 */
		struct opt_u64 leaf_weight; /* a setting that only cgroup v1 has */
		struct cg_device_values weight_device;
		struct cg_device_values leaf_weight_device; /* a setting that only cgroup v1 has */
		struct cg_device_values throttle_read_bps, throttle_write_bps;
		struct cg_device_values throttle_read_iops, throttle_write_iops;
	} block_io;

	const struct cg_hugepage_limit *hugepages;
	size_t nhugepages;
	const struct cg_rdma_limit *rdma;
	size_t nrdma;
	struct opt_u64 net_class_id; /* a setting that only cgroup v1 has */
	/* number of priorities in config.json, which only cgroup v1 has */
	size_t nnet_priorities;
	const struct cg_unified *unified;
	size_t nunified;
};
