//! Tests that change links run on a thread of their own in a network namespace of their
//! own, which the kernel removes with the thread.

use super::netlink::{Link, Netlink};
use nix::sched::{CloneFlags, unshare};
use std::process::Command;

/// Run `test` in a fresh network namespace.
pub(crate) fn run<F>(test: F)
where
    F: AsyncFnOnce(Netlink) + Send + 'static,
{
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { test(Netlink::connect().unwrap()).await });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Run `ip` in the namespace of the calling thread; its standard output.
pub(crate) fn ip(args: &[&str]) -> String {
    let output = Command::new("ip").args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {error}", args.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

/// A link called `name` that has a carrier once it is up.
pub(crate) async fn link(netlink: &Netlink, name: &str) -> Link {
    let peer = format!("p.{name}");
    ip(&["link", "add", name, "type", "veth", "peer", "name", &peer]);
    ip(&["link", "set", &peer, "up"]);
    netlink.link(name).await.unwrap().unwrap()
}
