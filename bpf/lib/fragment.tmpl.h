/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Template: the first fragment of a datagram leaves its ports for the later ones, which have none.
 * A later fragment that overtakes the first is dropped by the hook, where it matters.
 */

static __always_inline int FN(fragment)(const FRAG_KEY *key, struct transport *t)
{
	struct manx_frag *known;

	if (t->flags & PKT_FIRST_FRAGMENT) {
		struct manx_frag ports = {.src_port = t->src_port,
					  .dst_port = t->dst_port,
					  .policy_port = t->policy_port};

		bpf_map_update_elem(&MAP_FRAG, key, &ports, BPF_ANY);
		return 0;
	}
	known = bpf_map_lookup_elem(&MAP_FRAG, key);
	if (known) {
		t->src_port = known->src_port;
		t->dst_port = known->dst_port;
		t->policy_port = known->policy_port;
	} else {
		t->flags |= PKT_NO_PORTS;
	}
	return 0;
}
