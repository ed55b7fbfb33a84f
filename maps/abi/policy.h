/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Policy as data. A new flow is judged, per direction, by
 *   1. class of the other side's address   (maps/abi/endpoint.h)
 *   2. manx_policy[set, class], or manx_policy[set, MANX_CLASS_ANY] -> a port table
 *   3. binary search in the port table, a run of manx_port entries in the array manx_ports
 * Everything that depends on the endpoint itself (its own class, its own named ports) is resolved
 * when the set is compiled, so endpoints share a set only where that is equal too.
 *
 * Order of writes that keeps every moment consistent: port tables before what names them; entries
 * of new classes in the sets in force; addresses to their new classes, in the class tables (longest
 * prefix first) and in the entries of endpoints and slots; entries of new sets; endpoints and slots
 * to their new sets; then, after a grace period, deletion of what nobody names any more, each set's
 * MANX_CLASS_ANY first. The room of a port table is free a grace period after a program could last
 * find it.
 */
#pragma once

#include "maps/abi/abi.h"

enum manx_well_known_set {
	MANX_SET_ALLOW = 0, /* no policy applies: no look-up is made */
	MANX_SET_DENY = 1,  /* an endpoint that is not ready: everything is dropped */
	MANX_SET_FIRST = 2, /* the first that is compiled */
};

#define MANX_CLASS_ANY 0xffffffffU

struct manx_policy_key {
	__u32 set;
	__u32 class_id; /* of the other side, or MANX_CLASS_ANY */
};

/* A port table: entries [offset, offset + count) of manx_ports, count at least 1. */
struct manx_policy_value {
	__u32 offset;
	__u32 count;
};

enum manx_action {
	MANX_ACTION_ALLOW = 1,
	MANX_ACTION_DENY = 2,
	MANX_ACTION_BY_SOURCE_PORT =
		3, /* search again by source port in [next, next + next_count) */
};

enum manx_port_flags {
	MANX_PORT_LOG = 1, /* a Log rule matched on the way: report the flow's first packet */
};

/*
 * One range of (protocol << 16 | port). Entries of a table are sorted by last, disjoint, and cover
 * everything: the range starts after the previous entry's last (or at 0), and the final entry has
 * last == 0xffffffff. port is the destination port; ICMP type << 8 | code for ICMP and ICMPv6; 0
 * for protocols without ports. In a table reached by MANX_ACTION_BY_SOURCE_PORT the same number is
 * made of protocol and source port.
 */
struct manx_port {
	__u32 last; /* HBO, inclusive */
	__u32 rule; /* id of the rule that decided, index into manx_rule_hits; 0: none */
	__u32 next;
	__u16 next_count;
	__u8 action; /* enum manx_action */
	__u8 flags;  /* enum manx_port_flags */
};
ABI_ASSERT(sizeof(struct manx_port) == 16);

/* Numbers of rules there are, 0 among them, unless the loader is told otherwise. */
#define MANX_RULES 65536

/*
 * manx_rule_hits: per-CPU array by rule id: flows that the rule decided, counted at their first
 * packet. With MANX_CONFIG_REJUDGE a flow counts again where it is judged again: once where it is
 * allowed, and at every packet for as long as it is denied.
 */
struct manx_rule_hits {
	__u64 flows;
};
