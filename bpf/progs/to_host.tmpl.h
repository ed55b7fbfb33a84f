/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Template of nf_to_host: a workload's packet to a service whose backend is this host. */

/* The first packet of a flow, with the destination that it has after its translation. */
static __noinline int FN(open_flow)(CONTEXT *ctx, const PACKET *p, const struct manx_config *config,
				    const struct FN(found) * known, struct manx_slot_entry *slot)
{
	struct FN(parties) who = {.slot = slot};
	struct judgement j;
	int reason;

	if (p->t.flags & (PKT_NO_PORTS | PKT_ICMP_ERROR))
		return FN(drop)(ctx, p, 0, MANX_DROP_NO_FLOW);
	if (p->t.tcp_flags & TCP_RST)
		return FN(drop)(ctx, p, 0, MANX_DROP_TCP_NOT_SYN);
	FN(begin_judgement)(&j, p);
	FN(find_class)(&p->dst, &who.dst_class);
	reason = FN(judge)(&who, &j);
	if (!reason && (config->flags & MANX_CONFIG_HOST_DROP))
		reason = MANX_DROP_ENDPOINT_TO_HOST;
	if (reason)
		return FN(drop)(ctx, p, j.rule, reason);
	if (FN(write_stack_flow)(p, config, &j, known->flow && known->live,
				 known->flow ? known->flow->created : 0, &who,
				 (MANX_FLOW_BY_SLOT << 16) | slot_of(ctx->skb->mark)))
		return FN(drop)(ctx, p, j.rule, MANX_DROP_FLOW_TABLE_FULL);
	if (j.log)
		FN(report)(ctx, p, j.rule, MANX_PASS_TO_STACK);
	return pass(ctx, MANX_PASS_TO_STACK);
}

/* Whether the packet goes on with a flow that was opened by this very workload. */
static __always_inline int FN(goes_on)(const PACKET *p, const struct manx_flow *flow,
				       const struct manx_slot_entry *slot)
{
	const struct manx_way *way = p->side ? &flow->way[1] : &flow->way[0];

	return way->in_ifindex == slot->ifindex && !(p->t.flags & PKT_NO_PORTS) &&
	       !opens_anew(flow, p->side, p->t.tcp_flags);
}

static __always_inline int FN(to_host)(CONTEXT *ctx, const struct manx_config *config,
				       struct manx_slot_entry *slot)
{
	struct FN(found) found = {};
	PACKET *p = FN(scratch)();

	if (!p)
		return count_drop(ctx, MANX_DROP_NOT_READY);
	if (FN(parse)(ctx, p))
		return count_drop(ctx, MANX_DROP_MALFORMED);
	FN(find_flow)(p, config, &found);
	if (!found.flow || !FN(goes_on)(p, found.flow, slot))
		return FN(open_flow)(ctx, p, config, &found, slot);
	if (needs_rejudgement(found.flow, config)) {
		int denied = FN(rejudge)(p, config, &found);

		if (denied)
			return FN(drop)(ctx, p, 0, denied);
	}
	/*
	 * This host's answers are translated back before a hook of ours sees them. An ACK says that
	 * there was one.
	 */
	if ((p->t.tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_ACK)
		found.flow->flags |= MANX_FLOW_ANSWERED;
	FN(track)(p, &found);
	return pass(ctx, p->t.flags & PKT_LATER_FRAGMENT ? MANX_PASS_FRAGMENT : MANX_PASS_TO_STACK);
}
