//! The stand-in for an API server, for trying kubectl and manifests by hand:
//! `cargo run -p weft-lab --features kube --example kube_api -- /tmp/kubeconfig 3`.
//!
//! It writes a kubeconfig of an administrator to the file, with three nodes in the cluster, and
//! runs until it is interrupted. `<file>.flannel` is one of flannel's service account.

#![allow(clippy::print_stdout, reason = "it says where to find it")]

use std::path::PathBuf;
use weft_lab::kube::{ApiOptions, ApiServer, nodes};
use weft_lab::{Error, Result};

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    let usage = || Error::new("usage: kube_api KUBECONFIG [NODES]");
    let config = PathBuf::from(args.next().ok_or_else(usage)?);
    let count = args
        .next()
        .map_or(Some(3), |count| count.to_str()?.parse().ok());
    let count: usize = count.ok_or_else(usage)?;
    let server = ApiServer::start(ApiOptions {
        address: ([127, 0, 0, 1], 6443).into(),
        ..ApiOptions::default()
    })?;
    for node in 0..count {
        let network = format!("10.{}.{}.0/24", 244 + node / 256, node % 256);
        server.put_node(nodes::realistic(&format!("n{}", node + 1), &[&network]));
    }
    server.write_kubeconfig(&config)?;
    let token = server.kubeconfig_with_token(&server.token());
    let of_flannel = config.with_added_extension("flannel");
    let written = std::fs::write(&of_flannel, token);
    written.map_err(|error| Error::because(of_flannel.display(), error))?;
    println!(
        "serving {}; try KUBECONFIG={} kubectl get nodes",
        server.url(),
        config.display()
    );
    loop {
        std::thread::park();
    }
}
