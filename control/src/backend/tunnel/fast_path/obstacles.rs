//! What on this host keeps packets from the fast path although the kernel has all of it.

use super::Tunnel;
use crate::backend::host::Host;

/// The reason why packets must not pass the host by, if there is one.
pub(super) async fn look(_host: &Host, tunnel: Tunnel<'_>) -> Result<(), String> {
    if tunnel.outer_df {
        // What the kernel learns of a path is told to the workers' sockets alone.
        return Err("with -outer-df the MTU of each path is learned by the workers".to_owned());
    }
    Ok(())
}
