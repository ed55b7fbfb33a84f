/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Template of tc_to_uplink: what the host stack forwards out of this node. */

__noinline int FN(open_flow)(struct __sk_buff *ctx, __u32 live, __u32 created)
{
	const PACKET *p = FN(scratch)();
	const struct manx_config *config = get_config();
	__u32 slot_and_flags = 0;
	struct FN(parties) who;
	struct judgement j;
	int reason;

	if (!p || !config)
		return TC_ACT_SHOT;
	who.slot = NULL;
	who.dst = NULL;
	who.src = FN(find_endpoint)(&p->src);
	if (is_deferred(ctx->mark)) {
		who.slot = deferred_from(ctx->mark);
		if (!who.slot)
			return FN(drop)(ctx, p, 0, MANX_DROP_NOT_READY);
		slot_and_flags = (MANX_FLOW_BY_SLOT << 16) | slot_of(ctx->mark);
	} else if (!who.src) {
		return leave(ctx, MANX_PASS_NOT_OURS);
	} else if (who.src->ifindex != ctx->ingress_ifindex) {
		return FN(drop)(ctx, p, 0, MANX_DROP_SPOOFED_SOURCE);
	}
	if (p->t.flags & (PKT_NO_PORTS | PKT_ICMP_ERROR))
		return FN(drop)(ctx, p, 0, MANX_DROP_NO_FLOW);
	if (p->t.tcp_flags & TCP_RST)
		return FN(drop)(ctx, p, 0, MANX_DROP_TCP_NOT_SYN);
	FN(begin_judgement)(&j, p);
	FN(class_of)(who.src, &p->src, &who.src_class);
	FN(class_of)(who.dst, &p->dst, &who.dst_class);
	reason = FN(judge)(&who, &j);
	if (reason)
		return FN(drop)(ctx, p, j.rule, reason);
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

	if (!p || !config || (p->t.flags & PKT_NEIGHBOR))
		return leave(ctx, MANX_PASS_NOT_OURS);
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

static __always_inline int FN(to_uplink)(struct __sk_buff *ctx)
{
	PACKET p;

	if (FN(parse)(ctx, &p))
		return leave(ctx, MANX_PASS_NOT_OURS);
	if (FN(keep)(&p))
		return TC_ACT_SHOT;
	return FN(handle)(ctx);
}
