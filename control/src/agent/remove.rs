//! `-remove`: taking away what an agent has left on this host, so that it is as before the first
//! start: devices with their addresses, routes and fast paths, routes to other nodes, blackhole
//! routes, firewall rules and, on request, the files. The lease stays in its store, but for what a
//! cluster knows of the node where that is to go, too.

use super::AgentOptions;
use super::name::AgentName;
use crate::backend::{self, leftovers};
use crate::family::Family;
use crate::host::firewall::Firewall;
use crate::host::flanneld;
use crate::host::link::MARK;
use crate::host::mac_store;
use crate::host::netlink::{
    Link, Netlink, NetlinkError, PROTOCOL_BOOT, PROTOCOL_WEFT, Route, RouteFilter,
};
use crate::host::presence::{self, Presence};
use crate::host::subnet_env;
use crate::remembered::{self, RememberedOptions};
use crate::socket;
use crate::subnets::kube;
use ipnet::IpNet;
use std::fs;
use std::io;
use std::path::Path;
use tracing::{info, warn};

/// Why something is left. One line.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The runtime.
    #[error("cannot set up the process: {0}")]
    Process(#[from] io::Error),
    /// The kernel cannot be asked.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// An agent is there.
    #[error("nothing was removed: {0}; stop the agent first")]
    Running(String),
    /// Something could not be removed.
    #[error("not everything could be removed: {0}")]
    Left(String),
}

impl RemoveError {
    /// Its code, see [`crate::codes`].
    pub fn code(&self) -> &'static str {
        match self {
            RemoveError::Process(_) => "W0103",
            RemoveError::Netlink(_) => NetlinkError::CODE,
            RemoveError::Running(_) => "W0108",
            RemoveError::Left(_) => "W0109",
        }
    }
}

/// Remove what an agent with these options has left; nothing while one runs.
pub fn remove(options: &AgentOptions) -> Result<(), RemoveError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(options))
}

pub(super) async fn run(options: &AgentOptions) -> Result<(), RemoveError> {
    let netlink = Netlink::connect()?;
    let agent = AgentName::of(options);
    let mark = agent.mark().unwrap_or_default();
    let name = agent.to_string();
    // Held to the end: an agent that starts meanwhile waits for a while.
    let Some(_presence) = Presence::claim(&name)? else {
        let running = format!("an agent for {name} runs on this host");
        return Err(RemoveError::Running(running));
    };
    // No two agents have one file: it is the one that is meant, with other flags.
    let mut same_file = Presence::others(&name).into_iter();
    if let Some(other) = same_file.find(|other| presence::ends_in(other, agent.file())) {
        let running = format!("the agent of {other} runs on this host, and has the same file");
        return Err(RemoveError::Running(running));
    }
    let devices = match leftovers::released(&netlink, &mark).await? {
        Ok(devices) => devices,
        Err(held) => {
            let held = names(&held);
            return Err(RemoveError::Running(format!("a process holds {held}")));
        }
    };
    let foreign = leftovers::marked(&netlink, &mark, false).await?;
    let held = foreign.iter().filter(|device| device.carrier);
    let mut others = Presence::others(&name);
    others.extend(held.map(|device| device.name.clone()));
    let mut removal = Removal {
        others,
        foreign,
        flanneld: flanneld::seen(&netlink.links().await?),
        netlink,
        left: Vec::new(),
        removed: 0,
    };
    if let Some(seen) = &removal.flanneld {
        warn!(
            code = "W0110",
            "what flanneld has, too, stays, as {seen}: firewall rules, routes and subnet.env"
        );
    } else {
        removal.routes(options, &devices).await?;
    }
    removal.devices(&devices).await?;
    removal.fast_paths(options, &mark).await;
    removal.rules().await;
    if let Some(dir) = &options.socket_dir {
        removal.socket(dir, &name);
    }
    let RememberedOptions {
        state_dir, prefix, ..
    } = options.remembered();
    removal.file(&remembered::file(&state_dir, &prefix));
    if options.remove_state {
        removal.files(options).await?;
    }
    if options.drain {
        removal.cluster(options).await;
    }
    removal.conclude()
}

fn names(links: &[Link]) -> String {
    let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    names.join(" and ")
}

struct Removal {
    netlink: Netlink,
    /// Agents for other networks, which share firewall chains and protocol number with this one.
    others: Vec<String>,
    /// Devices of such, and of agents that were here with other flags.
    foreign: Vec<Link>,
    /// By what flanneld is seen, which has the same rules, routes and files.
    flanneld: Option<String>,
    /// What could not be removed, and why.
    left: Vec<String>,
    removed: usize,
}

impl Removal {
    /// Count what was removed, or put down why it was not.
    fn note(&mut self, what: &str, outcome: Result<(), impl ToString>) {
        match outcome {
            Ok(()) => {
                info!("removed {what}");
                self.removed += 1;
            }
            Err(error) => self.left.push(error.to_string()),
        }
    }

    /// The networks that the agent was for: those in `subnet.env`, and those that its devices
    /// lead to.
    async fn networks(
        &self,
        options: &AgentOptions,
        devices: &[Link],
    ) -> Result<Vec<IpNet>, NetlinkError> {
        let previous = subnet_env::read_previous(&options.subnet_file);
        let of_file = Family::BOTH.into_iter();
        let mut networks: Vec<IpNet> = of_file.filter_map(|f| previous.network(f)).collect();
        for device in devices {
            let through = RouteFilter {
                index: Some(device.index),
                protocol: Some(PROTOCOL_BOOT),
                blackhole: None,
            };
            let routes = self.netlink.routes_like(through).await?;
            // A default route leads to more than the network.
            let narrow = routes.iter().map(|route| route.destination);
            networks.extend(narrow.filter(|net| net.prefix_len() > 0));
        }
        Ok(networks)
    }

    /// Routes to other nodes, and blackhole routes: by their protocol number. Where agents for
    /// other networks have such, too, those inside the networks of this one.
    async fn routes(
        &mut self,
        options: &AgentOptions,
        devices: &[Link],
    ) -> Result<(), NetlinkError> {
        let networks = self.networks(options, devices).await?;
        let wefts = RouteFilter {
            protocol: Some(PROTOCOL_WEFT),
            ..RouteFilter::default()
        };
        let mut routes = self.netlink.routes_like(wefts).await?;
        let alone = self.others.is_empty();
        let inside = |net: &IpNet| networks.iter().any(|network| network.contains(net));
        routes.retain(|route| alone || inside(&route.destination));
        for route in &routes {
            let outcome = self.netlink.delete_route(route).await;
            self.note(&described(route), outcome);
        }
        Ok(())
    }

    /// The agent's devices, and flanneld's where an agent that was killed has left it aside.
    async fn devices(&mut self, devices: &[Link]) -> Result<(), NetlinkError> {
        let mut devices = devices.to_vec();
        if self.others.is_empty() {
            devices.extend(self.netlink.aside().await?);
        }
        for device in &devices {
            let outcome = self.netlink.delete_link(device).await;
            let what = format!("the device {}, with its addresses and routes", device.name);
            self.note(&what, outcome);
        }
        Ok(())
    }

    /// Programs that carry packets without an agent, for devices that are gone by now.
    async fn fast_paths(&mut self, options: &AgentOptions, mark: &str) {
        let bpffs = &options.backend.fast_path.bpffs;
        let mark = (!mark.is_empty()).then_some(mark);
        let (done, failures) = backend::remove_fast_paths(&self.netlink, bpffs, mark).await;
        for what in done {
            self.note(&what, Ok::<(), NetlinkError>(()));
        }
        self.left.extend(failures);
    }

    /// The socket of an agent that was killed.
    fn socket(&mut self, dir: &Path, name: &str) {
        match socket::remove_stale(dir, name) {
            Ok(true) => self.note("the local socket", Ok::<(), NetlinkError>(())),
            Ok(false) => {}
            Err(error) => self.left.push(format!("{}: {error}", dir.display())),
        }
    }

    /// Chains and tables, which have flannel's names: those of them that nobody else uses.
    async fn rules(&mut self) {
        if !self.others.is_empty() {
            let others = self.others.join(" and ");
            let stay = "the firewall rules stay: the agent of";
            self.left
                .push(format!("{stay} {others} uses the same chains"));
            return;
        }
        let (names, failures) = Firewall::remove(self.flanneld.is_some()).await;
        for name in names {
            self.note(&name, Ok::<(), NetlinkError>(()));
        }
        self.left.extend(failures);
    }

    /// `subnet.env`, and the MAC addresses of devices that this host does not have any more.
    async fn files(&mut self, options: &AgentOptions) -> Result<(), NetlinkError> {
        match &self.flanneld {
            Some(_) => info!("{} stays: flanneld uses it", options.subnet_file.display()),
            None => self.file(&options.subnet_file),
        }
        let kept = mac_store::kept(&options.backend.state_dir);
        if !kept.is_empty() && !self.others.is_empty() {
            let (dir, others) = (
                options.backend.state_dir.display(),
                self.others.join(" and "),
            );
            info!("the MAC addresses in {dir} stay: they may be those of the agent of {others}");
            return Ok(());
        }
        let links = self.netlink.links().await?;
        for (device, path) in kept {
            if !links.iter().any(|link| link.name == device) {
                self.file(&path);
            }
        }
        Ok(())
    }

    /// What the cluster knows of this node's network.
    async fn cluster(&mut self, options: &AgentOptions) {
        match kube::leave(&options.kube).await {
            Ok(done) => {
                for what in done {
                    self.note(&what, Ok::<(), NetlinkError>(()));
                }
            }
            Err(reason) => self.left.push(reason),
        }
    }

    fn file(&mut self, path: &Path) {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => {
                let path = path.display();
                let outcome = outcome.map_err(|error| format!("cannot remove {path}: {error}"));
                self.note(&path.to_string(), outcome);
            }
        }
    }

    fn conclude(self) -> Result<(), RemoveError> {
        for Link { name, alias, .. } in &self.foreign {
            let of = alias.as_deref().unwrap_or_default();
            let of = of.trim_start_matches(MARK);
            info!("{name} stays: it is of the agent with the network and the file {of}");
        }
        if !self.left.is_empty() {
            return Err(RemoveError::Left(self.left.join("; ")));
        }
        let stays = !self.foreign.is_empty() || !self.others.is_empty() || self.flanneld.is_some();
        match (self.removed, stays) {
            (0, _) => info!("there was nothing to remove"),
            (_, true) => info!("all that is this agent's alone is removed"),
            (_, false) => info!("all is removed"),
        }
        Ok(())
    }
}

fn described(route: &Route) -> String {
    let destination = route.destination;
    match (route.blackhole, route.gateway) {
        (true, _) => format!("the blackhole route to {destination}"),
        (false, Some(gateway)) => format!("the route to {destination} via {gateway}"),
        (false, None) => format!("the route to {destination}"),
    }
}
