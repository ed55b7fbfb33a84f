/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The names that a template (name.tmpl.h) is instantiated with for IPv6. Included
 * before each use; lib/family_end.bpf.h takes them back.
 */
#define FAMILY	     6
#define FN(name)     name##6
#define ADDR	     struct manx_addr6
#define PREFIX	     struct manx_prefix6
#define FLOW_KEY     struct manx_flow6_key
#define FRAG_KEY     struct manx_frag6_key
#define TICKET	     struct manx_ticket6
#define PACKET	     struct packet6
#define MAP_EP	     manx_ep6
#define MAP_CLASS    manx_class6
#define MAP_NET	     manx_net6
#define MAP_FLOW     manx_flow6
#define MAP_NEW	     manx_flow6_new
#define MAP_FRAG     manx_frag6
#define MAP_DUE(n)   manx_due6_##n
#define SLOT_INDEX   1
#define PREFIX_BITS  128
#define ECHO_REQUEST ICMPV6_ECHO_REQUEST
#define PROTO_ICMP   IPPROTO_ICMPV6
#define ECHO_REPLY   ICMPV6_ECHO_REPLY
