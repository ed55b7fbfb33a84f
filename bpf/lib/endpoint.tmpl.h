/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Template: who the two sides of a new flow are, and what their policy says. */

static __always_inline struct manx_endpoint *FN(find_endpoint)(const ADDR *addr)
{
	return bpf_map_lookup_elem(&MAP_EP, addr);
}

static __noinline int FN(find_class)(const ADDR *addr, struct manx_class *class)
{
	struct manx_class *found;

	if (!addr || !class)
		return -1;
	found = bpf_map_lookup_elem(&MAP_CLASS, addr);
	if (!found) {
		PREFIX prefix = {.length = PREFIX_BITS};

		__builtin_memcpy(&prefix.addr, addr, sizeof(*addr));
		found = bpf_map_lookup_elem(&MAP_NET, &prefix);
	}
	class->class_id = found ? found->class_id : 0;
	class->flags = found ? found->flags : 0;
	return 0;
}

/* The sides of a flow in the direction that opens it. */
struct FN(parties) {
	struct manx_endpoint *src; /* NULL: no workload of this node */
	struct manx_endpoint *dst;
	struct manx_slot_entry *slot; /* in place of src: found by the mark */
	struct manx_class src_class;
	struct manx_class dst_class;
};

/* The other side's class is looked up only where it is no endpoint of this node. */
static __always_inline void FN(class_of)(struct manx_endpoint *endpoint, const ADDR *addr,
					 struct manx_class *class)
{
	if (endpoint) {
		class->class_id = endpoint->class_id;
		class->flags = MANX_CLASS_POOL | MANX_CLASS_POD;
	} else {
		FN(find_class)(addr, class);
	}
}

/* The sides of a flow, seen from a packet of it. */
static __always_inline void FN(meet)(const PACKET *p, struct FN(parties) * who)
{
	who->src = FN(find_endpoint)(&p->src);
	who->dst = FN(find_endpoint)(&p->dst);
	who->slot = NULL;
	FN(class_of)(who->src, &p->src, &who->src_class);
	FN(class_of)(who->dst, &p->dst, &who->dst_class);
}

/*
 * Egress of the source and ingress of the destination, as far as they are here. 0, or a drop
 * reason. A workload that talks to itself is not judged.
 */
static __noinline int FN(judge)(const struct FN(parties) * who, struct judgement *j)
{
	__u32 src_class = who->src_class.class_id;
	int reason;

	if (who->slot) {
		if (who->dst && who->dst->ifindex == who->slot->ifindex)
			return 0;
		src_class = who->slot->class_id[SLOT_INDEX];
		judge_staged(who->slot->staged_egress[SLOT_INDEX], who->dst_class.class_id, j);
		reason = judge_set(who->slot->egress_set[SLOT_INDEX], who->dst_class.class_id,
				   MANX_DROP_POLICY_EGRESS, j);
		if (reason)
			return reason;
	} else if (who->src) {
		if (who->dst && who->dst->ifindex == who->src->ifindex)
			return 0;
		judge_staged(who->src->staged_egress, who->dst_class.class_id, j);
		reason = judge_set(who->src->egress_set, who->dst_class.class_id,
				   MANX_DROP_POLICY_EGRESS, j);
		if (reason)
			return reason;
	}
	if (!who->dst)
		return 0;
	judge_staged(who->dst->staged_ingress, src_class, j);
	return judge_set(who->dst->ingress_set, src_class, MANX_DROP_POLICY_INGRESS, j);
}

static __always_inline void FN(begin_judgement)(struct judgement *j, const PACKET *p)
{
	__u32 protocol = (__u32)p->key.protocol << 16;

	j->rule = 0;
	j->log = 0;
	j->question = 0;
	j->egress_rule = 0;
	j->ingress_rule = 0;
	j->by_dst = protocol | p->t.policy_port;
	j->by_src = protocol | p->t.src_port;
}

__noinline int FN(report)(CONTEXT *ctx, const PACKET *p, __u32 rule, __u32 reason)
{
	struct event_input event = {.rule = rule, .family = FAMILY, .reason = (__u8)reason};

	if (!p)
		return 0;
	event.src_port = p->t.src_port;
	event.dst_port = p->t.policy_port;
	event.protocol = p->key.protocol;
	FN(event_addresses)(&event, p);
	return emit(ctx, &event);
}

static __always_inline int FN(drop)(CONTEXT *ctx, const PACKET *p, __u32 rule, __u32 reason)
{
	FN(report)(ctx, p, rule, reason);
	return count_drop(ctx, reason);
}
