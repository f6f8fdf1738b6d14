/* SPDX-License-Identifier: Apache-2.0 */
/* Maps, settings and counters. */
#pragma once

#include <bpf/bpf_helpers.h>

#include "layout.h"

const volatile struct settings settings = {};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct state);
} state SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counts);
} counts SEC(".maps");

/* Replaced as a whole, never changed. */
struct table {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	/* By size: clang 14 leaves out types that are named only behind `__array`. */
	__uint(key_size, sizeof(struct table_key));
	__uint(value_size, sizeof(struct peer));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct table);
} tables SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FLOWS);
	__type(key, __u32);
	__type(value, struct flow);
} flows_out SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FLOWS);
	__type(key, __u32);
	__type(value, struct flow);
} flows_in SEC(".maps");

/* All small packets of one core, counted as those of a flow are. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow);
} cores SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WHOLE_PEERS);
	__type(key, __u32);
	__type(value, struct whole_peer);
} whole_peers SEC(".maps");

/*
 * Holds the program `weft_workers` for as long as the agent's process lives: the kernel empties
 * such a map when nobody has a descriptor of it any more (prog_array_map_clear).
 */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} workers SEC(".maps");

/* The TUN device, until it is removed (dev_map_notification). */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} tunnel SEC(".maps");

static __always_inline int has_tunnel(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&tunnel, &zero) != NULL;
}

static __always_inline struct state *the_state(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&state, &zero);
}

static __always_inline void count(enum counter which, __u64 by)
{
	__u32 zero = 0;
	struct counts *counts_here = bpf_map_lookup_elem(&counts, &zero);

	if (counts_here)
		counts_here->of[which] += by;
}

/* The table of this packet: it goes by one alone, so it is asked for once. */
static __always_inline void *the_table(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&tables, &zero);
}

static __always_inline struct peer *look_up(void *table, __u32 role, __be32 addr)
{
	struct table_key key = { .prefix_len = 64, .role = role, .addr = addr };

	return bpf_map_lookup_elem(table, &key);
}
