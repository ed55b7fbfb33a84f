/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Template: flows of packets that are judged after the host stack has had them. They go by the
 * stack both ways, since it may translate them.
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
