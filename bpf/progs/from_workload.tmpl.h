/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Template of tc_from_workload: what a workload of this node sends. */

/* The first packet of a flow: who sends to whom, may they, and which way. */
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
	who.src = FN(find_endpoint)(&p->src);
	if (!who.src || who.src->ifindex != ctx->ifindex)
		return FN(drop)(ctx, p, 0, MANX_DROP_SPOOFED_SOURCE);
	if (who.src->egress_set == MANX_SET_DENY)
		return FN(drop)(ctx, p, 0, MANX_DROP_NOT_READY);
	if ((p->key.protocol == IPPROTO_UDP && p->t.dst_port == config->vxlan_port &&
	     !(config->flags & MANX_CONFIG_ALLOW_VXLAN)) ||
	    ((p->key.protocol == IPPROTO_IPIP || p->key.protocol == IPPROTO_IPV6) &&
	     !(config->flags & MANX_CONFIG_ALLOW_IPIP)))
		return FN(drop)(ctx, p, 0, MANX_DROP_TUNNEL_FROM_WORKLOAD);
	who.dst = FN(find_endpoint)(&p->dst);
	FN(class_of)(who.src, &p->src, &who.src_class);
	FN(class_of)(who.dst, &p->dst, &who.dst_class);
	if (who.dst_class.flags & MANX_CLASS_SERVICE) {
		/* Judged where it leaves the stack, when its destination is known. */
		if (is_question(ctx))
			return answer(ctx, MANX_PASS_DEFERRED);
		defer(ctx, who.src->slot,
		      who.src->egress_set == MANX_SET_ALLOW &&
				      !(config->flags & MANX_CONFIG_HOST_DROP)
			      ? MANX_MARK_HOST_ALLOWED
			      : 0);
		return pass(ctx, MANX_PASS_DEFERRED);
	}
	if (p->t.flags & PKT_NO_PORTS)
		return FN(drop)(ctx, p, 0, MANX_DROP_NO_FLOW);
	if (p->t.tcp_flags & TCP_RST)
		return FN(drop)(ctx, p, 0, MANX_DROP_TCP_NOT_SYN);
	FN(begin_judgement)(&j, p);
	j.question = is_question(ctx);
	reason = FN(judge)(&who, &j);
	if (!reason && (who.dst_class.flags & MANX_CLASS_LOCAL_HOST) &&
	    (config->flags & MANX_CONFIG_HOST_DROP))
		reason = MANX_DROP_ENDPOINT_TO_HOST;
	if (j.question)
		return answer_judged(ctx, &j, reason);
	if (reason)
		return FN(drop)(ctx, p, j.rule, reason);
	FN(init_flow)(p, config, &j, live, created, &flow);
	FN(resolve)(ctx, p, &who, 1, &flow);
	if (FN(write_flow)(p, &flow, live))
		return FN(drop)(ctx, p, j.rule, MANX_DROP_FLOW_TABLE_FULL);
	if (j.log)
		FN(report)(ctx, p, j.rule, MANX_PASS_TO_STACK);
	return p->side ? FN(take)(ctx, p, &flow.way[1], flow.mtu[1], 0)
		       : FN(take)(ctx, p, &flow.way[0], flow.mtu[0], 0);
}

__noinline int FN(related)(struct __sk_buff *ctx)
{
	const PACKET *p = FN(scratch)();
	const struct manx_config *config = get_config();
	struct manx_endpoint *src;
	struct FN(found) found;
	struct manx_way *way;
	__u32 mtu = 0;

	if (!p || !config)
		return TC_ACT_SHOT;
	src = FN(find_endpoint)(&p->src);
	if (!src || src->ifindex != ctx->ifindex)
		return FN(drop)(ctx, p, 0, MANX_DROP_SPOOFED_SOURCE);
	way = FN(find_related)(ctx, p, config, &found, &mtu);
	if (!way)
		return FN(drop)(ctx, p, 0, MANX_DROP_NO_FLOW);
	if (found.flow->epoch != config->epoch) {
		/* Rare twice: the stack knows the way. */
		approve(ctx);
		return pass(ctx, MANX_PASS_RELATED);
	}
	if (way->in_ifindex != ctx->ifindex)
		return FN(drop)(ctx, p, 0, MANX_DROP_WRONG_INTERFACE);
	return FN(take)(ctx, p, way, mtu, MANX_PASS_RELATED);
}

/* Neighbour discovery goes to neighbours, and to this host's own addresses. */
static __always_inline int FN(stays_on_link)(const PACKET *p)
{
	struct manx_class to = {};

	if (FN(is_on_link)(&p->dst))
		return 1;
	FN(find_class)(&p->dst, &to);
	return !!(to.flags & MANX_CLASS_LOCAL_HOST);
}

/*
 * Whether the destination has become a service's since this flow was opened: its packets are the
 * stack's to translate. The epoch changes when services come.
 */
static __always_inline int FN(is_service_now)(const PACKET *p, const struct manx_config *config,
					      const struct manx_flow *flow)
{
	struct manx_class to = {};

	if (flow->epoch == config->epoch || !is_forward(flow, p->side) ||
	    (flow->flags & MANX_FLOW_BY_STACK))
		return 0;
	FN(find_class)(&p->dst, &to);
	return !!(to.flags & MANX_CLASS_SERVICE);
}

/*
 * Everything but a plain packet of a live flow. Global functions are verified once, with any
 * packet; that keeps loading fast.
 */
__noinline int FN(slow)(struct __sk_buff *ctx)
{
	const PACKET *p = FN(scratch)();
	const struct manx_config *config = get_config();
	struct FN(found) found;
	int verdict;

	if (!p || !config)
		return count_drop(ctx, MANX_DROP_NOT_READY);
	if ((p->t.flags & PKT_NEIGHBOR) && FN(stays_on_link)(p))
		return pass(ctx, MANX_PASS_NEIGHBOR_DISCOVERY);
	if (p->t.flags & PKT_ICMP_ERROR)
		return FN(related)(ctx);
	FN(find_flow)(p, config, &found);
	if (!found.flow || (p->t.flags & PKT_NO_PORTS) ||
	    opens_anew(found.flow, p->side, p->t.tcp_flags) ||
	    FN(is_service_now)(p, config, found.flow))
		return FN(open_flow)(ctx, found.flow && found.live,
				     found.flow ? found.flow->created : 0);
	verdict = FN(go_on)(ctx, p, config, &found, ctx->ifindex);
	if (verdict != GO_ANEW || !found.flow)
		return verdict;
	return FN(open_flow)(ctx, found.live, found.flow->created);
}

static __always_inline int FN(from_workload)(struct __sk_buff *ctx)
{
	const struct manx_config *config = get_config();
	struct manx_flow *flow;
	PACKET p;

	if (FN(parse)(ctx, &p))
		return count_drop(ctx, MANX_DROP_MALFORMED);
	flow = bpf_map_lookup_elem(&MAP_FLOW, &p.key);
	if (flow && config) {
		struct manx_way *way = p.side ? &flow->way[1] : &flow->way[0];

		if (is_current(flow, config) && way->in_ifindex == ctx->ifindex &&
		    way->kind != MANX_WAY_UNKNOWN &&
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
