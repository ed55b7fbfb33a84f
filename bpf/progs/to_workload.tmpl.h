/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Template of tc_to_workload: what the host stack sends to a workload. */

__noinline int FN(open_flow)(struct __sk_buff *ctx, __u32 live, __u32 created)
{
	const PACKET *p = FN(scratch)();
	const struct manx_config *config = get_config();
	int deferred = is_deferred(ctx->mark);
	int from_host = !ctx->ingress_ifindex;
	__u32 slot_and_flags = 0;
	struct FN(parties) who;
	struct judgement j;
	int reason;

	if (!p || !config)
		return TC_ACT_SHOT;
	who.slot = NULL;
	who.dst = FN(find_endpoint)(&p->dst);
	if (!who.dst || who.dst->ifindex != ctx->ifindex)
		/* Multicast of this host's own, say; nothing else has business here. */
		return from_host ? pass(ctx, MANX_PASS_NOT_OURS)
				 : FN(drop)(ctx, p, 0, MANX_DROP_NOT_READY);
	FN(begin_judgement)(&j, p);
	if (deferred) {
		who.slot = deferred_from(ctx->mark);
		if (!who.slot)
			return FN(drop)(ctx, p, 0, MANX_DROP_NOT_READY);
		slot_and_flags = (MANX_FLOW_BY_SLOT << 16) | slot_of(ctx->mark);
	} else if (from_host) {
		/* This host reaches its own workloads, always. */
		slot_and_flags = MANX_FLOW_FROM_HOST << 16;
	}
	if (p->t.flags & PKT_ICMP_ERROR)
		return from_host ? pass(ctx, MANX_PASS_RELATED)
				 : FN(drop)(ctx, p, 0, MANX_DROP_NO_FLOW);
	if (p->t.flags & PKT_NO_PORTS)
		return from_host ? pass(ctx, MANX_PASS_FRAGMENT)
				 : FN(drop)(ctx, p, 0, MANX_DROP_NO_FLOW);
	if (p->t.tcp_flags & TCP_RST)
		return from_host ? pass(ctx, MANX_PASS_FROM_STACK)
				 : FN(drop)(ctx, p, 0, MANX_DROP_TCP_NOT_SYN);
	who.src = from_host ? NULL : FN(find_endpoint)(&p->src);
	/* A workload's address that did not come from that workload. */
	if (who.src && !deferred && who.src->ifindex != ctx->ingress_ifindex)
		return FN(drop)(ctx, p, 0, MANX_DROP_SPOOFED_SOURCE);
	FN(class_of)(who.src, &p->src, &who.src_class);
	FN(class_of)(who.dst, &p->dst, &who.dst_class);
	j.question = is_question(ctx);
	reason = from_host ? 0 : FN(judge)(&who, &j);
	if (j.question)
		return answer_judged(ctx, &j, reason);
	if (reason)
		return FN(drop)(ctx, p, j.rule, reason);
	/*
	 * This host's answer, translated back: its flow is that of the backend's address. One of
	 * the service's would let the workload's packets pass whatever backend they get.
	 */
	if (from_host && (who.src_class.flags & MANX_CLASS_SERVICE) &&
	    (p->t.tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)
		return pass(ctx, MANX_PASS_FROM_STACK);
	if (FN(write_stack_flow)(p, config, &j, live, created, &who, slot_and_flags))
		return FN(drop)(ctx, p, j.rule, MANX_DROP_FLOW_TABLE_FULL);
	if (j.log)
		FN(report)(ctx, p, j.rule, MANX_PASS_FROM_STACK);
	return pass(ctx, MANX_PASS_FROM_STACK);
}

__noinline int FN(handle)(struct __sk_buff *ctx)
{
	const PACKET *p = FN(scratch)();
	const struct manx_config *config = get_config();
	struct FN(found) found = {};

	if (!p || !config)
		return count_drop(ctx, MANX_DROP_NOT_READY);
	if (p->t.flags & PKT_NEIGHBOR)
		return pass(ctx, MANX_PASS_NEIGHBOR_DISCOVERY);
	if (p->t.flags & PKT_ICMP_ERROR) {
		__u32 mtu;

		if (FN(find_related)(ctx, p, config, &found, &mtu))
			return pass(ctx, MANX_PASS_RELATED);
		found.flow = NULL;
	} else {
		int known = FN(known_flow)(ctx, p, config, &found);

		if (known > 0)
			return pass(ctx, p->t.flags & PKT_LATER_FRAGMENT ? MANX_PASS_FRAGMENT
									 : MANX_PASS_FROM_STACK);
		if (known < 0)
			return FN(drop)(ctx, p, 0, -known);
	}
	return FN(open_flow)(ctx, found.flow && found.live, found.flow ? found.flow->created : 0);
}

static __always_inline int FN(to_workload)(struct __sk_buff *ctx)
{
	PACKET p;

	if (FN(parse)(ctx, &p))
		return count_drop(ctx, MANX_DROP_MALFORMED);
	if (FN(keep)(&p))
		return TC_ACT_SHOT;
	return FN(handle)(ctx);
}
