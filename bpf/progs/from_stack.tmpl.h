/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Template of what both egress hooks share: packets that leave the host stack.
 */

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
	/* What was translated does not go on with a flow that goes by no stack. */
	if (is_deferred(ctx->mark) && !(found->flow->flags & MANX_FLOW_BY_STACK))
		return 0;
	if (found->flow->epoch != config->epoch && FN(is_of_others)(p, found->flow))
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
