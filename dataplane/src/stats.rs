//! Per-worker counters and the reasons for which a packet can be dropped.
//!
//! Each worker writes its own cells and nobody else does, so a plain load and store of a
//! relaxed atomic suffices: no lock prefix, no sharing of cache lines. Readers sum the
//! workers whenever they like.

pub mod losses;

use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counted {
    ($(#[$meta:meta])* $name:ident {
        $($(#[doc = $doc:literal])+ $variant:ident => $text:literal,)+
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[doc = $doc])+ $variant,)+ }

        impl $name {
            /// All of them, in the order of their discriminants.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The name used in logs and metrics.
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }

            /// What it counts, as its documentation says it, in one line.
            pub fn help(self) -> &'static str {
                let text = match self { $($name::$variant => concat!($($doc),+),)+ };
                text.trim_start()
            }
        }
    };
}

counted! {
    /// Why a packet or datagram went no further.
    DropReason {
        /// TUN read: shorter than its header says, or not IPv4/IPv6.
        BadInner => "bad_inner",
        /// TUN read: `virtio_net_hdr` fields outside the packet or of an unknown type.
        BadOffload => "bad_offload",
        /// TUN read: destination belongs to no live peer.
        NoPeer => "no_peer",
        /// TUN read: IPv6, for which the wire format has no place.
        NotIpv4 => "not_ipv4",
        /// TUN read: multicast, broadcast or unspecified destination.
        NotUnicast => "not_unicast",
        /// TUN read: what goes to its peer comes back into a tunnel of this node, or it is a
        /// packet that has come back.
        Recursion => "recursion",
        /// TUN read: longer than the path to its peer, and not to be fragmented.
        TooBig => "too_big",
        /// Receive: too short for VXLAN and Ethernet, reserved bits set or no VNI flag.
        BadVxlan => "bad_vxlan",
        /// Receive: another VNI.
        WrongVni => "wrong_vni",
        /// Receive: the inner destination MAC is not ours.
        WrongMac => "wrong_mac",
        /// Receive: the inner source MAC is ours.
        Loop => "loop",
        /// Receive: the EtherType is neither IPv4 nor IPv6.
        BadEthertype => "bad_ethertype",
        /// Receive: inner IP header malformed, or not of the length of its frame.
        BadInnerIp => "bad_inner_ip",
        /// Receive: the outer source is not the address of a live lease.
        UnknownSender => "unknown_sender",
        /// Receive: the inner source lies in a subnet that is not the sender's.
        SpoofedSource => "spoofed_source",
        /// Receive: a UDP super-packet that the TUN cannot take as one.
        BadSuper => "bad_super",
        /// Receive: outer CE on an inner packet that is not ECN-capable (RFC 6040).
        EcnDrop => "ecn_drop",
        /// Receive: the datagram did not fit its buffer.
        Truncated => "truncated",
        /// Receive: no room in the queue of the sender's share of the peers, or a wrong outer
        /// checksum.
        ReceiveQueueFull => "receive_queue_full",
        /// The kernel found no room in the queue of the TUN, or no worker to read it.
        TunQueueFull => "tun_queue_full",
        /// The kernel refused a send for good.
        SendFailed => "send_failed",
        /// Send: no room in the queue of the device on the way to the peer, or in the socket.
        QueueFull => "queue_full",
        /// The kernel refused a write to the TUN.
        WriteFailed => "write_failed",
    }
}

counted! {
    /// What a worker counts besides drops.
    Count {
        /// Packets (segments or super-packets) read from the TUN.
        TunReads => "tun_reads",
        /// Bytes read from the TUN, IP header included.
        TunReadBytes => "tun_read_bytes",
        /// Sends, each a frame, a train or a super-packet by tunnel GSO.
        Sends => "sends",
        /// Those of them that are super-packets by tunnel GSO, through the TAP.
        TunnelGsoSends => "super_sends",
        /// Super-packets that left by tunnel GSO to a peer after the last probe that did, when one did
        /// not: as many may be lost, and no more.
        TunnelGsoSendsLost => "super_sends_lost",
        /// Probes through the TAP that were not seen to leave.
        ProbesLost => "probes_lost",
        /// Frames sent.
        FramesSent => "frames_sent",
        /// Datagrams or trains received.
        Receives => "receives",
        /// Frames received.
        FramesReceived => "frames_received",
        /// Trains received, that is with a UDP_GRO control message.
        TrainsReceived => "trains_received",
        /// Frames that carried a whole super-packet (virtual links only).
        SuperFramesReceived => "super_frames_received",
        /// Writes to the TUN, each a segment or a super-packet.
        TunWrites => "tun_writes",
        /// Bytes written to the TUN, IP header included.
        TunWriteBytes => "tun_write_bytes",
        /// Batches handled.
        Batches => "batches",
        /// Multishot requests that had to be armed again.
        Rearms => "rearms",
        /// Receives that found no provided buffer (-ENOBUFS).
        NoBuffers => "no_buffers",
        /// Completions that overflowed the completion queue.
        CqOverflows => "cq_overflows",
        /// Times that the kernel refused a train, and shorter ones or none are sent from then on.
        Downgrades => "downgrades",
        /// Times that the kernel refused a super-packet on the TUN, and none of its kind are
        /// written for a while, or with more segments than it has.
        MergesRefused => "merges_refused",
        /// Times that a path's MTU was learned, from a refused send or by the prober.
        PathMtusLearned => "path_mtus_learned",
        /// Times that the MTU of one of this node's own pods was learned.
        PodMtusLearned => "pod_mtus_learned",
        /// Fragments made of packets longer than the path to their peer.
        FragmentsMade => "fragments_made",
        /// ICMP errors that told a sender the MTU of a path, or that there is none.
        IcmpSent => "icmp_sent",
        /// Times that the kernel could not read from the TUN or the receive socket just then.
        InputFailures => "input_failures",
        /// ICMP errors not sent because there had been too many of late.
        IcmpLimited => "icmp_limited",
        /// Sends that the fast path made, each a packet or a super-packet.
        FastSends => "fast_sends",
        /// Datagrams that the fast path received.
        FastReceives => "fast_receives",
        /// Those of them that were first merged with others of their flow.
        FastMerges => "fast_merges",
        /// Fast path: super-packets left to the workers, which make trains of them.
        LeftTrains => "left_trains",
        /// Fast path: packets left to the workers, which take them in batches.
        LeftBatches => "left_batches",
        /// Fast path: packets left to the workers, as others of their flow had been.
        LeftFlows => "left_flows",
        /// Fast path: packets left to the workers that are not whole IPv4 packets.
        LeftOdd => "left_odd",
        /// Fast path: packets left to the workers as their destination is no peer's.
        LeftNoPeer => "left_no_peer",
        /// Fast path: packets left to the workers that are too long for their path.
        LeftTooLong => "left_too_long",
        /// Fast path: datagrams left to the workers that have bytes behind their end, or are UDP
        /// super-packets.
        LeftWhole => "left_whole",
        /// Fast path: packets left to the workers that the kernel would not encap or decap.
        LeftRefused => "left_refused",
        /// Fast path: packets left alone since no agent has looked for too long.
        LeftExpired => "left_expired",
        /// Fast path: packets that only workers could have taken, when their process had ended.
        LeftAlone => "left_alone",
    }
}

/// The counters of one worker.
pub struct WorkerStats {
    drops: CachePadded<[AtomicU64; DropReason::ALL.len()]>,
    counts: CachePadded<[AtomicU64; Count::ALL.len()]>,
}

impl Default for WorkerStats {
    fn default() -> WorkerStats {
        WorkerStats {
            drops: CachePadded::new([const { AtomicU64::new(0) }; DropReason::ALL.len()]),
            counts: CachePadded::new([const { AtomicU64::new(0) }; Count::ALL.len()]),
        }
    }
}

fn bump(cell: &AtomicU64, by: u64) {
    // A single writer makes the read-modify-write free of races without a locked instruction.
    cell.store(
        cell.load(Ordering::Relaxed).wrapping_add(by),
        Ordering::Relaxed,
    );
}

impl WorkerStats {
    /// Count one drop. Only the owning worker may call this.
    pub fn count_drop(&self, reason: DropReason) {
        self.count_drops(reason, 1);
    }

    /// Count `n` drops for one reason. Only the owning worker may call this.
    pub fn count_drops(&self, reason: DropReason, n: u64) {
        bump(&self.drops[reason as usize], n);
    }

    /// Add `n` to a counter. Only the owning worker may call this.
    pub fn add(&self, count: Count, n: u64) {
        bump(&self.counts[count as usize], n);
    }

    /// Add all that another has counted.
    pub fn absorb(&self, other: &WorkerStats) {
        for &reason in DropReason::ALL {
            self.count_drops(reason, other.drops(reason));
        }
        for &count in Count::ALL {
            self.add(count, other.get(count));
        }
    }

    /// Drops so far for one reason.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].load(Ordering::Relaxed)
    }

    /// A counter's value so far.
    pub fn get(&self, count: Count) -> u64 {
        self.counts[count as usize].load(Ordering::Relaxed)
    }
}

/// Every non-zero counter and drop reason summed over `workers`, by name.
pub fn summary<'a>(workers: impl Iterator<Item = &'a WorkerStats> + Clone) -> Vec<(String, u64)> {
    let counts = Count::ALL.iter().map(|&count| {
        let sum = workers.clone().map(|w| w.get(count)).sum();
        (count.name().to_owned(), sum)
    });
    let drops = DropReason::ALL.iter().map(|&reason| {
        let sum = workers.clone().map(|w| w.drops(reason)).sum();
        (format!("drop_{}", reason.name()), sum)
    });
    counts.chain(drops).filter(|(_, sum)| *sum != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discriminants_index_all() {
        for (i, &reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason as usize, i);
        }
        for (i, &count) in Count::ALL.iter().enumerate() {
            assert_eq!(count as usize, i);
        }
    }

    #[test]
    fn help_is_the_documentation_in_one_line() {
        let wanted = "TUN read: what goes to its peer comes back into a tunnel of this node, or it is a packet that has come back.";
        assert_eq!(DropReason::Recursion.help(), wanted);
        let counts = Count::ALL.iter().map(|count| count.help());
        let reasons = DropReason::ALL.iter().map(|reason| reason.help());
        for help in counts.chain(reasons) {
            let odd = ['\n', '\\', '"'];
            assert!(help.ends_with('.') && !help.contains(odd), "{help}");
            assert!(!help.contains("  "), "{help}");
        }
    }

    #[test]
    fn what_is_absorbed_is_added_up() {
        let (sum, one) = (WorkerStats::default(), WorkerStats::default());
        one.count_drop(DropReason::Loop);
        one.add(Count::FastSends, 3);
        sum.add(Count::FastSends, 4);
        sum.absorb(&one);
        assert_eq!(sum.get(Count::FastSends), 7);
        assert_eq!(sum.drops(DropReason::Loop), 1);
    }

    #[test]
    fn summary_adds_workers_and_leaves_zeros_out() {
        let workers = [WorkerStats::default(), WorkerStats::default()];
        workers[0].count_drop(DropReason::WrongVni);
        workers[1].count_drops(DropReason::WrongVni, 2);
        workers[1].add(Count::Sends, 5);
        let sums = summary(workers.iter());
        assert_eq!(
            sums,
            [("sends".to_owned(), 5), ("drop_wrong_vni".to_owned(), 3)]
        );
    }
}
