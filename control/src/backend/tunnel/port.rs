//! The UDP port of a tunnel, and the address that it is of.

use super::error::TunnelError;
use crate::backend::host::Host;
use crate::release;
use std::net::IpAddr;
use weft_dataplane::sys::udp::{self, SocketError};
use weft_dataplane::worker::StartError;

/// Wait until nobody holds UDP `port` of the family of `local`, for as long as an agent that has
/// just ended may.
pub(crate) async fn await_free(local: IpAddr, port: u16) -> Result<(), TunnelError> {
    let look = async || is_taken(local, port);
    match release::wait(release::GRACE, look, |taken| !taken).await {
        false => Ok(()),
        true => Err(StartError::Socket(SocketError::PortInUse(port)).into()),
    }
}

/// Whether somebody holds UDP `port` of the family of `local`.
pub(super) fn is_taken(local: IpAddr, port: u16) -> bool {
    udp::is_taken(local, port)
}

/// See whether packets can leave from `local`, an address of the underlay.
pub(super) fn check_local(local: IpAddr, host: &Host) -> Result<(), TunnelError> {
    let source = udp::source(local, host.underlay.index);
    udp::senders(source, 1, false).map_err(StartError::Socket)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netns;
    use std::net::{Ipv4Addr, UdpSocket};

    #[test]
    fn others_go_on_while_a_port_is_waited_for() {
        netns::run(async |netlink| {
            let lo = netlink.link("lo").await.unwrap().unwrap();
            netlink.set_link_up(&lo).await.unwrap();
            let held = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
            let port = held.local_addr().unwrap().port();
            // Nobody would release it if the wait kept this thread for itself.
            let release = async { drop(held) };
            let local = Ipv4Addr::LOCALHOST.into();
            let (free, ()) = tokio::join!(await_free(local, port), release);
            free.unwrap();
        });
    }
}
