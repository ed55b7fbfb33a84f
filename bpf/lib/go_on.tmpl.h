/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Template: a packet of a known flow at an ingress hook. */

/*
 * in_ifindex: of the workload's device that it came by, 0: by an uplink. GO_ANEW: the flow is not
 * that of these two any more, and the packet opens another.
 */
static __always_inline int FN(go_on)(struct __sk_buff *ctx, const PACKET *p,
				     const struct manx_config *config, struct FN(found) * found,
				     __u32 in_ifindex)
{
	struct manx_way *way;
	__u32 mtu, reason = 0;

	if (found->flow->epoch != config->epoch && FN(is_of_others)(p, found->flow))
		return GO_ANEW;
	if (needs_rejudgement(found->flow, config)) {
		int denied = FN(rejudge)(p, config, found);

		if (denied)
			return FN(drop)(ctx, p, 0, denied);
	}
	way = p->side ? &found->flow->way[1] : &found->flow->way[0];
	if (found->flow->epoch != config->epoch || way->kind == MANX_WAY_UNKNOWN) {
		FN(refresh)(ctx, p, config, found);
		if (!found->flow)
			return count_drop(ctx, MANX_DROP_FLOW_TABLE_FULL);
		way = p->side ? &found->flow->way[1] : &found->flow->way[0];
	}
	if (way->in_ifindex != in_ifindex)
		return FN(drop)(ctx, p, 0, MANX_DROP_WRONG_INTERFACE);
	FN(track)(p, found);
	mtu = p->side ? found->flow->mtu[1] : found->flow->mtu[0];
	if (p->t.flags & PKT_LATER_FRAGMENT)
		reason = MANX_PASS_FRAGMENT;
	return FN(take)(ctx, p, way, mtu, reason);
}
