/* SPDX-License-Identifier: Apache-2.0 */
/* From the TUN device to the underlay: encap. */
#pragma once

#include "choice.h"

#ifndef BPF_F_ADJ_ROOM_NO_CSUM_RESET
#define BPF_F_ADJ_ROOM_NO_CSUM_RESET (1ULL << 5)
#endif
#ifndef BPF_F_ADJ_ROOM_ENCAP_L2_ETH
#define BPF_F_ADJ_ROOM_ENCAP_L2_ETH (1ULL << 6)
#endif

#define ENCAP_PLAIN (BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | \
		     BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_NO_CSUM_RESET)
#define ENCAP_VXLAN (ENCAP_PLAIN | BPF_F_ADJ_ROOM_ENCAP_L2_ETH | \
		     BPF_F_ADJ_ROOM_ENCAP_L2(sizeof(struct ethhdr)))

/* The source ports that Linux takes for tunnels by default (ip_local_port_range). */
#define FIRST_PORT 32768
#define PORTS 28232

#define MAX_TOTAL_LEN 65535

/*
 * The longest packet without segments that the kernel lets a program make longer is about 16,000
 * bytes (SKB_MAX_ALLOC). It is made longer twice, and must not fail at the second time.
 */
#define MAX_LINEAR 15000

/* Whether each frame of the packet fits the path to its peer. */
static __always_inline int fits(struct __sk_buff *skb, const struct state *state,
				const struct inner *inner, const struct peer *peer, __u32 len)
{
	__u32 mtu = peer->mtu && peer->mtu < state->mtu ? peer->mtu : state->mtu;

	if (len + overhead() > MAX_TOTAL_LEN)
		return 0;
	if (skb->gso_size)
		len = skb->gso_size + inner->header_len;
	return len + overhead() <= mtu;
}

/*
 * Whether it is a packet of the underlay to a peer, or a fragment of one: somebody has routed it
 * into the tunnel, where workers know what to make of it (dataplane/src/worker/recursion.rs).
 */
static __always_inline int is_outer(void *table, const struct inner *inner)
{
	if (inner->ip.protocol != IPPROTO_UDP)
		return 0;
	if (udp_port(inner) != settings.port && !(inner->ip.frag_off & bpf_htons(FRAGMENT)))
		return 0;
	return look_up(table, ROLE_SENDER, inner->ip.daddr) != NULL;
}

static __always_inline void fill_outer(struct outer *outer, const struct inner *inner,
				       const struct peer *peer, __u32 len, __u32 hash)
{
	__u8 ecn = inner->ip.tos & ECN_MASK;
	int i;

	outer->ip.version = 4;
	outer->ip.ihl = 5;
	/* RFC 3168, section 9.1.1; flannel's proxy does not look at the field. */
	outer->ip.tos = settings.vxlan ? (ecn == CE ? ECT0 : ecn) : NOT_ECT;
	outer->ip.tot_len = bpf_htons(len + overhead());
	outer->ip.id = bpf_get_prandom_u32();
	outer->ip.ttl = 64;
	outer->ip.protocol = IPPROTO_UDP;
	outer->ip.saddr = settings.local;
	outer->ip.daddr = peer->addr;
	outer->ip.check = checksum(&outer->ip);
	outer->udp.source = bpf_htons(FIRST_PORT + ((__u64)hash * PORTS >> 32));
	outer->udp.dest = peer->port;
	outer->udp.len = bpf_htons(len + overhead() - sizeof(outer->ip));
	if (!settings.vxlan)
		return;
	outer->vxlan.flags = bpf_htonl(VXLAN_VNI_VALID);
	outer->vxlan.vni = bpf_htonl(settings.vni << 8);
#pragma unroll
	for (i = 0; i < ETH_ALEN; i++) {
		outer->ethernet.h_dest[i] = peer->mac[i];
		outer->ethernet.h_source[i] = settings.mac[i];
	}
	outer->ethernet.h_proto = bpf_htons(ETH_P_IP);
}

/* Send the packet to its peer, or return -1 and leave it as it was. */
static __always_inline int encap(struct __sk_buff *skb, const struct state *state,
				 const struct inner *inner, const struct peer *peer, __u32 hash)
{
	__u64 flags = settings.vxlan ? ENCAP_VXLAN : ENCAP_PLAIN;
	__u32 len = skb->len - state->l2, frames = frames_of(skb, inner, len);
	struct outer outer = {};

	if (!skb->gso_size && len > MAX_LINEAR)
		return -1;
	if (bpf_skb_adjust_room(skb, overhead(), BPF_ADJ_ROOM_MAC, flags))
		return -1;
	fill_outer(&outer, inner, peer, len, hash);
	/* Neither way of redirection takes a packet without room for a MAC header. */
	if ((!state->l2 && bpf_skb_change_head(skb, ETH_HLEN, 0)) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, &outer, overhead(), 0)) {
		count(DROP_SEND_FAILED, 1);
		return TC_ACT_SHOT;
	}
	count(OUT_PACKETS, 1);
	count(OUT_FRAMES, frames);
	count(OUT_BYTES, len);
	return bpf_redirect_neigh(settings.underlay, NULL, 0, 0);
}

static __always_inline int out(struct __sk_buff *skb)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct state *state = the_state();
	struct inner inner = {};
	enum counter why;
	struct flow *flow;
	struct peer *peer;
	__u32 hash, way;
	void *table;
	int sent;

	if (!state || state->closed)
		return TC_ACT_UNSPEC;
	if (since(state->beat, now) > settings.lifetime) {
		count(LEFT_EXPIRED, 1);
		return TC_ACT_UNSPEC;
	}
	if (parse(skb, state->l2, &inner) ||
	    bpf_ntohs(inner.ip.tot_len) != skb->len - state->l2)
		return leave_for(skb, LEFT_ODD);
	hash = flow_hash(&inner);
	flow = flow_of(&flows_out, hash);
	if (since(state->beat, now) < SILENCE && follows(flow, state, &inner, now))
		to_workers(skb, skb->gso_size ? LEFT_TRAINS : LEFT_FLOWS);
	table = the_table();
	peer = table ? look_up(table, ROLE_ROUTE, inner.ip.daddr) : NULL;
	if (!peer || peer->flags & PEER_RECEIVE_ONLY || is_outer(table, &inner))
		return leave_for(skb, LEFT_NO_PEER);
	if (!fits(skb, state, &inner, peer, skb->len - state->l2)) {
		take_along(flow, state, now);
		return leave_for(skb, LEFT_TOO_LONG);
	}
	way = choose_out(skb, state, &inner, flow, now, &why);
	if (way == WAY_WORKERS && since(state->beat, now) < SILENCE)
		to_workers(skb, why);
	sent = encap(skb, state, &inner, peer, hash);
	if (sent >= 0)
		return sent;
	take_along(flow, state, now);
	return leave_for(skb, LEFT_REFUSED);
}
