/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The names that a template (name.tmpl.h) is instantiated with for IPv4. Included
 * before each use; lib/family_end.bpf.h takes them back.
 */
#define FAMILY	     4
#define FN(name)     name##4
#define ADDR	     struct manx_addr4
#define PREFIX	     struct manx_prefix4
#define FLOW_KEY     struct manx_flow4_key
#define FRAG_KEY     struct manx_frag4_key
#define TICKET	     struct manx_ticket4
#define PACKET	     struct packet4
#define MAP_EP	     manx_ep4
#define MAP_CLASS    manx_class4
#define MAP_NET	     manx_net4
#define MAP_FLOW     manx_flow4
#define MAP_NEW	     manx_flow4_new
#define MAP_FRAG     manx_frag4
#define MAP_DUE(n)   manx_due4_##n
#define SLOT_INDEX   0
#define PREFIX_BITS  32
#define ECHO_REQUEST ICMP_ECHO
#define PROTO_ICMP   IPPROTO_ICMP
#define ECHO_REPLY   ICMP_ECHOREPLY
