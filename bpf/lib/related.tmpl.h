/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Template: ICMP errors belong to the flow of the packet that they carry, and go the way of that
 * flow's answers.
 */

/*
 * The way of the error that p is, with its MTU and flow; or NULL. The error must go to the sender
 * of the inner packet.
 */
static __noinline struct manx_way *FN(find_related)(struct __sk_buff *ctx, const PACKET *p,
						    const struct manx_config *config,
						    struct FN(found) * found, __u32 *mtu)
{
	PACKET *inner = FN(derived)();

	if (!inner || !FN(parse_inner)(ctx, p->transport_offset + 8, inner) ||
	    !FN(same)(&inner->src, &p->dst))
		return NULL;
	inner->now = p->now;
	FN(find_flow)(inner, config, found);
	if (!found->flow)
		return NULL;
	*mtu = inner->side ? found->flow->mtu[0] : found->flow->mtu[1];
	return inner->side ? &found->flow->way[0] : &found->flow->way[1];
}
