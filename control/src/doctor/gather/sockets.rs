//! Who has sockets on a UDP port.

use super::process;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Processes besides the agent's, of the number that it says itself. In another pid namespace that
/// is a stranger's here, and nothing can be told.
pub(super) fn besides(port: u16, agent: Option<u32>) -> Vec<String> {
    match agent.is_some_and(|pid| process::of(pid).is_none()) {
        true => Vec::new(),
        false => others_on(port, agent),
    }
}

/// Processes besides the agent's that have sockets on UDP `port` in this network namespace. If the
/// agent's cannot be seen, nobody's can be told from it.
fn others_on(port: u16, agent: Option<u32>) -> Vec<String> {
    let mut inodes = BTreeSet::new();
    for table in ["udp", "udp6"] {
        let text = fs::read_to_string(Path::new("/proc/thread-self/net").join(table));
        inodes.extend(inodes_on(&text.unwrap_or_default(), port));
    }
    if let Some(agent) = agent {
        let own = sockets_of(&agent.to_string());
        if own.is_empty() {
            return Vec::new();
        }
        inodes.retain(|inode| !own.contains(inode));
    }
    match inodes.is_empty() {
        true => Vec::new(),
        false => owners(&inodes),
    }
}

/// Inodes of the sockets on `port`, of a table such as `/proc/net/udp`. Those of the kernel itself
/// have none.
fn inodes_on(table: &str, port: u16) -> BTreeSet<u64> {
    let end = format!(":{port:04X}");
    let lines = table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace();
        let local = words.nth(1)?;
        let inode: u64 = words.nth(7)?.parse().ok()?;
        (local.ends_with(&end) && inode != 0).then_some(inode)
    });
    lines.collect()
}

/// Inodes of a process' open sockets.
fn sockets_of(pid: &str) -> BTreeSet<u64> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    let targets = fds.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    let inode = |target: std::path::PathBuf| {
        let inode = target
            .to_str()?
            .strip_prefix("socket:[")?
            .strip_suffix(']')?;
        inode.parse().ok()
    };
    targets.filter_map(inode).collect()
}

/// The processes that have any of these sockets, or that nobody is seen to have them.
fn owners(inodes: &BTreeSet<u64>) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| name.parse::<u32>().is_ok()) else {
            continue;
        };
        if !sockets_of(pid).is_disjoint(inodes) {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            found.push(format!("process {pid} ({})", comm.trim()));
        }
    }
    if found.is_empty() {
        found.push("a process that cannot be seen from here".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};

    #[test]
    fn a_socket_is_found_with_its_process() {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let own = std::process::id();
        let found = others_on(port, None);
        let name = format!("process {own} (");
        assert!(found.iter().any(|who| who.starts_with(&name)), "{found:?}");
        assert!(others_on(port, Some(own)).is_empty());
        drop(socket);
        assert!(others_on(port, None).is_empty());
    }

    #[test]
    fn a_stranger_with_the_agents_number_is_not_taken_for_the_agent() {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut stranger = Command::new("cat");
        stranger.stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)));
        let mut stranger = stranger.spawn().unwrap();
        let found = besides(port, Some(stranger.id()));
        assert_eq!(found, [""; 0]);
        assert!(!besides(port, None).is_empty());
        // It ends with what it reads.
        drop(ours);
        stranger.wait().unwrap();
    }

    #[test]
    fn the_table_is_read_by_its_columns() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20 1: 00000000:2118 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0 0\n\
            \x20 2: 00000000:2118 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 0 2 0 0\n\
            \x20 3: 00000000:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 9 2 0 0\n";
        assert_eq!(inodes_on(table, 8472), BTreeSet::from([4711]));
        assert_eq!(inodes_on("", 8472), BTreeSet::new());
    }
}
