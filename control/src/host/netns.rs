//! Tests that change links run on a thread of their own in a network namespace of their own.

use super::netlink::{Link, Netlink};
use std::io::Write;
use std::process::{Command, Stdio};

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

/// Have `ip` do what each line says, all at once.
pub(crate) fn batch(lines: &str) {
    let mut ip = Command::new("ip");
    let mut ip = ip
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    ip.stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    assert!(ip.wait().unwrap().success());
}

/// A link called `name` that has a carrier once it is up.
pub(crate) async fn link(netlink: &Netlink, name: &str) -> Link {
    let peer = format!("p.{name}");
    ip(&["link", "add", name, "type", "veth", "peer", "name", &peer]);
    ip(&["link", "set", &peer, "up"]);
    netlink.link(name).await.unwrap().unwrap()
}
