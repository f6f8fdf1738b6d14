//! Whether flanneld works on this host: it has weft's firewall chains, routes and files, too.

use super::link;
use super::netlink::Link;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

/// The name of its process, and what all names of its devices begin with.
const NAME: &str = "flanneld";
const DEVICES: &str = "flannel";

/// By what flanneld is seen in this network namespace, if it is: a device, or its process, as
/// backends without a device have nothing else.
pub fn seen(links: &[Link]) -> Option<String> {
    let device = links.iter().find(|link| is_in_use(link));
    let device = device.map(|link| format!("its device {} is in use", link.name));
    device.or_else(|| process().map(|pid| format!("its process {pid} runs")))
}

fn is_in_use(link: &Link) -> bool {
    let in_use = match link.kind.as_deref() {
        Some("vxlan") => link.up,
        Some("tun") => link.carrier && !link::is_marked(link),
        _ => false,
    };
    in_use && link.name.starts_with(DEVICES)
}

/// The process of flanneld in the network namespace of this thread.
fn process() -> Option<u32> {
    let own = fs::read_link("/proc/thread-self/ns/net").ok();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut pids = pids.filter(|pid: &u32| {
        let proc = Path::new("/proc").join(pid.to_string());
        let name = fs::read_to_string(proc.join("comm")).unwrap_or_default();
        let is_here = || match fs::read_link(proc.join("ns/net")) {
            Ok(net) => own.as_ref() == Some(&net),
            // One that has just ended. What cannot be looked at may be here.
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        name.trim_end() == NAME && is_here() && !is_weft(&proc)
    });
    pids.next()
}

/// Whether a process is one of weft, which may be started by flanneld's name.
fn is_weft(proc: &Path) -> bool {
    let program = |proc: &Path| fs::read_link(proc.join("exe")).unwrap_or_default();
    let theirs = program(proc);
    // Of one that was replaced the name goes on.
    let name = theirs.file_name().and_then(OsStr::to_str).unwrap_or("");
    name.trim_end_matches(" (deleted)") == "weft" || theirs == program(Path::new("/proc/self"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netns;
    use std::os::unix::fs::symlink;
    use std::process::{Child, Command};

    /// Ends with the test.
    struct Running(Child);

    /// Until it has become the program that it is to be, a process has its parent's name.
    fn await_name(running: &Running) {
        let name = || fs::read_to_string(format!("/proc/{}/comm", running.0.id())).unwrap();
        while name().trim_end() != NAME {
            std::thread::yield_now();
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_process_of_this_namespace_is_seen_by_its_name() {
        netns::run(async |_| {
            let dir = tempfile::tempdir().unwrap();
            let program = dir.path().join(NAME);
            symlink("/bin/sleep", &program).unwrap();
            assert_eq!(seen(&[]), None);
            let sleep = || Running(Command::new(&program).arg("1000").spawn().unwrap());
            let running = sleep();
            await_name(&running);
            let process = format!("its process {} runs", running.0.id());
            assert_eq!(seen(&[]), Some(process));
            let elsewhere = std::thread::spawn(|| {
                netns::run(async |_| assert_eq!(seen(&[]), None));
            });
            elsewhere.join().unwrap();
            drop(running);
            assert_eq!(seen(&[]), None);
        });
    }

    #[test]
    fn weft_by_that_name_is_not_flanneld() {
        netns::run(async |_| {
            let dir = tempfile::tempdir().unwrap();
            let weft = dir.path().join("weft");
            let named = dir.path().join(NAME);
            weft_lab::run(Command::new("cp").arg("/bin/sleep").arg(&weft)).unwrap();
            symlink(&weft, &named).unwrap();
            let running = Running(Command::new(&named).arg("1000").spawn().unwrap());
            await_name(&running);
            assert_eq!(seen(&[]), None);
            fs::remove_file(&weft).unwrap();
            assert_eq!(seen(&[]), None);
        });
    }

    #[test]
    fn its_devices_are_those_in_use_without_a_mark() {
        netns::run(async |netlink| {
            let seen = async || seen(&netlink.links().await.unwrap());
            let vxlan = "link add flannel.1 type vxlan id 1 dstport 8472 dev lo";
            for line in [vxlan, "tuntap add flannel0 mode tun"] {
                netns::ip(&line.split(' ').collect::<Vec<_>>());
            }
            assert_eq!(seen().await, None);
            netns::ip(&["link", "set", "flannel.1", "up"]);
            let device = seen().await;
            assert_eq!(device.as_deref(), Some("its device flannel.1 is in use"));
        });
    }
}
