/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Template: finding flows, and moving them between the table that evicts (new and closed ones) and
 * the one that does not (live ones).
 *
 * Several CPUs: an entry is written in place only where a lost or repeated write does no harm
 * (last_seen; flags that are only ever set; rule and policy_epoch of a flow that was judged again).
 * What says where packets go is replaced as a whole. Between look-up and write an entry may be
 * freed and used for another flow by another CPU: what is written in place then marks that flow as
 * closed or answered at worst, which makes it be judged again; its policy_epoch stays true, as it
 * has just been judged, and its rule may be the other flow's.
 */

struct FN(found) {
	struct manx_flow *flow;
	__u32 live; /* in the table that does not evict */
};

/* Not found: an unproven flow that has not been seen for its timeout. */
static __always_inline void FN(find_flow)(const PACKET *p, const struct manx_config *config,
					  struct FN(found) * found)
{
	found->flow = bpf_map_lookup_elem(&MAP_FLOW, &p->key);
	found->live = 1;
	if (found->flow)
		return;
	found->live = 0;
	found->flow = bpf_map_lookup_elem(&MAP_NEW, &p->key);
	if (found->flow && is_expired(config, found->flow, p->now))
		found->flow = NULL;
}

/* Writes a flow that was opened or resolved anew. 0, or an error: no room. */
static __noinline int FN(write_flow)(const PACKET *p, const struct manx_flow *flow, __u32 live)
{
	if (!p || !flow)
		return -1;
	if (live && !bpf_map_update_elem(&MAP_FLOW, &p->key, flow, BPF_EXIST))
		return 0;
	return bpf_map_update_elem(&MAP_NEW, &p->key, flow, BPF_ANY);
}

/* Where there is no room, the flow stays where it is, and the next packet tries again. */
static __noinline int FN(promote)(const PACKET *p, const struct manx_flow *flow)
{
	struct manx_flow copy;
	TICKET ticket = {};

	if (!p || !flow)
		return -1;
	copy = *flow;
	ticket.created = copy.created;
	if (bpf_map_update_elem(&MAP_FLOW, &p->key, &copy, BPF_NOEXIST))
		return 0;
	__builtin_memcpy(&ticket.key, &p->key, sizeof(p->key));
	if (FN(push_ticket)(&ticket, 0, p->now)) {
		bpf_map_delete_elem(&MAP_FLOW, &p->key);
		return 0;
	}
	bpf_map_delete_elem(&MAP_NEW, &p->key);
	return 0;
}

/* A closed flow makes room; it is kept for late packets as long as nobody needs that. */
static __noinline int FN(demote)(const PACKET *p, const struct manx_flow *flow)
{
	struct manx_flow copy;

	if (!p || !flow)
		return -1;
	copy = *flow;
	if (!bpf_map_update_elem(&MAP_NEW, &p->key, &copy, BPF_ANY))
		bpf_map_delete_elem(&MAP_FLOW, &p->key);
	return 0;
}

/* What a packet changes in its flow's state. ICMP errors are not to come here. */
static __noinline int FN(track)(const PACKET *p, const struct FN(found) * found)
{
	struct manx_flow *flow = found->flow;
	int forward, answered, closing;

	if (!flow)
		return 0;
	forward = is_forward(flow, p->side);
	answered = !!(flow->flags & MANX_FLOW_ANSWERED);
	if (flow->last_seen != p->now)
		flow->last_seen = p->now;
	if (p->t.tcp_flags & (TCP_FIN | TCP_RST)) {
		__u8 flag = p->t.tcp_flags & TCP_RST ? MANX_WAY_RST : MANX_WAY_FIN;

		if (p->side)
			flow->way[1].flags |= flag;
		else
			flow->way[0].flags |= flag;
	}
	closing = is_closing(flow);
	if (!forward && !answered && !(p->t.tcp_flags & TCP_RST))
		flow->flags |= MANX_FLOW_ANSWERED;
	flow->timeout = timeout_class(p->key.protocol, flow->flags & MANX_FLOW_ANSWERED, closing);
	if (found->live)
		return closing ? FN(demote)(p, flow) : 0;
	if (closing || !answered)
		return 0;
	/* A handshake is complete with the opener's ACK, which a flood with false sources lacks. */
	if (p->key.protocol == IPPROTO_TCP
		    ? forward && (p->t.tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_ACK
		    : p->now - flow->created >= ASSURED_TICKS)
		return FN(promote)(p, flow);
	return 0;
}

/*
 * A flow as its first packet opens it; the ways are still to be resolved. live: an entry of the
 * table that does not evict is used again; it keeps created, for its ticket.
 */
static __always_inline void FN(init_flow)(const PACKET *p, const struct manx_config *config,
					  const struct judgement *j, __u32 live, __u32 created,
					  struct manx_flow *flow)
{
	__builtin_memset(flow, 0, sizeof(*flow));
	flow->epoch = config->epoch;
	flow->policy_epoch = config->policy_epoch;
	flow->last_seen = p->now;
	flow->created = live ? created : p->now;
	flow->flags = p->side ? 0 : MANX_FLOW_FORWARD_IS_0;
	flow->rule = j->rule;
	flow->timeout = timeout_class(p->key.protocol, 0, 0);
}
