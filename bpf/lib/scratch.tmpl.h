/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Template: where a packet's description is kept for the slow paths. They are global functions,
 * which the verifier walks once for any packet; before Linux 6.2 it does not take what such a
 * function is given as a map's key, but it does take a map's value. Programs run with softirqs off
 * and do not nest, so that each CPU needs one; and one for a packet that is derived from it, since
 * the stack of 512 bytes is short. The map is the object's own, and not pinned.
 */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, PACKET);
} FN(manx_scratch) SEC(".maps");

static __always_inline PACKET *FN(scratch)(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&FN(manx_scratch), &zero);
}

static __always_inline PACKET *FN(derived)(void)
{
	__u32 one = 1;

	return bpf_map_lookup_elem(&FN(manx_scratch), &one);
}

static __always_inline int FN(keep)(const PACKET *p)
{
	PACKET *scratch = FN(scratch)();

	if (!scratch)
		return -1;
	*scratch = *p;
	return 0;
}
