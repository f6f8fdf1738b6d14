/* SPDX-License-Identifier: Apache-2.0 */
/* The outer checksum: what the kernel would take for a socket. */
#pragma once

#include "packet.h"

/* Bytes that are summed at a time, and at most: longer datagrams than jumbo frames are the kernel's. */
#define STEP 256
#define SUMMED (36 * STEP)

/* What a sum is with its checksum in it. */
#define RIGHT 0xffff

static __always_inline __u16 folded(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* RFC 768 */
static __always_inline __u32 pseudo_sum(const struct datagram *d)
{
	__u32 from = d->ip.saddr, to = d->ip.daddr;

	return (from & 0xffff) + (from >> 16) + (to & 0xffff) + (to >> 16) +
	       bpf_htons(IPPROTO_UDP) + d->udp.len;
}

/*
 * Whether the kernel's tunnel has made the checksum for an inner one that nobody has made yet (lco_csum):
 * right once that is, when all behind it sums up to the opposite of what its field holds. The inner
 * IP header, which is right, sums up to nothing.
 */
static __always_inline int is_right_around_inner(struct __sk_buff *skb, const struct datagram *d)
{
	const __u16 *udp = (const __u16 *)&d->udp;
	__u32 inner = ETH_HLEN + VXLAN_OVERHEAD, sum = pseudo_sum(d);
	__u16 frame[11], field;
	int i;

	if (!settings.vxlan || d->inner.ip.ihl != 5 || checksum(&d->inner.ip))
		return 0;
	if (d->inner.ip.protocol == IPPROTO_TCP)
		inner += sizeof(struct iphdr) + offsetof(struct tcphdr, check);
	else if (d->inner.ip.protocol == IPPROTO_UDP)
		inner += sizeof(struct iphdr) + offsetof(struct udphdr, check);
	else
		return 0;
	if (load(skb, ETH_HLEN + PLAIN_OVERHEAD, frame, sizeof(frame)) ||
	    load(skb, inner, &field, sizeof(field)))
		return 0;
#pragma unroll
	for (i = 0; i < 4; i++)
		sum += udp[i];
#pragma unroll
	for (i = 0; i < 11; i++)
		sum += frame[i];
	return folded(sum + (__u16)~field) == RIGHT;
}

/* Whether the checksum is right for the bytes as they are. */
static __always_inline int is_right_as_it_is(struct __sk_buff *skb, const struct datagram *d)
{
	__u32 at = ETH_HLEN + sizeof(struct iphdr), rest = bpf_ntohs(d->udp.len);
	__u32 sum = pseudo_sum(d);
	__be32 piece[STEP / 4];
	int i;

	if (rest > SUMMED)
		return 0;
	for (i = 0; i < SUMMED / STEP && rest >= STEP; i++) {
		if (bpf_skb_load_bytes(skb, at, piece, STEP))
			return 0;
		sum = bpf_csum_diff(NULL, 0, piece, STEP, sum);
		at += STEP;
		rest -= STEP;
	}
	rest &= STEP - 1;
	if (rest) {
		__builtin_memset(piece, 0, STEP);
		if (bpf_skb_load_bytes(skb, at, piece, rest))
			return 0;
		sum = bpf_csum_diff(NULL, 0, piece, STEP, sum);
	}
	return folded(sum) == RIGHT;
}

/*
 * Whether the kernel would give the datagram to a socket, as far as its checksum goes. Over a virtual
 * link a socket's has not been made yet (CHECKSUM_PARTIAL), nor that of a super-packet: its field
 * holds the sum over the pseudo header then. No program is told so, but who would make that up
 * can as well make a right checksum, and few errors do.
 */
static __always_inline int is_intact(struct __sk_buff *skb, const struct datagram *d)
{
	/* There is none, or a device has found it right. */
	if (!d->udp.check || bpf_csum_level(skb, BPF_CSUM_LEVEL_QUERY) >= 0)
		return 1;
	if (d->udp.check == folded(pseudo_sum(d)))
		return 1;
	return !skb->gso_size && (is_right_around_inner(skb, d) || is_right_as_it_is(skb, d));
}
