/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes to each peer and comes from it, counted on the underlay device, where packets of the
 * workers and those of the fast path pass alike. Neither has anything to do for it.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Of all nodes. */
const volatile __be16 port = 0;

#define OFFSET 0x1fff		/* of a fragment */
#define NEXT (-1)		/* TCX_NEXT: it is for others to say what becomes of the packet */

struct tally {
	__u64 packets, bytes;
};

struct traffic {
	struct tally sent, received;
};

/* By underlay address; IPv4 as ::ffff:a.b.c.d. The agent says who is counted. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct in6_addr);
	__type(value, struct traffic);
} peers SEC(".maps");

/* A datagram to the port: where it comes from and goes to. */
struct datagram {
	struct in6_addr from, to;
};

static __always_inline int read(struct __sk_buff *skb, __u32 at, void *to, __u32 len)
{
	return bpf_skb_load_bytes_relative(skb, at, to, len, BPF_HDR_START_NET);
}

static __always_inline void map_v4(struct in6_addr *addr, __be32 v4)
{
	addr->s6_addr32[0] = addr->s6_addr32[1] = 0;
	addr->s6_addr32[2] = bpf_htonl(0xffff);
	addr->s6_addr32[3] = v4;
}

/* Where the UDP header begins; 0: there is none. */
static __always_inline __u32 parse_ip(struct __sk_buff *skb, struct datagram *datagram)
{
	struct ipv6hdr v6;
	struct iphdr v4;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (read(skb, 0, &v4, sizeof(v4)) || v4.protocol != IPPROTO_UDP ||
		    (v4.frag_off & bpf_htons(OFFSET)))
			return 0;
		map_v4(&datagram->from, v4.saddr);
		map_v4(&datagram->to, v4.daddr);
		return v4.ihl * 4;
	}
	if (skb->protocol != bpf_htons(ETH_P_IPV6) || read(skb, 0, &v6, sizeof(v6)) ||
	    v6.nexthdr != IPPROTO_UDP)
		return 0;
	datagram->from = v6.saddr;
	datagram->to = v6.daddr;
	return sizeof(v6);
}

/* Whether this is a datagram to the port. */
static __always_inline int parse(struct __sk_buff *skb, struct datagram *datagram)
{
	__u32 at = parse_ip(skb, datagram);
	struct udphdr udp;

	return at && !read(skb, at, &udp, sizeof(udp)) && udp.dest == port;
}

/*
 * The packets that become of a super-packet. What came out of a TAP, as those of the workers do, says
 * only how long these are to be.
 */
static __always_inline __u32 packets(const struct __sk_buff *skb)
{
	__u32 size = skb->gso_size;

	if (!size)
		return 1;
	return skb->gso_segs ? skb->gso_segs : (skb->len + size - 1) / size;
}

static __always_inline void count(struct tally *tally, struct __sk_buff *skb)
{
	tally->packets += packets(skb);
	tally->bytes += skb->len;
}

SEC("classifier")
int weft_sent(struct __sk_buff *skb)
{
	struct datagram datagram;
	struct traffic *traffic;

	if (parse(skb, &datagram)) {
		traffic = bpf_map_lookup_elem(&peers, &datagram.to);
		if (traffic)
			count(&traffic->sent, skb);
	}
	return NEXT;
}

SEC("classifier")
int weft_received(struct __sk_buff *skb)
{
	struct datagram datagram;
	struct traffic *traffic;

	if (parse(skb, &datagram)) {
		traffic = bpf_map_lookup_elem(&peers, &datagram.from);
		if (traffic)
			count(&traffic->received, skb);
	}
	return NEXT;
}

char _license[] SEC("license") = "Apache-2.0";
