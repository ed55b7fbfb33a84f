/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Packets whose egress policy is still to be judged; their mark says whose it is. */
#pragma once

#include "lib/maps.bpf.h"

static __always_inline int is_deferred(__u32 mark)
{
	return (mark & MANX_MARK_KIND & ~MANX_MARK_HOST_ALLOWED) == MANX_MARK_DEFERRED;
}

static __always_inline __u32 slot_of(__u32 mark)
{
	return (mark & MANX_MARK_SLOT) >> MANX_MARK_SLOT_SHIFT;
}

/* The endpoint that a deferred packet came from, or NULL. */
static __always_inline struct manx_slot_entry *deferred_from(__u32 mark)
{
	__u32 slot = slot_of(mark);
	struct manx_slot_entry *entry = bpf_map_lookup_elem(&manx_slot, &slot);

	return entry && entry->ifindex ? entry : NULL;
}
