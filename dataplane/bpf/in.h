/* SPDX-License-Identifier: Apache-2.0 */
/* From the underlay to the TUN device: decap. */
#pragma once

#include "choice.h"
#include "out.h"

#define DECAP_FLAGS (BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET)

#define PACKET_HOST 0

/* A datagram to this node's port, and what is in it. */
struct datagram {
	struct iphdr ip;
	struct udphdr udp;
	struct inner inner;
};

/* Read the outer headers; 0 if it is a datagram for the overlay. */
static __always_inline int is_ours(struct __sk_buff *skb, struct datagram *d)
{
	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->pkt_type != PACKET_HOST)
		return 0;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &d->ip, sizeof(d->ip) + sizeof(d->udp)))
		return 0;
	return d->ip.protocol == IPPROTO_UDP && d->ip.daddr == settings.local &&
	       d->ip.version == 4 && d->ip.ihl == 5 &&
	       !(d->ip.frag_off & bpf_htons(FRAGMENT)) && d->udp.dest == settings.port;
}

/* Whether it is one frame and nothing else: not a train, which is longer than its header says. */
static __always_inline int is_whole(struct __sk_buff *skb, const struct datagram *d)
{
	__u32 len = bpf_ntohs(d->ip.tot_len);

	return len + ETH_HLEN == skb->len && bpf_ntohs(d->udp.len) + sizeof(d->ip) == len;
}

/* What is wrong with VXLAN and inner Ethernet header, or 0. */
static __always_inline enum counter check_frame(struct __sk_buff *skb)
{
	struct {
		struct vxlan vxlan;
		struct ethhdr ethernet;
	} __attribute__((packed)) frame;

	if (bpf_skb_load_bytes(skb, ETH_HLEN + PLAIN_OVERHEAD, &frame, sizeof(frame)))
		return DROP_BAD_VXLAN;
	if (frame.vxlan.flags != bpf_htonl(VXLAN_VNI_VALID) || frame.vxlan.vni & bpf_htonl(0xff))
		return DROP_BAD_VXLAN;
	if (frame.vxlan.vni != bpf_htonl(settings.vni << 8))
		return DROP_WRONG_VNI;
	if (!is_mac(frame.ethernet.h_dest, settings.mac))
		return DROP_WRONG_MAC;
	if (is_mac(frame.ethernet.h_source, settings.mac))
		return DROP_LOOP;
	if (frame.ethernet.h_proto != bpf_htons(ETH_P_IP))
		return DROP_BAD_ETHERTYPE;
	return 0;
}

/* Why the sender may not send this, or 0. */
static __always_inline enum counter check_source(const struct datagram *d)
{
	__be32 source = d->inner.ip.saddr;
	struct peer *owner;

	if (!settings.strict)
		return 0;
	if ((source & settings.own_mask) == settings.own)
		return DROP_SPOOFED_SOURCE;
	owner = look_up(ROLE_ROUTE, source);
	if (owner && owner->addr == d->ip.saddr)
		return 0;
	if (!look_up(ROLE_SENDER, d->ip.saddr))
		return DROP_UNKNOWN_SENDER;
	/* Hosts themselves, and what they masquerade, have addresses outside the network. */
	if ((source & settings.network_mask) == settings.network)
		return DROP_SPOOFED_SOURCE;
	return 0;
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

/* What cannot be taken here goes to the workers, or is lost if there are none. */
static __always_inline int leave_in(struct __sk_buff *skb, enum counter why)
{
	to_workers(skb);
	/* Without the device somebody else may have the port by now, such as flanneld. */
	if (!has_tunnel())
		return TC_ACT_UNSPEC;
	count(why, 1);
	return TC_ACT_SHOT;
}

static __always_inline int decap(struct __sk_buff *skb, const struct state *state,
				 const struct datagram *d, int ecn, __u32 way)
{
	__u32 frames = skb->gso_size ? skb->gso_segs : 1;
	__u32 len = skb->len - ETH_HLEN - overhead();

	if (bpf_skb_adjust_room(skb, -(__s32)overhead(), BPF_ADJ_ROOM_MAC, DECAP_FLAGS)) {
		count(LEFT_REFUSED, 1);
		return leave_in(skb, DROP_NO_WORKER);
	}
	/* As udp_rcv would: the outer checksum is used up. */
	bpf_csum_level(skb, BPF_CSUM_LEVEL_DEC);
	if (set_ecn(skb, &d->inner, ecn)) {
		count(DROP_WRITE_FAILED, 1);
		return TC_ACT_SHOT;
	}
	count(IN_PACKETS, 1);
	count(IN_FRAMES, frames);
	count(IN_BYTES, len);
	if (frames > 1)
		count(IN_SUPER, 1);
	if (way == WAY_MERGED) {
		count(IN_MERGED, 1);
		return bpf_redirect(state->merger, 0);
	}
	return bpf_redirect(settings.tunnel, BPF_F_INGRESS);
}

static __always_inline int in(struct __sk_buff *skb)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct state *state = the_state();
	struct datagram d = {};
	enum counter wrong;
	__u32 way;
	int ecn;

	if (!is_ours(skb, &d))
		return TC_ACT_UNSPEC;
	if (!state || state->closed)
		return TC_ACT_UNSPEC;
	if (now - state->beat > settings.lifetime) {
		count(LEFT_EXPIRED, 1);
		return TC_ACT_UNSPEC;
	}
	if (!is_whole(skb, &d)) {
		count(LEFT_WHOLE, 1);
		return leave_in(skb, DROP_NO_WORKER);
	}
	if (settings.vxlan) {
		wrong = check_frame(skb);
		if (wrong)
			return leave_in(skb, wrong);
	}
	if (parse(skb, ETH_HLEN + overhead(), &d.inner) ||
	    bpf_ntohs(d.inner.ip.tot_len) + overhead() != bpf_ntohs(d.ip.tot_len))
		return leave_in(skb, DROP_BAD_INNER_IP);
	if (!settings.vxlan && (d.inner.ip.ihl != 5 || checksum(&d.inner.ip)))
		return leave_in(skb, DROP_BAD_INNER_IP);
	wrong = check_source(&d);
	if (wrong)
		return leave_in(skb, wrong);
	/* Nothing but TCP keeps its meaning as a super-packet (see docs/fast-path.md). */
	if (skb->gso_size && d.inner.ip.protocol != IPPROTO_TCP) {
		count(LEFT_WHOLE, 1);
		return leave_in(skb, DROP_NO_WORKER);
	}
	ecn = combine(d.ip.tos & ECN_MASK, d.inner.ip.tos & ECN_MASK);
	if (ecn < 0)
		return leave_in(skb, DROP_ECN);
	way = choose_in(skb, state, &d.inner, d.udp.check != 0, now);
	if (way == WAY_WORKERS) {
		if (now - state->beat < SILENCE)
			to_workers(skb);
		way = WAY_HERE;
	}
	if (now - state->beat >= SILENCE && !has_tunnel())
		return TC_ACT_UNSPEC;
	return decap(skb, state, &d, ecn, way);
}
