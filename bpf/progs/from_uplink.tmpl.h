/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Template of tc_from_uplink: what the network sends to workloads of this node. */

/* The first packet of a flow to a workload of this node; what is for others is the stack's. */
__noinline int FN(open_flow)(struct __sk_buff *ctx, __u32 live, __u32 created)
{
	const PACKET *p = FN(scratch)();
	const struct manx_config *config = get_config();
	struct FN(parties) who;
	struct manx_flow flow;
	struct judgement j;
	int reason;

	if (!p || !config)
		return TC_ACT_SHOT;
	who.slot = NULL;
	who.dst = FN(find_endpoint)(&p->dst);
	if (!who.dst)
		return is_question(ctx) ? answer(ctx, MANX_PASS_NOT_OURS)
					: leave(ctx, MANX_PASS_NOT_OURS);
	who.src = FN(find_endpoint)(&p->src);
	FN(class_of)(who.src, &p->src, &who.src_class);
	FN(class_of)(who.dst, &p->dst, &who.dst_class);
	/* The kernel would call it a martian. */
	if (who.src || (who.src_class.flags & MANX_CLASS_LOCAL_HOST))
		return FN(drop)(ctx, p, 0, MANX_DROP_SPOOFED_SOURCE);
	if (p->t.flags & (PKT_NO_PORTS | PKT_ICMP_ERROR))
		return FN(drop)(ctx, p, 0, MANX_DROP_NO_FLOW);
	if (p->t.tcp_flags & TCP_RST)
		return FN(drop)(ctx, p, 0, MANX_DROP_TCP_NOT_SYN);
	FN(begin_judgement)(&j, p);
	j.question = is_question(ctx);
	reason = FN(judge)(&who, &j);
	if (j.question)
		return answer_judged(ctx, &j, reason);
	if (reason)
		return FN(drop)(ctx, p, j.rule, reason);
	FN(init_flow)(p, config, &j, live, created, &flow);
	FN(resolve)(ctx, p, &who, 1, &flow);
	if (FN(write_flow)(p, &flow, live))
		return FN(drop)(ctx, p, j.rule, MANX_DROP_FLOW_TABLE_FULL);
	if (j.log)
		FN(report)(ctx, p, j.rule, MANX_PASS_REDIRECT_PEER);
	return p->side ? FN(take)(ctx, p, &flow.way[1], flow.mtu[1], 0)
		       : FN(take)(ctx, p, &flow.way[0], flow.mtu[0], 0);
}

/* NOT_RELATED, or what is done with an ICMP error of a known flow. */
__noinline int FN(related)(struct __sk_buff *ctx)
{
	const PACKET *p = FN(scratch)();
	const struct manx_config *config = get_config();
	struct FN(found) found = {};
	struct manx_way *way;
	__u32 mtu = 0;

	if (!p || !config)
		return NOT_RELATED;
	way = FN(find_related)(ctx, p, config, &found, &mtu);
	if (!way)
		return NOT_RELATED;
	if (way->in_ifindex)
		return FN(drop)(ctx, p, 0, MANX_DROP_WRONG_INTERFACE);
	if (found.flow->epoch != config->epoch) {
		/* Rare twice: the stack knows the way. */
		approve(ctx);
		return pass(ctx, MANX_PASS_RELATED);
	}
	return FN(take)(ctx, p, way, mtu, MANX_PASS_RELATED);
}

/*
 * Everything but a plain packet of a live flow. Global functions are verified once, with any
 * packet; that keeps loading fast.
 */
__noinline int FN(slow)(struct __sk_buff *ctx)
{
	const PACKET *p = FN(scratch)();
	const struct manx_config *config = get_config();
	struct FN(found) found = {};
	int verdict;

	if (!p || !config || (p->t.flags & PKT_NEIGHBOR))
		return leave(ctx, MANX_PASS_NOT_OURS);
	if (p->t.flags & PKT_ICMP_ERROR) {
		verdict = FN(related)(ctx);
		return verdict == NOT_RELATED ? FN(open_flow)(ctx, 0, 0) : verdict;
	}
	FN(find_flow)(p, config, &found);
	if (!found.flow || (p->t.flags & PKT_NO_PORTS) ||
	    opens_anew(found.flow, p->side, p->t.tcp_flags)) {
		/* What the stack translates is opened where it leaves the stack. */
		if (found.flow && (found.flow->flags & MANX_FLOW_BY_STACK))
			return leave(ctx, MANX_PASS_NOT_OURS);
		return FN(open_flow)(ctx, found.flow && found.live,
				     found.flow ? found.flow->created : 0);
	}
	verdict = FN(go_on)(ctx, p, config, &found, 0);
	if (verdict != GO_ANEW)
		return verdict;
	if (!found.flow || (found.flow->flags & MANX_FLOW_BY_STACK))
		return leave(ctx, MANX_PASS_NOT_OURS);
	return FN(open_flow)(ctx, found.live, found.flow->created);
}

static __always_inline int FN(from_uplink)(struct __sk_buff *ctx)
{
	const struct manx_config *config = get_config();
	struct manx_flow *flow;
	PACKET p;

	if (FN(parse)(ctx, &p))
		return leave(ctx, MANX_PASS_NOT_OURS);
	flow = bpf_map_lookup_elem(&MAP_FLOW, &p.key);
	if (flow && config) {
		struct manx_way *way = p.side ? &flow->way[1] : &flow->way[0];

		if (is_current(flow, config) && !way->in_ifindex && way->kind != MANX_WAY_UNKNOWN &&
		    !((p.t.tcp_flags & SLOW_TCP_FLAGS) | (p.t.flags & SLOW_FLAGS))) {
			if (flow->last_seen != p.now)
				flow->last_seen = p.now;
			return FN(take)(ctx, &p, way, p.side ? flow->mtu[1] : flow->mtu[0], 0);
		}
	}
	if (FN(keep)(&p))
		return TC_ACT_SHOT;
	return FN(slow)(ctx);
}
