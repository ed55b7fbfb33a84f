/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Template: an existing flow is judged again after a policy change, if so configured. */

/*
 * 0, or the reason to drop the packet. A flow that is denied stays, stale: every packet of it, from
 * either side, is judged as what opened it, until the flow is idle or policy allows it again. Were
 * it gone, a retransmission of the other side would open it the other way round.
 */
static __noinline int FN(rejudge)(const PACKET *p, const struct manx_config *config,
				  const struct FN(found) * found)
{
	struct manx_flow *flow = found->flow;
	struct FN(parties) who;
	struct judgement j;
	PACKET *first = FN(derived)();
	__u16 slot;
	int reason;

	if (!flow || !first)
		return 0;
	if (flow->flags & MANX_FLOW_FROM_HOST)
		goto allowed;
	/* The packet that opened it, as far as its key tells. */
	*first = *p;
	if (!is_forward(flow, p->side)) {
		first->src = p->dst;
		first->dst = p->src;
	}
	if (flow->flags & MANX_FLOW_FORWARD_IS_0) {
		first->t.src_port = p->key.port[0];
		first->t.dst_port = p->key.port[1];
	} else {
		first->t.src_port = p->key.port[1];
		first->t.dst_port = p->key.port[0];
	}
	first->t.policy_port = first->t.dst_port;
	if (p->key.protocol == PROTO_ICMP)
		first->t.policy_port =
			p->t.policy_port >> 8 == ECHO_REPLY ? ECHO_REQUEST << 8 : p->t.policy_port;
	FN(meet)(first, &who);
	slot = flow->slot;
	if (flow->flags & MANX_FLOW_BY_SLOT) {
		__u32 index = slot;

		who.slot = bpf_map_lookup_elem(&manx_slot, &index);
	}
	FN(begin_judgement)(&j, first);
	reason = FN(judge)(&who, &j);
	if (reason)
		return reason;
	flow->rule = j.rule;
allowed:
	flow->policy_epoch = config->policy_epoch;
	return 0;
}
