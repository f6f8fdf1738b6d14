/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fast path: what a kernel tunnel does, between a TUN device and the underlay, for the packets
 * that are cheaper so. All others go on to the userspace dataplane as they are.
 */
#include <stddef.h>

#include <linux/pkt_cls.h>

#include "in.h"
#include "out.h"

/* On the way out of the TUN device. */
SEC("classifier")
int weft_out(struct __sk_buff *skb)
{
	return out(skb);
}

/* On the way into the underlay device. */
SEC("classifier")
int weft_in(struct __sk_buff *skb)
{
	return in(skb);
}

/* On the way into the far end of the merging veth pair: the packet is this host's. */
SEC("classifier")
int weft_merged(struct __sk_buff *skb)
{
	if (bpf_skb_change_type(skb, PACKET_HOST))
		return TC_ACT_SHOT;
	count(IN_WRITES, 1);
	return bpf_redirect(settings.tunnel, BPF_F_INGRESS);
}

/* There are workers: leave the packet to the next program, and then to them. */
SEC("classifier")
int weft_workers(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "Apache-2.0";
