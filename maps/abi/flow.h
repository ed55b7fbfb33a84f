/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Flows. One entry for both directions, found by the tuple with the smaller endpoint first, so
 * that both directions share state and expiry. The value fits one cache line and holds the verdict
 * and, per direction, where a packet must come from and its way out.
 *
 * manx_flow4_new, manx_flow6_new: flows that have not proven to be alive both ways, and closed
 * ones; LRU, evicts under a flood.
 * manx_flow4, manx_flow6: live flows; never evicts one.
 *
 * Writer: the tc programs and the expiry timer. Readers: the agent, operators.
 */
#pragma once

#include "maps/abi/abi.h"

/*
 * Side 0 is the smaller (address, port): addresses are compared as the words that they are when
 * loaded by this machine (a total order, not the numeric one), then ports in host order.
 */
struct manx_flow4_key {
	__be32 addr[2]; /* NBO */
	__u16 port[2];	/* HBO; ICMP echo: identifier on the asking side, 0 on the other; other
			   ICMP: type << 8 | code on the sending side, 0xffff on the other;
			   0 without ports */
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
	__u32 in_ifindex; /* of the workload that sends it; 0: the sender is no local workload */
	__u32 out_ifindex;
	__u8 kind;	/* enum manx_way_kind */
	__u8 flags;	/* enum manx_way_flags */
	__u8 target[6]; /* PEER, HOST: MAC of the workload; NEIGH: IPv4 next hop in the first four
			   bytes (NBO), or 0: by route; DEFER: the sender's slot in the first two
			   (HBO) */
};
ABI_ASSERT(sizeof(struct manx_way) == 16);

enum manx_way_kind {
	MANX_WAY_UNKNOWN = 0, /* to be resolved by the next packet */
	MANX_WAY_STACK = 1,   /* host stack, marked approved */
	MANX_WAY_PEER = 2,    /* bpf_redirect_peer */
	MANX_WAY_HOST = 3,    /* bpf_redirect to the host side */
	MANX_WAY_NEIGH = 4,   /* bpf_redirect_neigh */
	MANX_WAY_DEFER = 5,   /* host stack, which may still translate it: marked deferred */
};

enum manx_way_flags {
	MANX_WAY_FIN = 1, /* a packet of this direction carried it */
	MANX_WAY_RST = 2,
};

enum manx_flow_flags {
	MANX_FLOW_FORWARD_IS_0 = 1, /* the packet that opened it went from side 0 to side 1 */
	MANX_FLOW_ANSWERED = 2,
	MANX_FLOW_BY_STACK = 4,	  /* the host stack translates it: both ways by the stack */
	MANX_FLOW_BY_SLOT = 8,	  /* egress policy is that of the endpoint in slot */
	MANX_FLOW_FROM_HOST = 16, /* opened by this node itself: no policy */
};

struct manx_flow {
	__u32 epoch;	 /* of the ways out; differs from the global one: resolve anew */
	__u32 last_seen; /* MANX_TICK units of CLOCK_MONOTONIC */
	__u16 flags;	 /* enum manx_flow_flags */
	__u8 timeout;	 /* enum manx_timeout_class */
	__u8 pad;
	__u32 rule; /* that allowed it, of the side that was judged last; 0: none */
	__u32 policy_epoch;
	__u32 created; /* as last_seen */
	__u16 mtu[2];  /* of way[0] and way[1]; 0: unknown */
	__u16 slot;    /* with MANX_FLOW_BY_SLOT */
	__u16 pad2;
	struct manx_way way[2]; /* [0]: packets from key side 0, [1]: from side 1 */
};
ABI_ASSERT(sizeof(struct manx_flow) == 64);

/* Time in flows and tickets: nanoseconds >> MANX_TICK_SHIFT, that is units of 16.8 ms. */
#define MANX_TICK_SHIFT	 24
#define MANX_TICKS_PER_S 60 /* 59.6, rounded up: timeouts are never cut short */

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

/*
 * manx_due4_0..3, manx_due6_0..3: queues of tickets. Each live flow has one ticket in one of
 * them. A queue has one delay (MANX_DELAYS, seconds), so that its tickets are in order of time.
 */
#define MANX_DELAY_QUEUES 4
#define MANX_DELAYS	  {5, 20, 60, 600}

struct manx_ticket4 {
	struct manx_flow4_key key;
	__u32 due;     /* ticks */
	__u32 created; /* of the flow: another one with the same tuple has its own ticket */
};
ABI_ASSERT(sizeof(struct manx_ticket4) == 24);

struct manx_ticket6 {
	struct manx_flow6_key key;
	__u32 due;
	__u32 created;
};
ABI_ASSERT(sizeof(struct manx_ticket6) == 48);

/* manx_frag4, manx_frag6 (LRU): ports of a datagram's first fragment, for the later ones. */
struct manx_frag4_key {
	__be32 src; /* NBO */
	__be32 dst;
	__be16 id;
	__u8 protocol;
	__u8 pad;
};
ABI_ASSERT(sizeof(struct manx_frag4_key) == 12);

struct manx_frag6_key {
	__be32 src[4];
	__be32 dst[4];
	__be32 id;
	__u8 protocol;
	__u8 pad[3];
};
ABI_ASSERT(sizeof(struct manx_frag6_key) == 40);

struct manx_frag {
	__u16 src_port; /* HBO; as in a flow key */
	__u16 dst_port;
	__u16 policy_port; /* as in a port table */
	__u16 pad;
};
ABI_ASSERT(sizeof(struct manx_frag) == 8);

/* manx_config: array of one; what changes live. */
struct manx_config {
	__u32 epoch;	    /* bumped when routes, links or endpoints change */
	__u32 policy_epoch; /* bumped when a policy changed and flows shall be judged again */
	__u32 flags;	    /* enum manx_config_flags */
	__u32 vxlan_port;   /* HBO; 4789 */
	__u32 timeout_s[MANX_TIMEOUT_CLASSES];
};
ABI_ASSERT(sizeof(struct manx_config) == 40);

enum manx_config_flags {
	MANX_CONFIG_HOST_DROP = 1,   /* DefaultEndpointToHostAction Drop */
	MANX_CONFIG_REJUDGE = 2,     /* a flow whose policy_epoch is old is judged again */
	MANX_CONFIG_ALLOW_VXLAN = 4, /* allowVXLANPacketsFromWorkloads */
	MANX_CONFIG_ALLOW_IPIP = 8,  /* allowIPIPPacketsFromWorkloads */
};

/* manx_uplinks: hash by ifindex: devices that packets may be redirected out of. Writer: loader. */
struct manx_uplink {
	__u32 flags; /* 0; for what is to come */
};
