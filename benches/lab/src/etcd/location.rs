//! Where servers run.

use crate::{Namespace, Node, Result};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

/// etcd's usual ports for clients and peers.
const USUAL: (u16, u16) = (2379, 2380);

/// Those on loopback addresses. Below the ports that connections get, and not etcd's usual
/// ones, which this machine may have a server on for all its addresses.
const ON_LOOPBACK: (u16, u16) = (23_790, 23_800);

/// From the port for clients to that for counters.
const METRICS: u16 = 2;

/// Where a server of etcd runs, and how a program is started there.
#[derive(Clone, Debug)]
pub struct Location {
    address: IpAddr,
    client_port: u16,
    peer_port: u16,
    ns: Option<Namespace>,
}

impl Location {
    /// The underlay address of a lab's node.
    pub fn on(node: &Node) -> Location {
        Location::at(node.underlay, USUAL, Some(node.ns.clone()))
    }

    /// 127.0.0.1 in the namespace of the calling thread, which is to be the server's alone.
    pub fn isolated() -> Location {
        Location::at(Ipv4Addr::LOCALHOST, USUAL, None)
    }

    /// A loopback address that nobody else has (see [`own_address`]).
    pub fn loopback() -> Location {
        Location::at(own_address(), ON_LOOPBACK, None)
    }

    fn at(address: Ipv4Addr, ports: (u16, u16), ns: Option<Namespace>) -> Location {
        Location {
            address: address.into(),
            client_port: ports.0,
            peer_port: ports.1,
            ns,
        }
    }

    /// The address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Where the server listens for clients.
    pub fn client(&self) -> SocketAddr {
        (self.address, self.client_port).into()
    }

    /// Where it listens for other members.
    pub fn peer(&self) -> SocketAddr {
        (self.address, self.peer_port).into()
    }

    /// Where it tells what it has counted, if it is to do so elsewhere than to clients.
    pub fn metrics(&self) -> SocketAddr {
        (self.address, self.client_port + METRICS).into()
    }

    /// The command for a program at this location.
    pub fn command(&self, program: &str) -> Command {
        match &self.ns {
            Some(ns) => ns.command(program),
            None => Command::new(program),
        }
    }

    /// Run `f` where the server is.
    pub fn enter<T>(&self, f: impl FnOnce() -> T) -> Result<T> {
        match &self.ns {
            Some(ns) => ns.enter(f),
            None => Ok(f()),
        }
    }
}

/// A loopback address that this process has not given out before. The lower 16 bits of the pid
/// are in it, so only a process whose pid is a multiple of 65,536 away may have it, too.
/// Connections come from 127.0.0.1, so that nothing takes a port of it by chance.
///
/// # Panics
/// When all addresses of this process are given out.
pub fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(2);
    let host = NEXT.fetch_add(1, Ordering::Relaxed);
    assert_ne!(host, 0, "all addresses of this process are given out");
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high, low, host)
}
