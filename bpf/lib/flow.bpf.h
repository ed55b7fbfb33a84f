/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Flow state that does not depend on the family. */
#pragma once

#include "lib/packet.bpf.h"

/*
 * A flow that is not TCP has proven to be alive when it has answers after this long: a single DNS
 * question and its answer stay in the table that evicts.
 */
#define ASSURED_TICKS (2 * MANX_TICKS_PER_S)

static __always_inline struct manx_config *get_config(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&manx_config, &zero);
}

static __always_inline int is_forward(const struct manx_flow *flow, __u8 side)
{
	return !side == !!(flow->flags & MANX_FLOW_FORWARD_IS_0);
}

static __always_inline int is_closing(const struct manx_flow *flow)
{
	__u8 any = flow->way[0].flags | flow->way[1].flags;
	__u8 both = flow->way[0].flags & flow->way[1].flags;

	return (any & MANX_WAY_RST) || (both & MANX_WAY_FIN);
}

static __always_inline __u8 timeout_class(__u8 protocol, int answered, int closing)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return closing	  ? MANX_TIMEOUT_TCP_CLOSING
		       : answered ? MANX_TIMEOUT_TCP_ESTABLISHED
				  : MANX_TIMEOUT_TCP_SYN;
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		return MANX_TIMEOUT_UDP;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return MANX_TIMEOUT_ICMP;
	default:
		return MANX_TIMEOUT_GENERIC;
	}
}

static __always_inline __u32 timeout_ticks(const struct manx_config *config, __u8 class)
{
	return config->timeout_s[class < MANX_TIMEOUT_CLASSES ? class : MANX_TIMEOUT_GENERIC] *
	       MANX_TICKS_PER_S;
}

/* Another CPU may have seen it since this packet looked at the clock. */
static __always_inline __u32 idle_ticks(const struct manx_flow *flow, __u32 now)
{
	__s32 idle = now - flow->last_seen;

	return idle < 0 ? 0 : idle;
}

static __always_inline int is_expired(const struct manx_config *config,
				      const struct manx_flow *flow, __u32 now)
{
	return idle_ticks(flow, now) > timeout_ticks(config, flow->timeout);
}

/* A SYN that is not a retransmission of the one that opened this flow opens another. */
static __always_inline int opens_anew(const struct manx_flow *flow, __u8 side, __u8 tcp_flags)
{
	if ((tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_SYN)
		return 0;
	return (flow->flags & MANX_FLOW_ANSWERED) || !is_forward(flow, side) || is_closing(flow);
}

static __always_inline int needs_rejudgement(const struct manx_flow *flow,
					     const struct manx_config *config)
{
	return (config->flags & MANX_CONFIG_REJUDGE) && flow->policy_epoch != config->policy_epoch;
}
