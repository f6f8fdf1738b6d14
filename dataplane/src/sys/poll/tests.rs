//! What holds of the waits of this engine alone.

use super::waiter::{Waited, Waiter, Way};
use crate::sys::event::StopEvent;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_wait_that_spins_ends_with_input_whenever_it_comes() {
    let stop = Arc::new(StopEvent::new().unwrap());
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let spin = Duration::from_millis(20);
    let mut waiter = Waiter::new(stop, spin).unwrap();
    let input = Waited {
        way: Way::Out,
        share: 3,
    };
    waiter.add(theirs.as_fd(), input).unwrap();
    for delay in [spin / 4, spin * 2] {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(delay);
                ours.send(&[1]).unwrap();
            });
            waiter.wait().unwrap();
            assert!(waiter.ready().eq([input]));
        });
        assert_eq!(theirs.recv(&mut [0; 4]).unwrap(), 1);
        let empty = theirs.recv(&mut [0; 4]).unwrap_err();
        assert_eq!(empty.kind(), std::io::ErrorKind::WouldBlock);
    }
}
