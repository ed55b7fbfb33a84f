/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Every map, defined once. bpf/maps.bpf.c makes an object of nothing else, from which the loader
 * creates and pins them; the program objects get those by file descriptor. Sizes here are the
 * defaults of loader/options.h. Names fit the kernel's 15 characters.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "maps/abi/abi.h"
#include "maps/abi/endpoint.h"
#include "maps/abi/flow.h"
#include "maps/abi/policy.h"
#include "maps/abi/verdict.h"

#define MAP_DEF(name, map_type, key_type, value_type, entries, flags)                              \
	struct {                                                                                   \
		__uint(type, map_type);                                                            \
		__uint(max_entries, entries);                                                      \
		__uint(map_flags, flags);                                                          \
		__type(key, key_type);                                                             \
		__type(value, value_type);                                                         \
	} name SEC(".maps")

#define QUEUE_DEF(name, value_type, entries)                                                       \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_QUEUE);                                                  \
		__uint(max_entries, entries);                                                      \
		__uint(key_size, 0);                                                               \
		__type(value, value_type);                                                         \
	} name SEC(".maps")

/* Written by the agent; memory follows what is in them. */
MAP_DEF(manx_ep4, BPF_MAP_TYPE_HASH, struct manx_addr4, struct manx_endpoint, 4096,
	BPF_F_NO_PREALLOC);
MAP_DEF(manx_ep6, BPF_MAP_TYPE_HASH, struct manx_addr6, struct manx_endpoint, 4096,
	BPF_F_NO_PREALLOC);
MAP_DEF(manx_slot, BPF_MAP_TYPE_ARRAY, __u32, struct manx_slot_entry, MANX_SLOTS, 0);
MAP_DEF(manx_class4, BPF_MAP_TYPE_HASH, struct manx_addr4, struct manx_class, 262144,
	BPF_F_NO_PREALLOC);
MAP_DEF(manx_class6, BPF_MAP_TYPE_HASH, struct manx_addr6, struct manx_class, 262144,
	BPF_F_NO_PREALLOC);
MAP_DEF(manx_net4, BPF_MAP_TYPE_LPM_TRIE, struct manx_prefix4, struct manx_class, 262144,
	BPF_F_NO_PREALLOC);
MAP_DEF(manx_net6, BPF_MAP_TYPE_LPM_TRIE, struct manx_prefix6, struct manx_class, 262144,
	BPF_F_NO_PREALLOC);
MAP_DEF(manx_policy, BPF_MAP_TYPE_HASH, struct manx_policy_key, struct manx_policy_value, 1048576,
	BPF_F_NO_PREALLOC);
MAP_DEF(manx_ports, BPF_MAP_TYPE_ARRAY, __u32, struct manx_port, 262144, 0);
MAP_DEF(manx_config, BPF_MAP_TYPE_ARRAY, __u32, struct manx_config, 1, 0);
MAP_DEF(manx_uplinks, BPF_MAP_TYPE_HASH, __u32, struct manx_uplink, 256, BPF_F_NO_PREALLOC);

/* Written by the programs; allocated whole, so that load cannot fail an insertion. */
MAP_DEF(manx_flow4, BPF_MAP_TYPE_HASH, struct manx_flow4_key, struct manx_flow, 262144, 0);
MAP_DEF(manx_flow6, BPF_MAP_TYPE_HASH, struct manx_flow6_key, struct manx_flow, 131072, 0);
MAP_DEF(manx_flow4_new, BPF_MAP_TYPE_LRU_HASH, struct manx_flow4_key, struct manx_flow, 65536, 0);
MAP_DEF(manx_flow6_new, BPF_MAP_TYPE_LRU_HASH, struct manx_flow6_key, struct manx_flow, 32768, 0);
MAP_DEF(manx_frag4, BPF_MAP_TYPE_LRU_HASH, struct manx_frag4_key, struct manx_frag, 8192, 0);
MAP_DEF(manx_frag6, BPF_MAP_TYPE_LRU_HASH, struct manx_frag6_key, struct manx_frag, 8192, 0);
QUEUE_DEF(manx_due4_0, struct manx_ticket4, 262144);
QUEUE_DEF(manx_due4_1, struct manx_ticket4, 262144);
QUEUE_DEF(manx_due4_2, struct manx_ticket4, 262144);
QUEUE_DEF(manx_due4_3, struct manx_ticket4, 262144);
QUEUE_DEF(manx_due6_0, struct manx_ticket6, 131072);
QUEUE_DEF(manx_due6_1, struct manx_ticket6, 131072);
QUEUE_DEF(manx_due6_2, struct manx_ticket6, 131072);
QUEUE_DEF(manx_due6_3, struct manx_ticket6, 131072);

/* What the operator reads. */
MAP_DEF(manx_rule_hits, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct manx_rule_hits, MANX_RULES, 0);
MAP_DEF(manx_totals, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct manx_counter, MANX_TOTALS, 0);
MAP_DEF(manx_counters, BPF_MAP_TYPE_PERCPU_HASH, struct manx_counter_key, struct manx_counter, 8192,
	0);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 262144);
} manx_events SEC(".maps");

/* Events that this CPU may still emit in this second. */
struct manx_limit {
	__u32 second;
	__u32 used;
};
MAP_DEF(manx_limit, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct manx_limit, 1, 0);

/* The expiry timer, and what it did. */
struct manx_expiry {
	struct bpf_timer timer;
	__u64 runs;
	__u64 checked;
	__u64 expired;
};
MAP_DEF(manx_expiry, BPF_MAP_TYPE_ARRAY, __u32, struct manx_expiry, 1, 0);
