/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Flows. One entry for both directions, found by the tuple with the smaller endpoint first, so
 * that both directions share state and expiry. The value fits one cache line and holds the verdict
 * and, per direction, where a packet must come from and its way out.
 *
 * manx_flow4_new, manx_flow6_new: flows that were not answered yet; LRU, evicts under a flood.
 * manx_flow4, manx_flow6: answered flows; never evicts a live one.
 */
#pragma once

#include "maps/abi/abi.h"

struct manx_flow4_key {
	__be32 addr[2]; /* NBO; [0] is the smaller (address, port) */
	__u16 port[2];	/* HBO; ICMP echo: identifier in both; 0 without ports */
	__u8 protocol;
	__u8 pad[3];
};
ABI_ASSERT(sizeof(struct manx_flow4_key) == 16);

struct manx_flow6_key {
	__be32 addr[2][4];
	__u16 port[2];
	__u8 protocol;
	__u8 pad[3];
};
ABI_ASSERT(sizeof(struct manx_flow6_key) == 40);

/* What a packet of one direction needs. */
struct manx_way {
	__u32 in_ifindex; /* must arrive here; 0: from the host stack or anywhere */
	__u32 out_ifindex;
	__u8 kind;	 /* enum manx_way_kind */
	__u8 flags;	 /* enum manx_way_flags */
	__u8 dst_mac[6]; /* MANX_WAY_PEER, MANX_WAY_HOST: MAC of the workload */
};
ABI_ASSERT(sizeof(struct manx_way) == 16);

enum manx_way_kind {
	MANX_WAY_UNKNOWN = 0, /* to be resolved by the next packet */
	MANX_WAY_STACK = 1,   /* host stack, marked approved */
	MANX_WAY_PEER = 2,    /* bpf_redirect_peer */
	MANX_WAY_HOST = 3,    /* bpf_redirect to the host side */
	MANX_WAY_NEIGH = 4,   /* bpf_redirect_neigh */
};

enum manx_way_flags {
	MANX_WAY_SEEN = 1, /* a packet of this direction was seen */
	MANX_WAY_FIN = 2,
	MANX_WAY_RST = 4,
	MANX_WAY_SEEN_ACK = 8,
};

enum manx_flow_flags {
	MANX_FLOW_FORWARD_IS_0 =
		1, /* the direction that opened it goes from key side 0 to side 1 */
	MANX_FLOW_ANSWERED = 2,
	MANX_FLOW_NAT_STACK = 4, /* the host stack translates it: both ways by the stack */
	MANX_FLOW_LOG = 8,
};

struct manx_flow {
	__u32 epoch;	 /* of the ways out; differs from the global one: resolve anew */
	__u32 last_seen; /* coarse monotonic, units of 1/64 s */
	__u16 flags;	 /* enum manx_flow_flags */
	__u8 timeout;	 /* enum manx_timeout_class */
	__u8 pad;
	__u32 rule; /* that allowed it */
	__u32 policy_epoch;
	__u32 created;		/* as last_seen */
	struct manx_way way[2]; /* [0]: packets from key side 0, [1]: from side 1 */
	__u64 pad2;
};
ABI_ASSERT(sizeof(struct manx_flow) == 64);

/* Timeouts in manx_config.timeout_s, Calico's defaults. */
enum manx_timeout_class {
	MANX_TIMEOUT_TCP_SYN = 0,	  /* 20 s */
	MANX_TIMEOUT_TCP_ESTABLISHED = 1, /* 1 h */
	MANX_TIMEOUT_TCP_CLOSING = 2,	  /* 40 s: FINs of both sides, or RST */
	MANX_TIMEOUT_UDP = 3,		  /* 60 s */
	MANX_TIMEOUT_ICMP = 4,		  /* 5 s */
	MANX_TIMEOUT_GENERIC = 5,	  /* 10 min */
	MANX_TIMEOUT_CLASSES = 6,
};

/* manx_config: array of one; what changes live. */
struct manx_config {
	__u32 epoch;	    /* bumped when routes, links or endpoints change */
	__u32 policy_epoch; /* bumped when a policy changed and flows shall be judged again */
	__u32 flags;	    /* enum manx_config_flags */
	__u32 vxlan_port;   /* HBO; 4789 */
	__u32 timeout_s[MANX_TIMEOUT_CLASSES];
};

enum manx_config_flags {
	MANX_CONFIG_HOST_DROP = 1,   /* DefaultEndpointToHostAction Drop */
	MANX_CONFIG_REJUDGE = 2,     /* a flow whose policy_epoch is old is judged again */
	MANX_CONFIG_ALLOW_VXLAN = 4, /* allowVXLANPacketsFromWorkloads */
	MANX_CONFIG_ALLOW_IPIP = 8,  /* allowIPIPPacketsFromWorkloads */
};
