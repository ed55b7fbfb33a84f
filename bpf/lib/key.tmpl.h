/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Template: the key of the flow of (src, dst, ports), and the side of src in it. */

static __always_inline __u8 FN(make_key)(FLOW_KEY *key, const ADDR *src, const ADDR *dst,
					 __u8 protocol, const struct transport *t)
{
	__u8 side = FN(before)(dst, src) || (FN(same)(src, dst) && t->dst_port < t->src_port);

	if (side) {
		__builtin_memcpy(&key->addr[0], dst, sizeof(ADDR));
		__builtin_memcpy(&key->addr[1], src, sizeof(ADDR));
		key->port[0] = t->dst_port;
		key->port[1] = t->src_port;
	} else {
		__builtin_memcpy(&key->addr[0], src, sizeof(ADDR));
		__builtin_memcpy(&key->addr[1], dst, sizeof(ADDR));
		key->port[0] = t->src_port;
		key->port[1] = t->dst_port;
	}
	key->protocol = protocol;
	key->pad[0] = 0;
	key->pad[1] = 0;
	key->pad[2] = 0;
	return side;
}
