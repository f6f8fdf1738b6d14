//! From nothing to a lease, and from there to a backend that runs.

use super::error::AgentError;
use super::name::AgentName;
use super::node::Node;
use super::options::AgentOptions;
use super::post::{Post, Waiting};
use super::rules::Rules;
use super::{grant, rules};
use crate::backend::{Host, Inheritance, Prepared};
use crate::config::{NetworkConfig, NetworkRange};
use crate::family::PerFamily;
use crate::host::firewall::Firewall;
use crate::host::iface::InterfaceOptions;
use crate::host::netlink::Netlink;
use crate::host::subnet_env::{self, SubnetEnv};
use crate::host::{bridge, forwarding, iface};
use crate::lease::{Lease, Previous};
use crate::subnets::{self, SubnetError, SubnetManager};
use std::time::Instant;
use tracing::{info, warn};

/// A node that has a lease, and whose backend has only to be started.
pub(super) struct Granted {
    config: NetworkConfig,
    prepared: Prepared,
    pub(super) previous: Previous,
    pub(super) lease: Lease,
    firewall: Rules,
    /// Workers are to be parked.
    inherits: bool,
    /// What is to be had until they begin.
    waiting: Option<Waiting>,
}

impl Granted {
    /// Wait for a lease; anew if the network config changes meanwhile, or what the service manager
    /// kept does not fit.
    pub(super) async fn wait(
        options: &AgentOptions,
        manager: &impl SubnetManager,
        post: &mut Post,
    ) -> Result<Granted, AgentError> {
        loop {
            let (inheritance, waiting) = post.inherit().unzip();
            match Granted::once(options, manager, inheritance).await {
                Err(AgentError::Subnet(error @ SubnetError::ConfigChanged)) => {
                    post.discard();
                    info!("{error}: starting with the new one");
                }
                Err(AgentError::Subnet(error @ SubnetError::AddressChanged { .. })) => {
                    post.discard();
                    info!("{error}: starting with that");
                }
                Err(AgentError::Backend(error)) if waiting.is_some() && error.is_inherited() => {
                    post.disinherit(&error.to_string());
                }
                outcome => {
                    return outcome.map(|granted| Granted { waiting, ..granted });
                }
            }
        }
    }

    /// The same with the devices and sockets of another process, which it shares until that has
    /// stopped, and by what that knew.
    pub(super) async fn inherit(
        options: &AgentOptions,
        manager: &impl SubnetManager,
        inheritance: Inheritance,
    ) -> Result<Granted, AgentError> {
        Granted::once(options, manager, Some(inheritance)).await
    }

    async fn once(
        options: &AgentOptions,
        manager: &impl SubnetManager,
        inheritance: Option<Inheritance>,
    ) -> Result<Granted, AgentError> {
        let inherits = inheritance.is_some();
        let config = subnets::wait_for_config(manager).await;
        // All that can fail by itself comes before the lease: a node that cannot run takes none.
        let mut interface = options.interface.clone();
        let told = manager.advertised().await;
        interface.public = PerFamily::new(|family| {
            let flag = *options.interface.public.of(family);
            told.of(family)
                .filter(|_| config.network(family).is_some())
                .or(flag)
        });
        let host = host(options, &interface, &config).await?;
        rules::check(&options.firewall, &config).await?;
        let prepared = Prepared::new(host, &options.backend, &config, inheritance);
        let mut prepared = prepared.await?;
        let previous = subnet_env::read_previous(&options.subnet_file);
        let lease = grant::take(manager, &config, &mut prepared, &previous).await?;
        subnet_env::remove_stale(&options.subnet_file, &lease);
        let (flavour, spec) = rules::wanted(&options.firewall, &config, &lease, prepared.tap());
        let firewall = match manager.remembered() {
            None => Rules::Written(Firewall::install(flavour, &spec).await),
            // Those of the last run stand. The programs take longer than all else, and packets
            // need not wait for them.
            Some(_) => Rules::Due(flavour, spec),
        };
        Ok(Granted {
            config,
            prepared,
            previous,
            lease,
            firewall,
            inherits,
            waiting: None,
        })
    }

    /// Start the backend, and tell container runtimes the subnet.
    pub(super) async fn start(self, options: &AgentOptions) -> Result<Node, AgentError> {
        let Granted {
            config,
            prepared,
            previous,
            lease,
            firewall,
            inherits,
            waiting,
        } = self;
        let backend = prepared.start(&config, &lease, &previous).await?;
        let env = SubnetEnv {
            networks: lease.networks(&config),
            mtu: backend.mtu(),
            ip_masq: options.firewall.ip_masq,
        };
        let node = Node::new(options, &config, &previous, (lease, backend, firewall), env);
        let mut node = node.await;
        node.parked = inherits.then(|| (Instant::now(), waiting));
        Ok(node)
    }
}

/// The kernel and the underlay interface.
async fn host(
    options: &AgentOptions,
    interface: &InterfaceOptions,
    config: &NetworkConfig,
) -> Result<Host, AgentError> {
    let netlink = Netlink::connect()?;
    let families = config.ranges.is_some();
    if !config.enable_nftables {
        bridge::warn_without_netfilter(families);
    }
    forwarding::warn_without(families);
    let underlay = iface::choose(&netlink, interface, families).await?;
    info!("packets leave through {underlay}");
    for NetworkRange { network, .. } in config.ranges.present() {
        for addr in underlay
            .local
            .present()
            .filter(|addr| network.contains(addr))
        {
            warn!(
                code = "W0409",
                "{addr} of {} lies inside Network {network}: packets to other nodes may be routed into the tunnel",
                underlay.name
            );
        }
    }
    Ok(Host {
        netlink,
        underlay,
        mark: AgentName::of(options).mark(),
    })
}
