//! Which socket of a port gets a datagram: a classic BPF program, which needs no permission.
//!
//! The kernel runs it for each datagram, or for each train as a whole, before it is queued, and gives
//! it to the socket whose number the program returns. The program sees the UDP payload, and the headers
//! before it from [`NET`] on.

use super::{Junk, SHARES};
use crate::wire::frame::{FRAME_OVERHEAD, Wire};
use crate::wire::vxlan::{self, Vni};
use libc::{
    BPF_A, BPF_ABS, BPF_ADD, BPF_ALU, BPF_AND, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JGE, BPF_JGT,
    BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX, BPF_LEN, BPF_LSH, BPF_MEM, BPF_MISC, BPF_MOD,
    BPF_MUL, BPF_RET, BPF_RSH, BPF_ST, BPF_TAX, BPF_W, BPF_X, BPF_XOR, SKF_NET_OFF, sock_filter,
};

/// Where the IP header is.
const NET: u32 = SKF_NET_OFF as u32;

/// Odd numbers that spread neighbouring addresses and ports (the golden ratio; Knuth).
const SPREAD: u32 = 0x9e37_79b1;
const SPREAD_MORE: u32 = 0x85eb_ca6b;

/// Length of an IPv4 header without options in bytes.
const IPV4_HEADER: u32 = 20;

/// The form of the frames that belong here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames {
    /// What they begin with.
    pub wire: Wire,
    /// VXLAN network identifier; of no meaning with [`Wire::Ip`].
    pub vni: Vni,
    /// Whether VXLAN headers may carry a group policy.
    pub gbp: bool,
}

/// The program for `workers` workers with [`SHARES`] sockets each, those of the first worker first, and
/// one socket for each of [`Junk::ALL`] behind them. `v6`: the datagrams come over IPv6.
pub(super) fn program(frames: Frames, v6: bool, workers: u32) -> Vec<sock_filter> {
    let mut code = Code(Vec::new());
    let junk = |junk: Junk| workers * SHARES as u32 + junk as u32;
    match frames.wire {
        Wire::Vxlan => vxlan(&mut code, frames, junk),
        Wire::Ip => plain(&mut code, junk),
    }
    match v6 {
        false => sender_v4(&mut code),
        true => sender_v6(&mut code),
    }
    choose(&mut code, v6, workers);
    code.0
}

/// Instructions, none of which jumps back.
struct Code(Vec<sock_filter>);

impl Code {
    fn push(&mut self, code: u32, k: u32) {
        self.jump(code, k, 0, 0);
    }

    fn jump(&mut self, code: u32, k: u32, jt: u8, jf: u8) {
        let code = code as u16;
        self.0.push(sock_filter { code, jt, jf, k });
    }

    /// Return `number` unless the comparison of the accumulator with `k` holds.
    fn unless(&mut self, comparison: u32, k: u32, number: u32) {
        self.jump(BPF_JMP | comparison | BPF_K, k, 1, 0);
        self.push(BPF_RET | BPF_K, number);
    }

    /// Return `number` if it holds.
    fn when(&mut self, comparison: u32, k: u32, number: u32) {
        self.jump(BPF_JMP | comparison | BPF_K, k, 0, 1);
        self.push(BPF_RET | BPF_K, number);
    }

    fn load(&mut self, size: u32, offset: u32) {
        self.push(BPF_LD | size | BPF_ABS, offset);
    }

    fn alu(&mut self, operation: u32, k: u32) {
        self.push(BPF_ALU | operation | BPF_K, k);
    }

    fn alu_x(&mut self, operation: u32) {
        self.push(BPF_ALU | operation | BPF_X, 0);
    }

    /// Have the other register hold the accumulator as well.
    fn store_in_x(&mut self) {
        self.push(BPF_MISC | BPF_TAX, 0);
    }
}

/// What a worker refuses of a VXLAN header (`route::admit`), in the same order.
fn vxlan(code: &mut Code, frames: Frames, junk: impl Fn(Junk) -> u32) {
    let (malformed, foreign) = (junk(Junk::Malformed), junk(Junk::Foreign));
    let (fixed, expected) = vxlan::fixed(frames.gbp);
    code.push(BPF_LD | BPF_W | BPF_LEN, 0);
    code.unless(BPF_JGE, FRAME_OVERHEAD as u32, malformed);
    code.load(BPF_W, 0);
    code.alu(BPF_AND, (fixed >> 32) as u32);
    code.unless(BPF_JEQ, (expected >> 32) as u32, malformed);
    code.load(BPF_W, 4);
    code.when(BPF_JSET, fixed as u32, malformed);
    code.alu(BPF_RSH, 8);
    code.unless(BPF_JEQ, frames.vni.get(), foreign);
}

/// What it refuses of a packet without any header before it, as far as a train has the same: the first
/// packet of a train is not as long as the train is.
fn plain(code: &mut Code, junk: impl Fn(Junk) -> u32) {
    let malformed = junk(Junk::Malformed);
    code.push(BPF_LD | BPF_W | BPF_LEN, 0);
    code.unless(BPF_JGE, IPV4_HEADER, malformed);
    code.store_in_x();
    code.load(BPF_H, 2);
    // Longer than the datagram.
    code.jump(BPF_JMP | BPF_JGT | BPF_X, 0, 0, 1);
    code.push(BPF_RET | BPF_K, malformed);
    code.unless(BPF_JGE, IPV4_HEADER, malformed);
    code.load(BPF_B, 0);
    code.unless(BPF_JGE, 0x45, malformed);
    code.when(BPF_JGT, 0x4f, malformed);
}

/// The sender's address, as one word.
fn sender_v4(code: &mut Code) {
    code.load(BPF_W, NET + 12);
}

fn sender_v6(code: &mut Code) {
    code.load(BPF_W, NET + 8);
    for word in 1..4 {
        code.store_in_x();
        code.load(BPF_W, NET + 8 + 4 * word);
        code.alu_x(BPF_XOR);
    }
}

/// Choose by the sender's address, which is loaded. Which worker it is depends on the source port as well:
/// the flows of one peer are shared out among all.
fn choose(code: &mut Code, v6: bool, workers: u32) {
    // Words of the program's memory.
    const SENDER: u32 = 0;
    const SHARE: u32 = 1;
    code.alu(BPF_MUL, SPREAD);
    if workers > 1 {
        code.push(BPF_ST, SENDER);
    }
    code.alu(BPF_RSH, u32::BITS - SHARES.ilog2());
    if workers > 1 {
        code.push(BPF_ST, SHARE);
        source_port(code, v6);
        code.alu(BPF_MUL, SPREAD_MORE);
        code.push(BPF_LDX | BPF_W | BPF_MEM, SENDER);
        code.alu_x(BPF_XOR);
        code.alu(BPF_RSH, 16);
        code.alu(BPF_MOD, workers);
        code.alu(BPF_MUL, SHARES as u32);
        code.push(BPF_LDX | BPF_W | BPF_MEM, SHARE);
        code.alu_x(BPF_ADD);
    }
    code.push(BPF_RET | BPF_A, 0);
}

/// Load the outer source port.
fn source_port(code: &mut Code, v6: bool) {
    if v6 {
        code.load(BPF_H, NET + 40);
        return;
    }
    // Behind the options of the IP header, if there are any.
    code.load(BPF_B, NET);
    code.alu(BPF_AND, 0xf);
    code.alu(BPF_LSH, 2);
    code.store_in_x();
    code.push(BPF_LD | BPF_H | BPF_IND, NET);
}
