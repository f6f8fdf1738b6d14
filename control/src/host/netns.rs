//! Tests that change links run on a thread of their own in a network namespace of their own.

use super::netlink::{Link, Netlink};
use std::process::Command;

/// Run `test` in a fresh network namespace.
pub(crate) fn run<F>(test: F)
where
    F: AsyncFnOnce(Netlink) + Send,
{
    weft_lab::isolated(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { test(Netlink::connect().unwrap()).await });
    });
}

/// Run `ip` in the namespace of the calling thread; its standard output.
pub(crate) fn ip(args: &[&str]) -> String {
    weft_lab::run(Command::new("ip").args(args)).unwrap()
}

/// A link called `name` that has a carrier once it is up.
pub(crate) async fn link(netlink: &Netlink, name: &str) -> Link {
    let peer = format!("p.{name}");
    ip(&["link", "add", name, "type", "veth", "peer", "name", &peer]);
    ip(&["link", "set", &peer, "up"]);
    netlink.link(name).await.unwrap().unwrap()
}
