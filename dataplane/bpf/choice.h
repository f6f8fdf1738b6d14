/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which way a packet takes. The table that people read is in docs/fast-path.md; this is the
 * same, and nothing of it is decided elsewhere.
 *
 * A flow may go over to a slower way at any time, since what went before is ahead of it. It comes
 * back to a quicker one only after a pause in which all that the slower one held has gone, so that
 * nothing is ever overtaken.
 */
#pragma once

#include "packet.h"

#define MILLISECOND 1000000ull

/* A pause after which nothing of a flow is under way: longer than any queue of the workers. */
#define PAUSE (50 * MILLISECOND)

/* How long small packets are counted, and from which rate on they pay for a worker's wake-ups. */
#define COUNTED (4 * MILLISECOND)
#define PACKET_EVERY 25000ull	/* ns: 40,000 packets a second */

/* Packets for each that answers, up to which somebody waits for answers, and workers only delay. */
#define ANSWERED 4

/* Full segments one after the other, in no time, from which on merging pays. */
#define BULK_LEN 512
#define BULK_PACKETS 16
#define BULK_TIME (4 * MILLISECOND)

/* How long a peer whose super-packets came whole is taken to send more of them. */
#define WHOLE_BELIEVED (10000 * MILLISECOND)

/* The agent looks each second; after this the workers may hang as well. */
#define SILENCE (5000 * MILLISECOND)

/* The time that has passed since `then`, which another core may have read a tick later than `now`. */
static __always_inline __u64 since(__u64 then, __u64 now)
{
	return now > then ? now - then : 0;
}

/* This returns only when there are no workers, since their process has ended. */
static __always_inline void hand_over(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &workers, 0);
}

/* Give the packet to the workers for this reason; if there are none it does not count. */
static __always_inline void to_workers(struct __sk_buff *skb, enum counter why)
{
	count(why, 1);
	hand_over(skb);
	count(why, -1);
}

/*
 * What cannot be taken here goes to the workers. If there are none it goes on all the same: those
 * of the next agent may be there already, or somebody else has the port by now.
 */
static __always_inline int leave(struct __sk_buff *skb)
{
	hand_over(skb);
	count(LEFT_ALONE, 1);
	return TC_ACT_UNSPEC;
}

static __always_inline int leave_for(struct __sk_buff *skb, enum counter why)
{
	count(why, 1);
	return leave(skb);
}

static __always_inline struct flow *flow_of(void *flows, __u32 hash)
{
	__u32 slot = hash % FLOWS;

	return bpf_map_lookup_elem(flows, &slot);
}

static __always_inline void count_anew(struct flow *flow, __u64 now)
{
	flow->since = now;
	flow->packets = 0;
	flow->answers = 0;
}

/*
 * Whether nothing of a flow is under way any more. What workers have when they stop waits for those
 * that go on with it, however long that takes.
 */
static __always_inline int has_paused(const struct flow *flow, const struct state *state, __u64 now)
{
	if (since(flow->last, now) <= PAUSE)
		return 0;
	return flow->way != WAY_WORKERS || !state->backlog || flow->last < state->backlog;
}

/* The way of a flow whose packet would best take `wanted`. */
static __always_inline __u32 way_of(struct flow *flow, const struct state *state, __u64 now,
				    __u32 wanted)
{
	int paused = has_paused(flow, state, now);

	flow->last = now;
	if (paused) {
		flow->way = wanted;
		count_anew(flow, now);
	} else if (wanted > flow->way) {
		flow->way = wanted;
	}
	return flow->way;
}

/* Whether workers may still hold packets of a flow, from before there were these programs. */
static __always_inline int is_held(const struct flow *flow, const struct state *state, __u64 now)
{
	return !flow->last && since(state->opened, now) < PAUSE;
}

/* Whether so many small packets of a flow come that workers take them in batches. */
static __always_inline int is_flood(struct flow *flow, __u64 now)
{
	__u64 time = since(flow->since, now);
	int flood;

	flow->packets++;
	if (time < COUNTED)
		return 0;
	flood = flow->packets * PACKET_EVERY > time && flow->packets > flow->answers * ANSWERED;
	count_anew(flow, now);
	return flood;
}

/* Count what answers a flow of this node, so that requests are told from a flood. */
static __always_inline void note_answer(const struct inner *inner)
{
	struct flow *flow;

	if (inner->ip.protocol == IPPROTO_TCP)
		return;
	flow = flow_of(&flows_out, answer_hash(inner));
	if (flow)
		flow->answers++;
}

/*
 * Whether so many small packets of all flows come that workers are awake anyway. It is for flows
 * that begin: each may have few packets, as questions to a name server have.
 */
static __always_inline int is_flooded(__u64 now)
{
	__u32 zero = 0;
	struct flow *core = bpf_map_lookup_elem(&cores, &zero);
	int over;

	if (!core)
		return 0;
	over = since(core->since, now) >= COUNTED;
	if (is_flood(core, now))
		core->way = WAY_WORKERS;
	else if (over)
		core->way = WAY_HERE;
	return core->way == WAY_WORKERS;
}

/* Whether full segments of a flow come one after the other. */
static __always_inline int is_bulk(struct flow *flow, __u64 now, __u32 len)
{
	if (len < BULK_LEN)
		return 0;
	if (since(flow->since, now) > BULK_TIME)
		count_anew(flow, now);
	return ++flow->packets >= BULK_PACKETS;
}

/* What goes to the workers for a reason of its own takes its flow with it. */
static __always_inline void take_along(struct flow *flow, const struct state *state, __u64 now)
{
	if (flow)
		way_of(flow, state, now, WAY_WORKERS);
}

static __always_inline struct whole_peer *whole_peer_of(__be32 addr)
{
	__u32 slot = (__u32)(addr * 0x9e3779b1u) / (0xffffffffu / WHOLE_PEERS + 1);

	return bpf_map_lookup_elem(&whole_peers, &slot);
}

/* Have the slot of a peer from now on, whoever had it. */
static __always_inline void claim(struct whole_peer *peer, __be32 addr)
{
	if (peer->addr == addr)
		return;
	peer->addr = addr;
	peer->seen = 0;
	peer->trains = 0;
}

/* Whether super-packets of TCP come whole from this peer; `whole`: this is one. */
static __always_inline int sends_whole(struct whole_peer *peer, __be32 addr, int whole, __u64 now)
{
	if (whole) {
		claim(peer, addr);
		peer->seen = now;
	}
	return peer->addr == addr && peer->seen && since(peer->seen, now) < WHOLE_BELIEVED;
}

/* Whether trains came of late from a peer that has this slot. */
static __always_inline int sends_trains(const struct whole_peer *peer, __u64 now)
{
	return peer->trains && since(peer->trains, now) < WHOLE_BELIEVED;
}

/*
 * Whether trains of a peer may wait since workers have stopped: nobody knows which flows they are of.
 */
static __always_inline int trains_wait(const struct whole_peer *peer, const struct state *state)
{
	return state->backlog && peer->trains >= state->backlog;
}

/* Remember that a train came, if it came from a peer. */
static __always_inline void note_train(void *table, __be32 addr, __u64 now)
{
	struct whole_peer *peer = whole_peer_of(addr);

	if (!peer || (peer->addr != addr && !look_up(table, ROLE_SENDER, addr)))
		return;
	claim(peer, addr);
	peer->trains = now;
}

/* Whether workers carry this packet out more cheaply, or must see it. */
static __always_inline int is_for_workers(struct __sk_buff *skb, const struct state *state,
					  const struct inner *inner, struct flow *flow, __u64 now)
{
	int tcp = inner->ip.protocol == IPPROTO_TCP, flood, flooded;

	if (skb->gso_size)
		return !tcp || !state->super_packets;
	if (tcp)
		return 0;
	flood = is_flood(flow, now);
	flooded = is_flooded(now);
	return flood || (flooded && since(flow->last, now) > PAUSE);
}

/*
 * Whether a packet goes after those of its flow that the workers have, whatever else it is. Of a
 * flood these are all but the first, and nothing more is to be looked up for them.
 */
static __always_inline int follows(struct flow *flow, const struct state *state,
				   const struct inner *inner, __u64 now)
{
	if (!flow || flow->way != WAY_WORKERS || has_paused(flow, state, now))
		return 0;
	if (inner->ip.protocol != IPPROTO_TCP)
		is_flooded(now);
	flow->last = now;
	return 1;
}

/* The way out of a packet, and why if it is that to the workers. */
static __always_inline __u32 choose_out(struct __sk_buff *skb, const struct state *state,
					const struct inner *inner, struct flow *flow, __u64 now,
					enum counter *why)
{
	__u32 wanted = WAY_HERE;

	*why = LEFT_BATCHES;
	/*
	 * flannel's proxy takes packets out of datagrams as they are, and where those cross a veth or
	 * virtio nobody has filled in the checksums of a packet that a kernel sent.
	 */
	if (!settings.vxlan)
		return WAY_WORKERS;
	if (!flow)
		return WAY_HERE;
	/* The workers learn from what this node says of its pods' MTUs. */
	if (!state->all && inner->ip.protocol == IPPROTO_ICMP && inner->icmp_type != ICMP_ECHO &&
	    inner->icmp_type != ICMP_ECHOREPLY)
		return WAY_WORKERS;
	if (is_held(flow, state, now) ||
	    (!state->all && is_for_workers(skb, state, inner, flow, now)))
		wanted = WAY_WORKERS;
	if (wanted != WAY_WORKERS)
		*why = LEFT_FLOWS;
	else if (skb->gso_size)
		*why = LEFT_TRAINS;
	return way_of(flow, state, now, wanted);
}

/*
 * The way in of an inner packet, and why if it is that to the workers. What a worker of the peer sent
 * has an outer checksum, and may belong between trains, whose frames only the workers can take. What
 * a kernel tunnel sent may have one, too; of TCP it is known by super-packets that come whole while
 * no trains do.
 */
static __always_inline __u32 choose_in(struct __sk_buff *skb, const struct state *state,
				       const struct inner *inner, __be32 sender, int has_checksum,
				       __u64 now, enum counter *why)
{
	struct flow *flow = flow_of(&flows_in, flow_hash(inner));
	struct whole_peer *peer = whole_peer_of(sender);
	int tcp = inner->ip.protocol == IPPROTO_TCP, whole = skb->gso_size != 0, is_whole;
	__u32 wanted = WAY_HERE;

	*why = LEFT_BATCHES;
	note_answer(inner);
	if (!flow || !peer)
		return WAY_HERE;
	if (whole && !tcp) {
		/* Nothing but TCP keeps its meaning as a super-packet. */
		take_along(flow, state, now);
		return WAY_WORKERS;
	}
	/* Single segments of a peer that sends super-packets are few, as those that are sent again. */
	is_whole = tcp && sends_whole(peer, sender, whole, now);
	if (is_held(flow, state, now) || trains_wait(peer, state) ||
	    (has_checksum && (!is_whole || sends_trains(peer, now)))) {
		wanted = WAY_WORKERS;
	} else if (tcp && !is_whole && is_bulk(flow, now, skb->len)) {
		if (state->merger)
			wanted = WAY_MERGED;
		else
			count(WANT_MERGER, 1);
	}
	if (wanted != WAY_WORKERS)
		*why = LEFT_FLOWS;
	return way_of(flow, state, now, wanted);
}
