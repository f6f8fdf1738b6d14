//! A subnets file whose every entry has been checked.

use super::format::{Format, Part};
use super::local::LocalAddress;
use crate::config::{NetworkConfig, NetworkRange, VxlanOptions};
use crate::family::PerFamily;
use crate::json::Object;
use crate::lease::{BadAttrs, Lease, LeaseAttrs, LeaseEnd, VxlanData, choose, is_host};
use crate::text::{one_line, shown};
use crate::wire::MacAddr;
use ipnet::IpNet;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;

/// The keys of an entry.
const KEYS: [&str; 7] = [
    "Subnet",
    "IPv6Subnet",
    "PublicIP",
    "PublicIPv6",
    "BackendType",
    "BackendData",
    "BackendV6Data",
];

/// The network config and all leases of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FileContent {
    /// The network config as JSON.
    pub(super) text: String,
    pub(super) config: NetworkConfig,
    format: Format,
    leases: Vec<Lease>,
}

impl FileContent {
    /// Read a file; the error is one line that says where and what.
    pub(super) fn parse(text: &str, format: Format) -> Result<FileContent, String> {
        FileContent::read(text, format).map_err(|reason| one_line(&reason))
    }

    fn read(text: &str, format: Format) -> Result<FileContent, String> {
        let document = format.read(text)?;
        let line = document.config.line;
        let config = NetworkConfig::parse(&document.config.json)
            .map_err(|error| format!("line {line}: {error}"))?;
        let mut unique = Unique::default();
        let mut leases = Vec::with_capacity(document.leases.len());
        for part in &document.leases {
            let lease = lease(part, &config)
                .and_then(|lease| unique.add(&lease, part.line).map(|()| lease))
                .map_err(|reason| format!("line {}: {reason}", part.line))?;
            leases.push(lease);
        }
        Ok(FileContent {
            text: document.config.json,
            config,
            format,
            leases,
        })
    }

    /// All leases.
    pub(super) fn leases(&self) -> &[Lease] {
        &self.leases
    }

    /// The lease of the node that advertises the addresses in `attrs`.
    pub(super) fn lease_of(&self, attrs: &LeaseAttrs) -> Option<&Lease> {
        self.leases
            .iter()
            .find(|lease| lease.attrs.same_node(attrs))
    }

    /// Whether a lease is over, and why.
    pub(super) fn end_of(&self, lease: &Lease) -> Option<LeaseEnd> {
        let entry = self.lease_of(&lease.attrs);
        let change = match entry {
            Some(entry) => Some(difference(lease, entry)?),
            None => None,
        };
        let mut others = self
            .leases
            .iter()
            .filter(|other| !other.attrs.same_node(&lease.attrs));
        let by = others.find(|other| other.key() == lease.key());
        Some(match (by.map(|other| other.attrs.identity()), change) {
            (Some(by), _) => LeaseEnd::Taken { by },
            (None, Some(key)) => LeaseEnd::Changed { key },
            (None, None) => LeaseEnd::Revoked,
        })
    }

    /// The first subnet of a family that no lease has.
    fn free<S: choose::Subnet + Display>(
        &self,
        of: impl Fn(&Lease) -> Option<S>,
    ) -> Option<String> {
        let taken: Vec<S> = self.leases.iter().filter_map(of).collect();
        let free = choose::candidates(&self.config, &taken, 1);
        free.first().map(S::to_string)
    }

    /// Why a node has no lease here, though it would have with another of its addresses.
    pub(super) fn elsewhere(&self, attrs: &LeaseAttrs, local: &LocalAddress) -> String {
        let LocalAddress { addr, name, choice } = local;
        let address = attrs.identity();
        format!(
            "no lease for {address}, this node's address, but one for {addr}, which is on {name} \
             of this node; start again with -iface={choice}, or add the other"
        )
    }

    /// Why a node has no lease here, and what to add.
    pub(super) fn missing(&self, attrs: &LeaseAttrs) -> String {
        let config = &self.config;
        let address = attrs.identity();
        let mut entry = Vec::new();
        if config.ranges.v4.is_some() {
            entry.push(("Subnet", self.free(|lease| lease.subnet)));
            entry.push(("PublicIP", Some(attrs.public_ip.to_string())));
        }
        if config.ranges.v6.is_some() {
            entry.push(("IPv6Subnet", self.free(|lease| lease.subnet_v6)));
            entry.push(("PublicIPv6", attrs.public_ipv6.map(|ip| ip.to_string())));
        }
        if let Some((key, _)) = entry.iter().find(|(_, value)| value.is_none()) {
            let network = key.replace("Subnet", "Network");
            return format!(
                "no lease for {address}, this node's address, and every {key} of the network is \
                 taken; enlarge {network} or remove an entry"
            );
        }
        let pair = |(key, value): (&str, Option<String>)| {
            let value = value.unwrap_or_default();
            match self.format {
                Format::Toml => format!("{key} = {value:?}"),
                Format::Json => format!("{key:?}:{value:?}"),
            }
        };
        let pairs: Vec<String> = entry.into_iter().map(pair).collect();
        let add = match self.format {
            Format::Toml => format!("these lines: [[leases]] / {}", pairs.join(" / ")),
            Format::Json => format!("this to \"leases\": {{{}}}", pairs.join(",")),
        };
        format!("no lease for {address}, this node's address; add {add}")
    }
}

/// The first key in which two entries of a node differ.
fn difference(before: &Lease, after: &Lease) -> Option<&'static str> {
    let raw = |data: &Option<Box<RawValue>>| data.as_ref().map(|data| data.get().to_owned());
    let keys = |lease: &Lease| {
        let LeaseAttrs {
            public_ip,
            public_ipv6,
            backend_type,
            backend_data,
            backend_v6_data,
        } = &lease.attrs;
        [
            ("Subnet", lease.subnet.map(|net| net.to_string())),
            ("IPv6Subnet", lease.subnet_v6.map(|net| net.to_string())),
            ("PublicIP", Some(public_ip.to_string())),
            ("PublicIPv6", public_ipv6.map(|addr| addr.to_string())),
            ("BackendType", Some(backend_type.clone())),
            ("BackendData", raw(backend_data)),
            ("BackendV6Data", raw(backend_v6_data)),
        ]
    };
    let pairs = keys(before).into_iter().zip(keys(after));
    let mut changed = pairs.filter(|(before, after)| before != after);
    changed.next().map(|((key, _), _)| key)
}

/// What may be there only once, with the line where it was.
#[derive(Default)]
struct Unique {
    subnets: BTreeMap<IpNet, usize>,
    addresses: BTreeMap<IpAddr, usize>,
    macs: BTreeMap<MacAddr, usize>,
}

impl Unique {
    fn add(&mut self, lease: &Lease, line: usize) -> Result<(), String> {
        // All subnets have the same length: they overlap only if they are the same.
        if let Some(subnet) = lease.subnet {
            once(&mut self.subnets, "Subnet", subnet.into(), line)?;
        }
        if let Some(subnet) = lease.subnet_v6 {
            once(&mut self.subnets, "IPv6Subnet", subnet.into(), line)?;
        }
        let attrs = &lease.attrs;
        if !attrs.public_ip.is_unspecified() {
            once(
                &mut self.addresses,
                "PublicIP",
                attrs.public_ip.into(),
                line,
            )?;
        }
        if let Some(address) = attrs.public_ipv6 {
            once(&mut self.addresses, "PublicIPv6", address.into(), line)?;
        }
        for mac in attrs.macs().into_iter().flatten() {
            // Both families of a node may share one.
            if let Some(other) = self.macs.insert(mac, line).filter(|&other| other != line) {
                return Err(format!("VtepMAC {mac} is that of line {other} already"));
            }
        }
        Ok(())
    }
}

fn once<T: Ord + Display + Copy>(
    seen: &mut BTreeMap<T, usize>,
    key: &str,
    value: T,
    line: usize,
) -> Result<(), String> {
    match seen.insert(value, line) {
        None => Ok(()),
        Some(other) => Err(format!("{key} {value} is that of line {other} already")),
    }
}

/// One entry, with what it leaves out filled in.
fn lease(part: &Part, config: &NetworkConfig) -> Result<Lease, String> {
    let keys = Object::parse(&part.json).map_err(|error| format!("not a lease: {error}"))?;
    let known = |name: &str| KEYS.iter().any(|key| key.eq_ignore_ascii_case(name));
    if let Some(name) = keys.names().find(|name| !known(name)) {
        let (name, keys) = (shown(name), KEYS.join(", "));
        return Err(format!("unknown key {name:?}; a lease has {keys}"));
    }
    let subnets = PerFamily {
        v4: subnet(&keys, "Subnet", "Network", config.ranges.v4)?,
        v6: subnet(&keys, "IPv6Subnet", "IPv6Network", config.ranges.v6)?,
    };
    let (subnet, subnet_v6) = subnets.typed();
    let mut attrs = LeaseAttrs::parse(&part.json).map_err(|error| error.to_string())?;
    check_addresses(&attrs, config)?;
    fill_in(&mut attrs, config)?;
    Ok(Lease {
        subnet,
        subnet_v6,
        attrs,
        expires: None,
        revision: 0,
    })
}

/// The subnet of one family: there if and only if the family is, inside its network and of
/// its length. Host bits are masked off, so that the subnet of a `subnet.env` can be copied.
fn subnet(
    keys: &Object,
    key: &'static str,
    network_key: &str,
    range: Option<NetworkRange>,
) -> Result<Option<IpNet>, String> {
    let wanted = |value: &str| {
        let value = shown(value);
        format!("{key} {value} is not a subnet such as 10.5.1.0/24")
    };
    let text: Option<String> = keys.get(key).map_err(|wrong| wanted(&wrong.value))?;
    let (text, network, len) = match (text, range) {
        (None, None) => return Ok(None),
        (Some(text), Some(range)) => (text, range.network, range.subnet_len),
        (None, Some(_)) => return Err(format!("{key} is missing")),
        (Some(_), None) => {
            return Err(format!(
                "{key} is given, but the config has no {network_key}"
            ));
        }
    };
    let subnet: IpNet = text.parse().map_err(|_| wanted(&text))?;
    if !network.contains(&subnet) || subnet.prefix_len() != len {
        let text = shown(&text);
        return Err(format!(
            "{key} {text} must have length {len} and lie inside {network_key} {network}"
        ));
    }
    Ok(Some(subnet.trunc()))
}

fn check_addresses(attrs: &LeaseAttrs, config: &NetworkConfig) -> Result<(), String> {
    let v4 = attrs.public_ip;
    if config.ranges.v4.is_some() && !is_host(v4.into()) {
        return Err(format!("PublicIP {v4} is no address of a host"));
    }
    match attrs.public_ipv6 {
        None if config.ranges.v6.is_some() => Err("PublicIPv6 is missing".to_owned()),
        Some(v6) if !is_host(v6.into()) => Err(format!("PublicIPv6 {v6} is no address of a host")),
        _ => Ok(()),
    }
}

/// The config's backend, and for vxlan a MAC that all nodes derive alike.
fn fill_in(attrs: &mut LeaseAttrs, config: &NetworkConfig) -> Result<(), String> {
    if attrs.backend_type.is_empty() && !matches!(config.backend.kind.as_str(), "udp" | "alloc") {
        attrs.backend_type.clone_from(&config.backend.kind);
    }
    if attrs.backend_type != "vxlan" {
        return Ok(());
    }
    // Peers never look at each other's VNI.
    let options = VxlanOptions::parse(&config.backend);
    let vni = options.map_or(VxlanOptions::DEFAULT_VNI, |options| options.vni);
    let derived = VxlanData {
        vni,
        vtep_mac: derived_mac(attrs.identity()),
    };
    if config.ranges.v4.is_some() {
        complete(&mut attrs.backend_data, "BackendData", derived)?;
    }
    if config.ranges.v6.is_some() {
        complete(&mut attrs.backend_v6_data, "BackendV6Data", derived)?;
    }
    Ok(())
}

fn complete(data: &mut Option<Box<RawValue>>, key: &str, derived: VxlanData) -> Result<(), String> {
    match data.as_deref().map(|data| VxlanData::parse(data.get())) {
        None | Some(Err(BadAttrs::Missing(_))) => *data = to_raw_value(&derived).ok(),
        Some(Err(error)) => return Err(format!("{key}: {error}")),
        Some(Ok(stated)) if stated.vtep_mac.is_multicast() => {
            let mac = stated.vtep_mac;
            return Err(format!("{key}: VtepMAC {mac} is not that of one node"));
        }
        Some(Ok(_)) => {}
    }
    Ok(())
}

/// The MAC of a node whose entry states none: `0e:00` and the four bytes of its IPv4
/// address, or `0e` and the lower 40 bits of the FNV-1a hash of its IPv6 address. Locally
/// administered, unicast, and the same on all nodes.
pub(super) fn derived_mac(address: IpAddr) -> MacAddr {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            MacAddr([0x0e, 0, a, b, c, d])
        }
        IpAddr::V6(address) => {
            let mix = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            let hash = address
                .octets()
                .into_iter()
                .fold(0xcbf2_9ce4_8422_2325, mix);
            let [_, _, _, a, b, c, d, e] = hash.to_be_bytes();
            MacAddr([0x0e, a, b, c, d, e])
        }
    }
}
