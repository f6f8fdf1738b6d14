/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs share with the loader: dataplane/src/fastpath/layout.rs has the same in Rust. */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>

/* Constant while a program is loaded. Addresses and ports are in network byte order. */
struct settings {
	__u32 tunnel;		/* interface index of the TUN device */
	__u32 underlay;		/* interface index of the device that packets to peers leave through */
	__u32 vxlan;		/* 1: frames are VXLAN, 0: an IP packet alone (flannel's udp) */
	__u32 vni;		/* host byte order */
	__u32 strict;		/* 1: sources are held against the table */
	__be32 local;		/* this node's underlay address */
	__be32 network;		/* of all pods */
	__be32 network_mask;
	__be32 own;		/* this node's subnet */
	__be32 own_mask;
	__be16 port;		/* of all nodes */
	__u8 mac[6];		/* this node's VtepMAC */
	__u64 lifetime;		/* ns that the table is believed without the agent */
};

/* What the agent changes while programs run. */
struct state {
	__u64 beat;		/* CLOCK_MONOTONIC_COARSE in ns when the agent last looked */
	__u64 opened;		/* likewise, when workers last carried all; 0: they did not before */
	__u64 backlog;		/* likewise: what workers got since then may wait for long; 0: nothing does */
	__u32 all;		/* 1: take all that can be taken, whatever is cheaper */
	__u32 super_packets;	/* 1: TCP super-packets leave here, not in trains */
	__u32 merger;		/* interface index of the way into the merging veth pair, or 0 */
	__u32 closed;		/* 1: leave everything to the workers */
	__u32 l2;		/* bytes before the packet on the way out: 14 in a test run, else 0 */
	__u32 mtu;		/* bytes of an outer IP packet on the underlay */
};

/* Whom an address of the network belongs to. */
#define ROLE_ROUTE 0
/* Whether an underlay address is a peer's. */
#define ROLE_SENDER 1

/* Both roles lie in one trie, so that one pointer changes all of a table. */
struct table_key {
	__u32 prefix_len;	/* 32 bits of the role included */
	__u32 role;
	__be32 addr;
};

/* Nothing may be sent to this peer from here. */
#define PEER_RECEIVE_ONLY 1

struct peer {
	__be32 addr;		/* underlay address */
	__u16 flags;
	__be16 port;
	__u8 mac[6];
	__u8 pad[2];
	__u32 mtu;		/* bytes of an outer IP packet on the path, or 0: the underlay's */
};

/* The ways of a packet, the quicker the lower. */
#define WAY_HERE 0		/* out: to the underlay; in: to the TUN device */
#define WAY_MERGED 1		/* in: through the veth pair that merges segments */
#define WAY_WORKERS 2		/* the userspace dataplane */

/* What is remembered of the flows that share a slot. */
struct flow {
	__u64 last;		/* when the last packet passed, ns */
	__u64 since;		/* when counting began */
	__u32 packets;		/* small ones since then */
	__u32 answers;		/* what came the other way since then */
	__u32 way;
	__u32 pad;
};

#define FLOWS 8192

/* How the super-packets of a peer come. */
struct whole_peer {
	__u64 seen;		/* when its last one of TCP came whole, ns */
	__u64 trains;		/* when its last train came */
	__be32 addr;
	__u32 pad;
};

#define WHOLE_PEERS 1024

/* Counters, in the order of `SUMS` in dataplane/src/fastpath/counters.rs. */
enum counter {
	OUT_PACKETS,
	OUT_FRAMES,
	OUT_BYTES,
	IN_PACKETS,
	IN_FRAMES,
	IN_BYTES,
	IN_WRITES,
	IN_SUPER,
	IN_MERGED,
	WANT_MERGER,
	LEFT_TRAINS,
	LEFT_BATCHES,
	LEFT_FLOWS,
	LEFT_ODD,
	LEFT_NO_PEER,
	LEFT_TOO_LONG,
	LEFT_WHOLE,
	LEFT_REFUSED,
	LEFT_EXPIRED,
	LEFT_ALONE,
	DROP_SEND_FAILED,
	DROP_WRITE_FAILED,
	COUNTERS,
};

struct counts {
	__u64 of[COUNTERS];
};
