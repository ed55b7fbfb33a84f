/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Template of what both egress hooks share: packets that leave the host stack. Their flows go by
 * the stack both ways, since it may translate them.
 */

/* A flow of these parties; its forward packets come from in_ifindex, or 0. */
static __always_inline int FN(write_stack_flow)(const PACKET *p, const struct manx_config *config,
						const struct judgement *j, __u32 live,
						__u32 created, const struct FN(parties) * who,
						__u32 slot_and_flags)
{
	__u32 in = who->slot ? who->slot->ifindex : who->src ? who->src->ifindex : 0;
	__u32 out = who->dst ? who->dst->ifindex : 0;
	struct manx_flow flow;

	FN(init_flow)(p, config, j, live, created, &flow);
	flow.flags |= MANX_FLOW_BY_STACK | (slot_and_flags >> 16);
	flow.slot = slot_and_flags & 0xffff;
	flow.way[0].kind = MANX_WAY_STACK;
	flow.way[1].kind = MANX_WAY_STACK;
	flow.way[0].in_ifindex = p->side ? out : in;
	flow.way[1].in_ifindex = p->side ? in : out;
	return FN(write_flow)(p, &flow, live);
}

/*
 * A packet of a known flow. 1: it may leave; 0: there is no flow yet; negative: it was dropped for
 * that reason.
 */
static __noinline int FN(known_flow)(struct __sk_buff *ctx, const PACKET *p,
				     const struct manx_config *config, struct FN(found) * found)
{
	struct manx_way *way;

	FN(find_flow)(p, config, found);
	if (!found->flow || (p->t.flags & PKT_NO_PORTS) ||
	    opens_anew(found->flow, p->side, p->t.tcp_flags))
		return 0;
	if (needs_rejudgement(found->flow, config)) {
		int denied = FN(rejudge)(p, config, found);

		if (denied)
			return -denied;
	}
	if (found->flow->epoch != config->epoch) {
		FN(refresh)(ctx, p, config, found);
		if (!found->flow)
			return -MANX_DROP_FLOW_TABLE_FULL;
	}
	/*
	 * What a workload sent came in by its device: the device that the stack got it from, or the
	 * one whose program deferred it.
	 */
	way = p->side ? &found->flow->way[1] : &found->flow->way[0];
	if (way->in_ifindex && way->in_ifindex != ctx->ingress_ifindex)
		return -MANX_DROP_WRONG_INTERFACE;
	FN(track)(p, found);
	return 1;
}

/* The endpoint that a deferred packet came from, or NULL. */
static __always_inline struct manx_slot_entry *FN(deferred_from)(struct __sk_buff *ctx, __u32 *slot)
{
	struct manx_slot_entry *entry;

	*slot = (ctx->mark & MANX_MARK_SLOT) >> MANX_MARK_SLOT_SHIFT;
	entry = bpf_map_lookup_elem(&manx_slot, slot);
	return entry && entry->ifindex ? entry : NULL;
}
