//! In which order a worker serves its two ways.

use super::*;
use crate::mtu::paths::PathMtus;
use crate::offload::coalesce::{Coalescer, Limits};
use crate::offload::plan::SendPlan;
use crate::offload::vnet_hdr::Layout;
use crate::route::table::{Overlay, Table};
use crate::stats::WorkerStats;
use crate::sys::buffers::Buffers;
use crate::sys::engine::{EncapIo, Received, TunPacket};
use crate::sys::event::StopEvent;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// What an engine was asked for, in order.
type Log = Rc<RefCell<Vec<&'static str>>>;

/// An engine with nothing to read, which stops at its first wait; then batches are left.
struct Idle {
    log: Log,
    stopped: bool,
    left: usize,
}

struct Out(Log, SendPlan, Buffers);

struct In(Log, Coalescer, Buffers);

impl EncapIo for Out {
    fn parts(&mut self) -> (&mut SendPlan, &mut Buffers) {
        (&mut self.1, &mut self.2)
    }

    fn take(&mut self) -> Result<Option<TunPacket>, EngineError> {
        self.0.borrow_mut().push("read");
        Ok(None)
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.0.borrow_mut().push("send");
        Ok(())
    }

    fn reply(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

impl DecapIo for In {
    fn parts(&mut self) -> (&mut Coalescer, &mut Buffers) {
        (&mut self.1, &mut self.2)
    }

    fn take(&mut self) -> Result<Option<Received>, EngineError> {
        self.0.borrow_mut().push("receive");
        Ok(None)
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.0.borrow_mut().push("write");
        Ok(())
    }
}

impl Engine for Idle {
    type Encap = Out;
    type Decap = In;

    const SPINS: bool = true;

    fn open(_: Arc<StopEvent>, _: Duration) -> Result<Idle, EngineError> {
        unreachable!("the test makes it")
    }

    fn encap(&self, _: EncapParts) -> Result<Out, EngineError> {
        unreachable!("the test makes it")
    }

    fn decap(&self, _: DecapParts) -> Result<In, EngineError> {
        unreachable!("the test makes it")
    }

    fn begin(&mut self, _: Option<&mut Out>, _: Option<&mut In>) -> Result<(), EngineError> {
        self.log.borrow_mut().push("begin");
        Ok(())
    }

    fn wait(&mut self, _: Option<&mut Out>, _: Option<&mut In>) -> Result<(), EngineError> {
        self.log.borrow_mut().push("wait");
        self.stopped = true;
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.stopped
    }

    fn drain(&mut self, _: Option<&mut Out>, _: Option<&mut In>) -> Result<bool, EngineError> {
        self.log.borrow_mut().push("drain");
        let left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        Ok(left)
    }
}

/// What one turn of a worker asks its engine for, and then as many batches that are `left` at its
/// stop.
fn turn(is_out: bool, is_in: bool, left: usize) -> Vec<&'static str> {
    let log = Log::default();
    let buffers = || Buffers::new(1, 64).unwrap();
    let pods = Arc::new(PodMtus::new(1450));
    let clock = Clock::start();
    let outbound = is_out.then(|| {
        let limits = PathLimits::new(Arc::new(PathMtus::new()), false);
        EncapSide {
            io: Out(log.clone(), SendPlan::new(1, 0, 1), buffers()),
            egress: Egress::new(1, limits, None, clock, pods.clone()),
        }
    });
    let inbound = is_in.then(|| {
        let coalescer = Coalescer::new(1, Layout::Legacy, Limits::new(1450)).unwrap();
        let (mtu, pods) = (1450, pods.clone());
        DecapSide {
            io: In(log.clone(), coalescer, buffers()),
            inside: Inside { mtu, pods, clock },
        }
    });
    let publisher = Publisher::new(Table::build(Overlay::default(), &[]).unwrap());
    let common = Common {
        stop: Arc::new(StopEvent::new().unwrap()),
        stats: Arc::new(WorkerStats::default()),
        subscription: publisher.subscribe(),
        at_work: std::sync::mpsc::channel().0,
    };
    let engine = Idle {
        log: log.clone(),
        stopped: false,
        left,
    };
    run(engine, outbound, inbound, common).unwrap();
    log.take()
}

#[test]
fn a_worker_of_both_ways_writes_what_it_received_before_it_reads() {
    let turn = turn(true, true, 0);
    assert_eq!(turn, ["begin", "receive", "write", "read", "wait", "drain"]);
}

/// Its engine may write with the same system call that it waits by.
#[test]
fn a_worker_of_one_way_leaves_the_end_of_its_batch_to_the_wait() {
    assert_eq!(turn(false, true, 0), ["begin", "receive", "wait", "drain"]);
    assert_eq!(turn(true, false, 0), ["begin", "read", "wait", "drain"]);
}

#[test]
fn a_worker_that_is_stopped_takes_what_was_read_and_ends_with_its_engine_empty() {
    let turn = turn(true, false, 2);
    let end = ["drain", "read", "drain", "read", "drain"];
    assert_eq!(turn, [&["begin", "read", "wait"][..], &end[..]].concat());
}
