/* SPDX-License-Identifier: Apache-2.0 */
/* Headers, read by copy: nothing is pulled into the linear part of a packet. */
#pragma once

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"

#define FRAGMENT 0x3fff		/* more fragments, or an offset */

#define ICMP_ECHOREPLY 0	/* linux/icmp.h draws in headers of the C library */
#define ICMP_ECHO 8

#define ECN_MASK 3
#define NOT_ECT 0
#define ECT1 1
#define ECT0 2
#define CE 3

/* RFC 7348, section 5 */
struct vxlan {
	__be32 flags;
	__be32 vni;		/* and 8 reserved bits */
} __attribute__((packed));

#define VXLAN_VNI_VALID 0x08000000

/* What is in front of an inner packet. */
struct outer {
	struct iphdr ip;
	struct udphdr udp;
	struct vxlan vxlan;
	struct ethhdr ethernet;
} __attribute__((packed));

#define PLAIN_OVERHEAD (sizeof(struct iphdr) + sizeof(struct udphdr))
#define VXLAN_OVERHEAD sizeof(struct outer)

/* Bytes of outer headers. */
static __always_inline __u32 overhead(void)
{
	return settings.vxlan ? VXLAN_OVERHEAD : PLAIN_OVERHEAD;
}

/* What matters of an inner packet. */
struct inner {
	struct iphdr ip;
	__be32 ports;		/* both, or 0 where there are none */
	__u32 header_len;	/* of IP and TCP or UDP, in bytes */
	__u32 icmp_type;
};

/* A datagram to this node's port, and what is in it. */
struct datagram {
	struct iphdr ip;
	struct udphdr udp;
	struct inner inner;
};

/* Where headers may begin at most: the verifier wants a bound. */
#define LAST_OFFSET 127

/* Copy `len` bytes from `offset` on; -1 where the packet has not as many. */
static __always_inline int load(struct __sk_buff *skb, __u32 offset, void *to, __u32 len)
{
	void *end = (void *)(long)skb->data_end;
	void *from = (void *)(long)skb->data + (offset & LAST_OFFSET);

	/* Headers lie in the linear part, as a rule: there no helper is needed. */
	if (from + len > end)
		return bpf_skb_load_bytes(skb, offset, to, len) ? -1 : 0;
	__builtin_memcpy(to, from, len);
	return 0;
}

static __always_inline int is_mac(const __u8 *mac, const volatile __u8 *wanted)
{
	return mac[0] == wanted[0] && mac[1] == wanted[1] && mac[2] == wanted[2] &&
	       mac[3] == wanted[3] && mac[4] == wanted[4] && mac[5] == wanted[5];
}

/* Read the IPv4 packet at `offset`; 0, or -1 where there is none. */
static __always_inline int parse(struct __sk_buff *skb, __u32 offset, struct inner *inner)
{
	__u32 transport;

	if (load(skb, offset, &inner->ip, sizeof(inner->ip)))
		return -1;
	if (inner->ip.version != 4 || inner->ip.ihl < 5)
		return -1;
	inner->ports = 0;
	inner->icmp_type = ICMP_ECHO;
	inner->header_len = inner->ip.ihl * 4;
	if (bpf_ntohs(inner->ip.tot_len) < inner->header_len)
		return -1;
	transport = offset + inner->header_len;
	if (inner->ip.frag_off & bpf_htons(FRAGMENT))
		return 0;
	if (inner->ip.protocol == IPPROTO_TCP) {
		struct {
			__be32 ports, seq, ack_seq;
			__u8 offset, flags;
		} tcp;

		if (load(skb, transport, &tcp, 14))
			return -1;
		inner->ports = tcp.ports;
		inner->header_len += tcp.offset >> 4 << 2;
	} else if (inner->ip.protocol == IPPROTO_UDP) {
		if (load(skb, transport, &inner->ports, sizeof(inner->ports)))
			return -1;
		inner->header_len += sizeof(struct udphdr);
	} else if (inner->ip.protocol == IPPROTO_ICMP) {
		__u8 type;

		if (load(skb, transport, &type, sizeof(type)))
			return -1;
		inner->icmp_type = type;
	}
	return 0;
}

/* The destination port of UDP, or 0. */
static __always_inline __be16 udp_port(const struct inner *inner)
{
	if (inner->ip.protocol != IPPROTO_UDP)
		return 0;
	return ((const __be16 *)&inner->ports)[1];
}

/* Multiplicative: the high bits are the good ones. */
static __always_inline __u32 hash_of(__be32 from, __be32 to, __u8 protocol, __be32 ports)
{
	__u64 hash = (__u64)from << 32 | to;

	hash *= 0x9e3779b97f4a7c15;
	hash ^= (__u64)protocol << 32 | ports;
	hash ^= hash >> 29;
	hash *= 0x9e3779b97f4a7c15;
	return hash >> 32;
}

/* A hash of the flow that a packet is of. */
static __always_inline __u32 flow_hash(const struct inner *inner)
{
	return hash_of(inner->ip.saddr, inner->ip.daddr, inner->ip.protocol, inner->ports);
}

/* That of the flow of what answers it. */
static __always_inline __u32 answer_hash(const struct inner *inner)
{
	return hash_of(inner->ip.daddr, inner->ip.saddr, inner->ip.protocol,
		       inner->ports << 16 | inner->ports >> 16);
}

/* RFC 1071 */
static __always_inline __u16 checksum(const void *header)
{
	const __u16 *word = header;
	__u32 sum = 0;
	int i;

#pragma unroll
	for (i = 0; i < 10; i++)
		sum += word[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* How many frames it becomes. What a guest sends has not been counted yet (SKB_GSO_DODGY). */
static __always_inline __u32 frames_of(struct __sk_buff *skb, const struct inner *inner, __u32 len)
{
	__u32 size = skb->gso_size;

	if (!size)
		return 1;
	return skb->gso_segs ? skb->gso_segs : (len - inner->header_len + size - 1) / size;
}
