/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * (policy set, class of the other side) -> port table -> action. See maps/abi/policy.h. Two hash
 * look-ups at most and a binary search, whatever the number of rules.
 */
#pragma once

#include "lib/packet.bpf.h"

/* Binary search steps: tables of up to 2^20 ranges. */
#define SEARCH_STEPS 20

struct judgement {
	__u32 rule;   /* the rule that decided, of the set judged last */
	__u32 log;    /* a Log rule matched on the way */
	__u32 by_dst; /* protocol << 16 | policy port */
	__u32 by_src; /* protocol << 16 | source port */
	/* What an answer wants besides. */
	__u32 question; /* decides nothing: no rule is counted */
	__u32 egress_rule;
	__u32 ingress_rule;
};

static __always_inline struct manx_port *search_ports(__u32 offset, __u32 number, __u32 value)
{
	__u32 low = 0;
	__u32 high = number - 1;
	__u32 index;

#pragma clang loop unroll(disable)
	for (int step = 0; step < SEARCH_STEPS && low < high; step++) {
		__u32 middle = (low + high) / 2;
		struct manx_port *port;

		index = offset + middle;
		port = bpf_map_lookup_elem(&manx_ports, &index);
		if (!port)
			return NULL;
		if (port->last < value)
			low = middle + 1;
		else
			high = middle;
	}
	index = offset + low;
	return bpf_map_lookup_elem(&manx_ports, &index);
}

static __always_inline struct manx_policy_value *find_table(__u32 set, __u32 class_id)
{
	struct manx_policy_key key = {.set = set, .class_id = class_id};
	struct manx_policy_value *table = bpf_map_lookup_elem(&manx_policy, &key);

	if (table)
		return table;
	key.class_id = MANX_CLASS_ANY;
	return bpf_map_lookup_elem(&manx_policy, &key);
}

static __always_inline void hit_rule(__u32 rule)
{
	struct manx_rule_hits *hits = bpf_map_lookup_elem(&manx_rule_hits, &rule);

	if (hits)
		hits->flows++;
}

/*
 * 0: allowed; else a drop reason: denied for what denies by policy. A global function, as others
 * here: those are verified once, not once per call.
 */
__noinline int judge_set(__u32 set, __u32 class_id, __u32 denied, struct judgement *j)
{
	struct manx_policy_value *table;
	struct manx_port *port;

	if (!j)
		return MANX_DROP_POLICY_TABLE;
	if (set == MANX_SET_ALLOW)
		return 0;
	if (set == MANX_SET_DENY)
		return MANX_DROP_NOT_READY;
	table = find_table(set, class_id);
	if (!table)
		return MANX_DROP_POLICY_TABLE;
	port = search_ports(table->offset, table->count, j->by_dst);
	if (port && port->action == MANX_ACTION_BY_SOURCE_PORT) {
		j->log |= port->flags & MANX_PORT_LOG;
		port = search_ports(port->next, port->next_count, j->by_src);
	}
	if (!port)
		return MANX_DROP_POLICY_TABLE;
	j->log |= port->flags & MANX_PORT_LOG;
	j->rule = port->rule;
	if (j->question) {
		if (denied == MANX_DROP_POLICY_INGRESS)
			j->ingress_rule = port->rule;
		else
			j->egress_rule = port->rule;
	} else {
		hit_rule(port->rule);
	}
	if (port->action == MANX_ACTION_ALLOW)
		return 0;
	return port->action == MANX_ACTION_DENY ? (int)denied : MANX_DROP_POLICY_TABLE;
}

/* A staged set decides nothing: its rules are counted. */
static __always_inline void judge_staged(__u32 set, __u32 class_id, const struct judgement *j)
{
	struct judgement staged = *j;

	if (set >= MANX_SET_FIRST && !j->question)
		judge_set(set, class_id, MANX_DROP_POLICY_EGRESS, &staged);
}
