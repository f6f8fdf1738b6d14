//! The underlay device.

use super::Device;
use crate::host::Host;

/// A route that leads nowhere (`RTF_REJECT`).
const REJECT: u32 = 0x200;

/// Devices that lie upon one another, such as a VLAN on a bond on a port.
const DEPTH_MAX: usize = 4;

/// Why there is no device to look at. One line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Nothing has this name.
    #[error("there is no interface {0}; there are: {1}")]
    Unknown(String, String),
    /// Nothing leads out.
    #[error("there is no default route; name the underlay's interface by --iface")]
    NoDefaultRoute,
}

/// The device of the default route, as the agent takes it: the one of the smallest metric, IPv4
/// before IPv6, and no tunnel of its own.
pub fn default_device(host: &Host) -> Result<String, DeviceError> {
    let v4 = host.text("proc/net/route").unwrap_or_default();
    let v6 = host.text("proc/net/ipv6_route").unwrap_or_default();
    let best = |routes: Vec<(u32, String)>| routes.into_iter().min_by_key(|(metric, _)| *metric);
    let found = best(v4.lines().filter_map(default_v4).collect());
    let found = found.or_else(|| best(v6.lines().filter_map(default_v6).collect()));
    found
        .map(|(_, name)| name)
        .ok_or(DeviceError::NoDefaultRoute)
}

fn is_own(name: &str) -> bool {
    name == "lo" || name.starts_with("flannel")
}

/// Metric and device of a line, if it is a default route.
fn default_v4(line: &str) -> Option<(u32, String)> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let [name, to, _, flags, _, _, metric, mask, ..] = columns[..] else {
        return None;
    };
    let flags = u32::from_str_radix(flags, 16).ok()?;
    let is_default = to == "00000000" && mask == "00000000" && flags & REJECT == 0;
    (is_default && !is_own(name)).then_some((metric.parse().ok()?, name.to_owned()))
}

fn default_v6(line: &str) -> Option<(u32, String)> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let [to, bits, _, _, _, metric, _, _, flags, name] = columns[..] else {
        return None;
    };
    let flags = u32::from_str_radix(flags, 16).ok()?;
    let is_default = to.bytes().all(|byte| byte == b'0') && bits == "00" && flags & REJECT == 0;
    let metric = u32::from_str_radix(metric, 16).ok()?;
    (is_default && !is_own(name)).then_some((metric, name.to_owned()))
}

impl Device {
    pub(super) fn of(host: &Host, name: &str) -> Result<Device, DeviceError> {
        let own = format!("sys/class/net/{name}");
        let is_name = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
        if !is_name || !host.path(&own).is_dir() {
            let there = host.names("sys/class/net").join(", ");
            return Err(DeviceError::Unknown(name.to_owned(), there));
        }
        let queues = host.names(&format!("{own}/queues"));
        let count = |kind: &str| queues.iter().filter(|name| name.starts_with(kind)).count() as u32;
        let driver = std::fs::read_link(host.path(&format!("{own}/device/driver"))).ok();
        let driver = driver.and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
        Ok(Device {
            name: name.to_owned(),
            driver,
            mtu: host.number(&format!("{own}/mtu")).unwrap_or_default(),
            numa_node: numa_node(host, &own, DEPTH_MAX),
            rx_queues: count("rx-"),
            tx_queues: count("tx-"),
            irqs: irqs(host, &own),
        })
    }
}

/// That of the device, or of what it lies upon. `-1` where there is one node only.
fn numa_node(host: &Host, device: &str, depth: usize) -> Option<u32> {
    if let Some(node) = host.text(&format!("{device}/device/numa_node")) {
        return node.parse().ok();
    }
    let depth = depth.checked_sub(1)?;
    let names = host.names(device).into_iter();
    let mut lower = names.filter(|name| name.starts_with("lower_"));
    lower.find_map(|name| numa_node(host, &format!("{device}/{name}"), depth))
}

/// The interrupts of the queues: those of the card that are named after what comes and goes, which
/// leaves out those for its configuration and errors.
fn irqs(host: &Host, device: &str) -> Vec<u32> {
    // A virtio device has its interrupts with the PCI device that it is on.
    let folders = ["device/msi_irqs", "device/../msi_irqs"];
    let numbers = folders
        .iter()
        .map(|folder| host.names(&format!("{device}/{folder}")));
    let numbers = numbers.into_iter().find(|numbers| !numbers.is_empty());
    let numbers = numbers.unwrap_or_default().into_iter();
    let mut irqs: Vec<u32> = numbers.filter_map(|number| number.parse().ok()).collect();
    irqs.retain(|number| {
        // An interrupt in use has a folder of its user's name.
        let names = host.names(&format!("proc/irq/{number}"));
        names.iter().any(|name| is_of_a_queue(name))
    });
    irqs.sort_unstable();
    irqs
}

fn is_of_a_queue(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["rx", "tx", "input", "output", "comp", "queue"]
        .iter()
        .any(|part| name.contains(part))
}
