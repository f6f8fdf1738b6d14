/* SPDX-License-Identifier: Apache-2.0 */
/* From the underlay to the TUN device: decap. */
#pragma once

#include "choice.h"
#include "sum.h"

#define DECAP_FLAGS (BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET)

#define PACKET_HOST 0

/*
 * Read the outer headers: whether it is a datagram for the overlay, and one that the kernel would
 * take for this device. Not so one of a VLAN, whose tag is beside the packet here.
 */
static __always_inline int is_ours(struct __sk_buff *skb, struct datagram *d)
{
	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->pkt_type != PACKET_HOST ||
	    skb->vlan_present)
		return 0;
	if (load(skb, ETH_HLEN, &d->ip, sizeof(d->ip) + sizeof(d->udp)))
		return 0;
	return d->ip.protocol == IPPROTO_UDP && d->ip.daddr == settings.local &&
	       d->ip.version == 4 && d->ip.ihl == 5 &&
	       !(d->ip.frag_off & bpf_htons(FRAGMENT)) && d->udp.dest == settings.port &&
	       !checksum(&d->ip);
}

/* Whether the headers say how long it is: nothing is behind it, and it is no list of datagrams. */
static __always_inline int is_whole(struct __sk_buff *skb, const struct datagram *d)
{
	__u32 len = bpf_ntohs(d->ip.tot_len);

	return len + ETH_HLEN == skb->len && bpf_ntohs(d->udp.len) + sizeof(d->ip) == len;
}

/* Whether VXLAN and inner Ethernet header are as a worker would take them. */
static __always_inline int is_our_frame(struct __sk_buff *skb)
{
	struct {
		struct vxlan vxlan;
		struct ethhdr ethernet;
	} __attribute__((packed)) frame;

	if (load(skb, ETH_HLEN + PLAIN_OVERHEAD, &frame, sizeof(frame)))
		return 0;
	return frame.vxlan.flags == bpf_htonl(VXLAN_VNI_VALID) &&
	       frame.vxlan.vni == bpf_htonl(settings.vni << 8) &&
	       is_mac(frame.ethernet.h_dest, settings.mac) &&
	       !is_mac(frame.ethernet.h_source, settings.mac) &&
	       frame.ethernet.h_proto == bpf_htons(ETH_P_IP);
}

/* Whether the sender is a live peer, and may send from this address. */
static __always_inline int is_admitted(void *table, const struct datagram *d)
{
	__be32 source = d->inner.ip.saddr;
	struct peer *owner;

	if (!settings.strict)
		return 1;
	if ((source & settings.own_mask) == settings.own)
		return 0;
	owner = look_up(table, ROLE_ROUTE, source);
	if (owner && owner->addr == d->ip.saddr)
		return 1;
	/* Hosts themselves, and what they masquerade, have addresses outside the network. */
	return (source & settings.network_mask) != settings.network &&
	       look_up(table, ROLE_SENDER, d->ip.saddr);
}

/* What the outer ECN field makes of the inner one (RFC 6040, figure 4); -1: drop. */
static __always_inline int combine(__u8 outer, __u8 inner)
{
	if (outer == CE)
		return inner == NOT_ECT ? -1 : CE;
	if (outer == ECT1 && inner == ECT0)
		return ECT1;
	return inner;
}

/* Mark the packet behind the MAC header. */
static __always_inline int set_ecn(struct __sk_buff *skb, const struct inner *inner, int ecn)
{
	__be16 *first = (__be16 *)&inner->ip;
	__u8 tos = (inner->ip.tos & ~ECN_MASK) | ecn;
	__be16 old = *first, new;

	if (tos == inner->ip.tos)
		return 0;
	new = (old & bpf_htons(0xff00)) | bpf_htons(tos);
	/* Both together leave the sum over the packet as it was. */
	return bpf_l3_csum_replace(skb, ETH_HLEN + offsetof(struct iphdr, check), old, new, 2) ||
	       bpf_skb_store_bytes(skb, ETH_HLEN + 1, &tos, sizeof(tos), 0);
}

/* Bytes up to behind the outer headers of a bare packet that the kernel must see go. */
#define STALE 8

/*
 * Take off the outer headers; -1 where the kernel refuses, 1 if the packet is broken by that.
 *
 * Over a virtual link nobody has made the outer checksum of what a socket sent, and the packet says
 * where it is to lie (CHECKSUM_PARTIAL). The kernel forgets that when the place is cut off
 * (skb_postpull_rcsum), but what goes with bare packets is short: the MAC header moves over the
 * place. So some more is cut off, and put there again. No packet with ports is too short for that.
 */
static __always_inline int uncover(struct __sk_buff *skb, const struct datagram *d)
{
	__s32 len = overhead();

	if (settings.vxlan || !d->udp.check)
		return bpf_skb_adjust_room(skb, -len, BPF_ADJ_ROOM_MAC, DECAP_FLAGS) ? -1 : 0;
	if (bpf_skb_adjust_room(skb, -len - STALE, BPF_ADJ_ROOM_MAC, DECAP_FLAGS))
		return -1;
	return bpf_skb_adjust_room(skb, STALE, BPF_ADJ_ROOM_MAC, DECAP_FLAGS) ||
	       bpf_skb_store_bytes(skb, ETH_HLEN, &d->inner.ip, STALE, BPF_F_RECOMPUTE_CSUM);
}

static __always_inline int decap(struct __sk_buff *skb, const struct state *state,
				 const struct datagram *d, int ecn, __u32 way)
{
	__u32 len = skb->len - ETH_HLEN - overhead(), frames = frames_of(skb, &d->inner, len);
	__u32 merger = state->merger;
	int uncovered;

	uncovered = uncover(skb, d);
	if (uncovered < 0)
		return leave_for(skb, LEFT_REFUSED);
	/* As udp_rcv would: the outer checksum is used up. */
	bpf_csum_level(skb, BPF_CSUM_LEVEL_DEC);
	if (uncovered || set_ecn(skb, &d->inner, ecn)) {
		count(DROP_WRITE_FAILED, 1);
		return TC_ACT_SHOT;
	}
	count(IN_PACKETS, 1);
	count(IN_FRAMES, frames);
	count(IN_BYTES, len);
	if (frames > 1)
		count(IN_SUPER, 1);
	/* The pair may have gone while flows are still on their way through it. */
	if (way == WAY_MERGED && merger) {
		count(IN_MERGED, 1);
		return bpf_redirect(merger, 0);
	}
	count(IN_WRITES, 1);
	return bpf_redirect(settings.tunnel, BPF_F_INGRESS);
}

static __always_inline int in(struct __sk_buff *skb)
{
	struct datagram d = {};
	struct state *state;
	enum counter why;
	void *table;
	__u32 way;
	__u64 now;
	int ecn;

	/* All that the device receives comes by here. */
	if (!is_ours(skb, &d))
		return TC_ACT_UNSPEC;
	state = the_state();
	/* Without the TUN device somebody else may have the port by now, such as flanneld. */
	if (!state || state->closed || !has_tunnel())
		return TC_ACT_UNSPEC;
	table = the_table();
	if (!table)
		return TC_ACT_UNSPEC;
	now = bpf_ktime_get_coarse_ns();
	if (since(state->beat, now) > settings.lifetime) {
		count(LEFT_EXPIRED, 1);
		return TC_ACT_UNSPEC;
	}
	if (!is_whole(skb, &d))
		return leave_for(skb, LEFT_WHOLE);
	/* Whatever is wrong from here on a worker finds out, too, and counts by its reason. */
	if (settings.vxlan && !is_our_frame(skb))
		return leave(skb);
	if (parse(skb, ETH_HLEN + overhead(), &d.inner))
		return leave(skb);
	if (bpf_ntohs(d.inner.ip.tot_len) + overhead() != bpf_ntohs(d.ip.tot_len)) {
		/* The first frame of a train is as long as a segment. */
		if (skb->gso_size)
			note_train(table, d.ip.saddr, now);
		return leave(skb);
	}
	if (!settings.vxlan && (d.inner.ip.ihl != 5 || checksum(&d.inner.ip)))
		return leave(skb);
	if (!is_admitted(table, &d))
		return leave(skb);
	ecn = combine(d.ip.tos & ECN_MASK, d.inner.ip.tos & ECN_MASK);
	if (ecn < 0)
		return leave(skb);
	way = choose_in(skb, state, &d.inner, d.ip.saddr, d.udp.check != 0, now, &why);
	if (skb->gso_size && d.inner.ip.protocol != IPPROTO_TCP)
		return leave_for(skb, LEFT_WHOLE);
	if (way == WAY_WORKERS) {
		if (since(state->beat, now) < SILENCE)
			to_workers(skb, why);
		way = WAY_HERE;
	}
	/* The kernel drops it, and counts it. */
	if (!is_intact(skb, &d))
		return leave(skb);
	return decap(skb, state, &d, ecn, way);
}
