/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What happened to a packet. One append-only list for drops and for passes: it indexes
 * manx_counters, is asserted by the tests, and printed by manxctl and the metrics. Numbers are
 * never reused. Names are in maps/reason.h.
 */
#pragma once

#include "maps/abi/abi.h"

enum manx_hook {
	MANX_HOOK_FROM_WORKLOAD = 0,
	MANX_HOOK_TO_WORKLOAD = 1,
	MANX_HOOK_FROM_UPLINK = 2,
	MANX_HOOK_TO_UPLINK = 3,
	MANX_HOOK_TO_HOST = 4, /* no tc hook: deferred packets that netfilter delivers here */
};
#define MANX_HOOKS 5

enum manx_reason {
	MANX_REASON_NONE = 0,
	/* passes */
	MANX_PASS_REDIRECT_PEER = 1,  /* into a local workload's device */
	MANX_PASS_REDIRECT_HOST = 2,  /* to the host side of a local workload */
	MANX_PASS_REDIRECT_NEIGH = 3, /* out of an uplink, next hop known */
	MANX_PASS_TO_STACK = 4,	      /* allowed, and handed to the host stack on purpose */
	MANX_PASS_FROM_STACK = 5,     /* allowed at an egress hook */
	MANX_PASS_NOT_OURS = 6,	      /* not traffic of a workload: left to the host stack */
	MANX_PASS_ARP = 7,
	MANX_PASS_NEIGHBOR_DISCOVERY = 8,
	MANX_PASS_DEFERRED = 9,	  /* to a service's address: judged after its translation */
	MANX_PASS_RELATED = 10,	  /* ICMP error of an allowed flow */
	MANX_PASS_FRAGMENT = 11,  /* later fragment of an allowed datagram */
	MANX_PASS_SLOW_PATH = 12, /* TTL, MTU or IP options: the stack answers or forwards */
	/* drops */
	MANX_DROP_POLICY_EGRESS = 32,
	MANX_DROP_POLICY_INGRESS = 33,
	MANX_DROP_SPOOFED_SOURCE = 34,	/* source is not an address of this workload */
	MANX_DROP_WRONG_INTERFACE = 35, /* a flow's packet on an interface it cannot come from */
	MANX_DROP_MALFORMED = 36,
	MANX_DROP_NOT_READY = 37, /* endpoint whose policy is not there yet */
	MANX_DROP_FLOW_TABLE_FULL = 38,
	MANX_DROP_NO_FLOW = 39,		 /* ICMP error or later fragment of no known flow */
	MANX_DROP_ENDPOINT_TO_HOST = 40, /* DefaultEndpointToHostAction is Drop */
	MANX_DROP_TCP_NOT_SYN = 41,
	MANX_DROP_TUNNEL_FROM_WORKLOAD = 42, /* VXLAN or IPIP from a workload */
	MANX_DROP_POLICY_TABLE = 43,	 /* a policy set without tables: a defect, never an allow */
	MANX_DROP_UNKNOWN_PROTOCOL = 44, /* not IPv4, IPv6 or ARP from a workload */
	MANX_REASON_MAX = 64,
};

/*
 * manx_totals: per-CPU array, index hook * MANX_REASON_MAX + reason: every packet, passed or
 * dropped. manx_counters: per-CPU hash by interface too, of the drops only, since a hash look-up
 * per packet is what the established path cannot afford. The loader removes the entries of an
 * interface that it detaches.
 */
#define MANX_TOTALS (MANX_HOOKS * MANX_REASON_MAX)

struct manx_counter_key {
	__u32 ifindex;
	__u16 hook;   /* enum manx_hook */
	__u16 reason; /* enum manx_reason */
};

struct manx_counter {
	__u64 packets;
	__u64 bytes;
};

/*
 * Mark of a packet that was handed to the host stack, so that the next hook knows. The mask is
 * the upper half, which Calico uses too; the lower half is left to others (kube-proxy).
 */
#define MANX_MARK_MASK	   0xffff0000U
#define MANX_MARK_KIND	   0xf0000000U
#define MANX_MARK_APPROVED 0x10000000U /* judged: let it pass */
#define MANX_MARK_DEFERRED                                                                         \
	0x20000000U /* egress policy still to be judged; slot in MANX_MARK_SLOT */
/*
 * With MANX_MARK_DEFERRED: the sender may reach its own host whatever the address becomes. Where
 * nothing can judge what is delivered here, what lacks this bit is dropped there.
 */
#define MANX_MARK_HOST_ALLOWED 0x40000000U
#define MANX_MARK_SLOT	       0x0fff0000U
#define MANX_MARK_SLOT_SHIFT   16

/*
 * A question: a made packet that BPF_PROG_TEST_RUN gives to a program, with this mark and this
 * priority. It is judged as the first packet of a flow and answered in cb; nothing is written,
 * counted or reported. The verdict is TC_ACT_SHOT whatever the answer, so that a packet from
 * elsewhere that carries both is lost, and never let in.
 */
#define MANX_MARK_QUESTION     0x30000000U
#define MANX_QUESTION_PRIORITY 0x6d616e78U

/* Words of cb. */
enum manx_answer {
	MANX_ANSWER_GIVEN = 0,	/* 1; 0: the packet went another way, say that of a known flow */
	MANX_ANSWER_REASON = 1, /* of the drop; MANX_REASON_NONE: allowed; MANX_PASS_DEFERRED,
				   MANX_PASS_NOT_OURS: not judged here */
	MANX_ANSWER_EGRESS_RULE = 2, /* that decided; 0: none did */
	MANX_ANSWER_INGRESS_RULE = 3,
	MANX_ANSWER_LOG = 4, /* 1: a Log rule matched on the way */
};

/* manx_events: ring buffer of these; rate-limited in BPF. */
struct manx_event {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u32 ifindex;
	__u32 rule;   /* deciding rule, 0: none */
	__u32 src[4]; /* NBO; IPv4 in the first word */
	__u32 dst[4];
	__u16 src_port; /* HBO; ICMP: type << 8 | code in dst_port */
	__u16 dst_port;
	__u8 family; /* 4 or 6 */
	__u8 protocol;
	__u8 reason; /* enum manx_reason */
	__u8 hook;   /* enum manx_hook */
};
ABI_ASSERT(sizeof(struct manx_event) == 56);
