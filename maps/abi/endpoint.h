/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Addresses that BPF knows: endpoints of this node (exact), classes of all other addresses (exact
 * for pods, hosts and services anywhere, longest prefix for networks).
 *
 * Writer: the agent. Readers: all tc programs.
 */
#pragma once

#include "maps/abi/abi.h"

/* Keys. A v6 address is kept as four words so that the compiler compares words. */
struct manx_addr4 {
	__be32 addr; /* NBO */
};

struct manx_addr6 {
	__be32 addr[4]; /* NBO */
};

/* Key of the longest-prefix tables manx_net4 and manx_net6. */
struct manx_prefix4 {
	__u32 length; /* HBO, 0..32 */
	__be32 addr;  /* NBO */
};

struct manx_prefix6 {
	__u32 length;	/* HBO, 0..128 */
	__be32 addr[4]; /* NBO */
};

/*
 * manx_ep4, manx_ep6: one entry per address of a workload of this node. Replaced as a whole, so a
 * policy change is one write. The two sets judge new flows; see maps/abi/policy.h.
 */
struct manx_endpoint {
	__u32 ifindex;	     /* host side of the veth */
	__u32 class_id;	     /* class of this address as the other side sees it */
	__u32 egress_set;    /* policy set for flows that this endpoint starts */
	__u32 ingress_set;   /* policy set for flows towards this endpoint */
	__u32 staged_egress; /* evaluated and counted only; MANX_SET_ALLOW: none */
	__u32 staged_ingress;
	__u16 slot;	  /* index into manx_slot, below MANX_SLOTS */
	__u16 flags;	  /* enum manx_ep_flags */
	__u8 mac[6];	  /* of the workload's own device */
	__u8 host_mac[6]; /* of the host side */
};
ABI_ASSERT(sizeof(struct manx_endpoint) == 40);

enum manx_ep_flags {
	MANX_EP_NAT_OUTGOING = 1,  /* its pool has natOutgoing: leaves by the host stack */
	MANX_EP_REDIRECT_HOST = 4, /* deliver with bpf_redirect to the host side, not to the peer */
	MANX_EP_BY_STACK = 8,	   /* its flows go by the host stack, both ways */
};

/*
 * manx_slot: array of MANX_SLOTS. The endpoint a packet came from, found by the number that it
 * carries in its mark through the host stack, where the source address may be rewritten.
 * An empty slot has ifindex 0.
 */
#define MANX_SLOTS 4096

struct manx_slot_entry {
	__u32 ifindex;
	__u32 class_id[2]; /* [0] IPv4, [1] IPv6 */
	__u32 egress_set[2];
	__u32 staged_egress[2];
	__u32 pad;
};
ABI_ASSERT(sizeof(struct manx_slot_entry) == 32);

/* manx_class4, manx_class6 (hash) and manx_net4, manx_net6 (longest prefix): who an address is. */
struct manx_class {
	__u32 class_id; /* 0: known to nobody */
	__u32 flags;	/* enum manx_class_flags */
};
ABI_ASSERT(sizeof(struct manx_class) == 8);

enum manx_class_flags {
	MANX_CLASS_LOCAL_HOST = 1,  /* an address of this node itself */
	MANX_CLASS_REMOTE_HOST = 2, /* an address of another node */
	MANX_CLASS_SERVICE = 4,	    /* a service's address: the host stack translates it */
	MANX_CLASS_POOL = 8,	    /* inside an IP pool: never masqueraded by natOutgoing */
	MANX_CLASS_POD = 16,	    /* a workload somewhere in the cluster */
};
