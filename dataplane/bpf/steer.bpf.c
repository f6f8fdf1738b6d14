/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of the TUN device that a packet waits in for its worker. All packets of a flow wait in
 * one, and all flows of a pod in one of each worker's, so that a pod that floods fills no other's.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Workers, and queues of each. */
const volatile __u32 lanes = 1;
const volatile __u32 shares = 1;

#define FRAGMENT 0x3fff		/* more fragments, or an offset */

/* What a flow is known by. */
struct flow {
	__u32 from, to;		/* folded, if it is IPv6 */
	__u32 ports;		/* both, or 0 where there are none */
	__u8 protocol;
};

/* Multiplicative: the high bits are the good ones. */
static __always_inline __u32 mixed(__u64 number)
{
	number *= 0x9e3779b97f4a7c15;
	number ^= number >> 29;
	number *= 0x9e3779b97f4a7c15;
	return number >> 32;
}

/* Evenly one of `count`, by all bits of `hash`. */
static __always_inline __u32 one_of(__u32 count, __u32 hash)
{
	return (__u64)hash * count >> 32;
}

static __always_inline int read_v4(struct __sk_buff *skb, struct flow *flow, __u32 *transport)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
		return -1;
	flow->from = ip.saddr;
	flow->to = ip.daddr;
	flow->protocol = ip.protocol;
	*transport = ip.frag_off & bpf_htons(FRAGMENT) ? 0 : ip.ihl * 4;
	return 0;
}

static __always_inline __u32 folded(const struct in6_addr *addr)
{
	const __u32 *word = (const __u32 *)addr;

	return word[0] ^ word[1] ^ word[2] ^ word[3];
}

/* Ports behind extension headers are not looked for. */
static __always_inline int read_v6(struct __sk_buff *skb, struct flow *flow, __u32 *transport)
{
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
		return -1;
	flow->from = folded(&ip.saddr);
	flow->to = folded(&ip.daddr);
	flow->protocol = ip.nexthdr;
	*transport = sizeof(ip);
	return 0;
}

static __always_inline int has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

SEC("socket")
int weft_steer(struct __sk_buff *skb)
{
	int is_v4 = skb->protocol == bpf_htons(ETH_P_IP);
	struct flow flow = {};
	__u32 transport = 0, lane = 0;

	if (is_v4 ? read_v4(skb, &flow, &transport) : read_v6(skb, &flow, &transport))
		return 0;
	if (lanes > 1) {
		if (transport && has_ports(flow.protocol))
			bpf_skb_load_bytes(skb, transport, &flow.ports, sizeof(flow.ports));
		lane = one_of(lanes, mixed(((__u64)flow.from << 32 | flow.to) ^
					   mixed((__u64)flow.protocol << 32 | flow.ports)));
	}
	/* Pods have addresses one after the other. */
	return lane * shares + bpf_ntohl(flow.from) % shares;
}

char _license[] SEC("license") = "Apache-2.0";
