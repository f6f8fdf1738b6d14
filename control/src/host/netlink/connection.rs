//! The sockets.

use super::error::NetlinkError;
use rtnetlink::Handle;

/// A connection to the kernel's routing netlink, in the namespace of the thread that made it.
#[derive(Clone)]
pub struct Netlink {
    pub(super) handle: Handle,
    /// For listings of which the kernel leaves out what is not asked for (Linux 4.20); before,
    /// it lists everything here, too.
    pub(super) strict: Handle,
    /// How many routes the kernel has listed, of whatever use they were.
    #[cfg(test)]
    pub(crate) listed: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Netlink {
    /// Open the sockets and drive them on the current tokio runtime.
    pub fn connect() -> Result<Self, NetlinkError> {
        let failed = |source| {
            let action = "open a netlink socket".to_owned();
            NetlinkError { action, source }
        };
        let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
        tokio::spawn(connection);
        let strict = match rtnetlink::new_connection_with_strict_check() {
            Ok((connection, strict, _)) => {
                tokio::spawn(connection);
                strict
            }
            Err(_) => handle.clone(),
        };
        Ok(Self {
            handle,
            strict,
            #[cfg(test)]
            listed: std::sync::Arc::default(),
        })
    }
}
