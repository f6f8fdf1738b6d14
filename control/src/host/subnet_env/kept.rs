//! `subnet.env` while a node runs: looked at from time to time, and written until it is right.

use super::content::{MODE, SubnetEnv};
use super::dotenv::{dotenv, read_regular, single};
use crate::family::PerFamily;
use crate::lease::Lease;
use ipnet::IpNet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

/// Pause between two lines about others that change the file: who does so at each look, such as
/// a second agent with the same file, would else fill the log.
const CHANGES_REPORTED_EVERY: Duration = Duration::from_secs(3600);

/// The file of a node that runs.
#[derive(Debug)]
pub struct KeptEnv {
    path: PathBuf,
    env: SubnetEnv,
    /// Whether there has been a look already.
    seen: bool,
    right: bool,
    /// What was last said to be wrong.
    problem: Option<String>,
    changes: Changes,
}

impl KeptEnv {
    /// A file that has not been looked at.
    pub fn new(path: PathBuf, env: SubnetEnv) -> KeptEnv {
        KeptEnv {
            path,
            env,
            seen: false,
            right: false,
            problem: None,
            changes: Changes::default(),
        }
    }

    /// Whether the last look found the file as it should be, or could make it so.
    pub fn is_right(&self) -> bool {
        self.right
    }

    /// Look at the file, and write it if it is not right, the first time in any case: who waits
    /// for the agent may wait for the file to change. One that cannot be written and names
    /// another subnet is removed. Each reason why it is not right is logged once, changes by
    /// others once an hour.
    pub fn ensure(&mut self) {
        self.ensure_at(Instant::now());
    }

    fn ensure_at(&mut self, now: Instant) {
        let seen = std::mem::replace(&mut self.seen, true);
        if seen && self.is_written() {
            (self.right, self.problem) = (true, None);
            return;
        }
        let path = self.path.display();
        let changed = self.right;
        if changed && let Some(what) = self.changes.note(now) {
            warn!(
                code = "W0801",
                "{path} was changed or removed{what}: writing it again"
            );
        }
        match self.write() {
            Ok(()) => {
                match changed {
                    true => debug!("wrote {path} again"),
                    false => info!("wrote {path}"),
                }
                (self.right, self.problem) = (true, None);
            }
            // An earlier start has written the same.
            Err(_) if self.is_written() => (self.right, self.problem) = (true, None),
            Err(reason) => {
                if self.problem.as_ref() != Some(&reason) {
                    warn!(code = "W0802", "{reason}; trying again");
                }
                (self.right, self.problem) = (false, Some(reason));
            }
        }
    }

    fn is_written(&self) -> bool {
        let mode = || fs::metadata(&self.path).map(|file| file.permissions().mode() & 0o777);
        read_regular(&self.path).is_ok_and(|found| found == self.env.render().as_bytes())
            && mode().is_ok_and(|mode| mode == MODE)
    }

    fn write(&self) -> Result<(), String> {
        let Err(error) = self.env.write(&self.path) else {
            return Ok(());
        };
        let path = self.path.display();
        let networks = self.env.networks;
        let own = PerFamily::new(|family| networks.of(family).map(|own| own.subnet));
        remove_if_another(&self.path, own)?;
        Err(format!(
            "cannot write {path}: {error}; container runtimes will not learn the subnet, and the node is not ready, until it is written"
        ))
    }
}

/// How often others have changed the file.
#[derive(Debug, Default)]
struct Changes {
    reported: Option<Instant>,
    since: u32,
}

impl Changes {
    /// Count one; what is to be said of those since the last time, if it is time to.
    fn note(&mut self, now: Instant) -> Option<String> {
        self.since += 1;
        let early = |at| now.duration_since(at) < CHANGES_REPORTED_EVERY;
        if self.reported.is_some_and(early) {
            return None;
        }
        let repeated = self.reported.replace(now).is_some();
        let times = std::mem::take(&mut self.since);
        Some(match repeated {
            false => String::new(),
            true => format!(
                " (times since this was last said: {times}; another agent with this file, or whatever sets its mode, must get a file of its own or stop)"
            ),
        })
    }
}

/// Remove the file at `path` if it names a subnet that `lease` is not for: container runtimes
/// would give pods addresses of another node. That needs no space, as writing does.
pub fn remove_stale(path: &Path, lease: &Lease) {
    let own = PerFamily::new(|family| lease.subnet(family));
    if let Err(reason) = remove_if_another(path, own) {
        warn!(code = "W0803", "{reason}");
    }
}

fn remove_if_another(path: &Path, own: PerFamily<Option<IpNet>>) -> Result<(), String> {
    // What cannot be read tells nobody a subnet.
    let Ok(content) = read_regular(path) else {
        return Ok(());
    };
    if !names_another(&String::from_utf8_lossy(&content), own) {
        return Ok(());
    }
    let path_shown = path.display();
    match fs::remove_file(path) {
        Ok(()) => info!("removed {path_shown}, which names another subnet than this node's"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(format!(
                "cannot remove {path_shown}, which names another subnet than this node's: {error}; until it is gone, pods get addresses of another node"
            ));
        }
    }
    Ok(())
}

/// Whether a file holds a subnet that is not this one, or no single subnet.
fn names_another(text: &str, own: PerFamily<Option<IpNet>>) -> bool {
    let values = dotenv(text);
    let differs = |key: &str, own: Option<IpNet>| {
        let value = values.get(key).filter(|value| !value.is_empty());
        value.is_some_and(|value| single(value).map(|net: IpNet| net.trunc()) != own)
    };
    differs("FLANNEL_SUBNET", own.v4) || differs("FLANNEL_IPV6_SUBNET", own.v6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::NodeNetwork;

    fn env(subnet: &str) -> SubnetEnv {
        SubnetEnv {
            networks: PerFamily {
                v4: Some(NodeNetwork {
                    network: "10.5.0.0/16".parse().unwrap(),
                    subnet: subnet.parse().unwrap(),
                }),
                v6: None,
            },
            mtu: 1450,
            ip_masq: false,
        }
    }

    #[test]
    fn a_file_that_others_change_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/subnet.env");
        let mut kept = KeptEnv::new(path.clone(), env("10.5.72.0/24"));
        assert!(!kept.is_right());
        let expected = env("10.5.72.0/24").render();
        for harm in ["", "removed", "changed", "closed"] {
            match harm {
                "removed" => fs::remove_file(&path).unwrap(),
                "changed" => fs::write(&path, "FLANNEL_SUBNET=10.5.9.1/24\n").unwrap(),
                "closed" => {
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
                }
                _ => {}
            }
            kept.ensure();
            assert!(kept.is_right(), "{harm}");
            assert_eq!(fs::read_to_string(&path).unwrap(), expected, "{harm}");
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, MODE, "{harm}");
        }
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        kept.ensure();
        let after = fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(before, after, "what is right is left alone");
    }

    #[test]
    fn two_owners_of_one_file_are_reported_once_an_hour() {
        let follow = |looks| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("subnet.env");
            let mut owners = ["10.5.72.0/24", "10.5.9.0/24"].map(|subnet| {
                let kept = KeptEnv::new(path.clone(), env(subnet));
                (kept, env(subnet).render())
            });
            let start = Instant::now();
            for look in 0..looks {
                for (kept, expected) in &mut owners {
                    kept.ensure_at(start + Duration::from_secs(10 * look));
                    assert!(kept.is_right());
                    assert_eq!(fs::read_to_string(&path).unwrap(), *expected);
                }
            }
        };
        let log = weft_lab::log::Log::start();
        follow(2 * CHANGES_REPORTED_EVERY.as_secs() / 10);
        let lines = log.lines();
        let with = |words: &str| lines.iter().filter(|line| line.contains(words)).count();
        // Each owner: once at the first change, once an hour later, and what it wrote at its start.
        assert_eq!(with("was changed or removed"), 4, "{lines:?}");
        assert_eq!(with("since this was last said: 360;"), 2, "{lines:?}");
        assert_eq!(lines.len(), 6, "{lines:?}");
    }

    #[test]
    fn what_cannot_be_written_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("subnet.env");
        fs::create_dir(&path).unwrap();
        let mut kept = KeptEnv::new(path.clone(), env("10.5.72.0/24"));
        kept.ensure();
        assert!(!kept.is_right());
        fs::remove_dir(&path).unwrap();
        kept.ensure();
        assert!(kept.is_right());
    }

    #[test]
    fn another_subnet_is_known_in_every_form() {
        let v4 = Some("10.5.72.0/24".parse().unwrap());
        let v6 = Some("fd00:5:0:72::/64".parse().unwrap());
        let own = "FLANNEL_SUBNET=10.5.72.1/24\nFLANNEL_IPV6_SUBNET=fd00:5:0:72::1/64\n";
        for (text, of_v4, of_both) in [
            (own, true, false),
            ("FLANNEL_SUBNET=10.5.72.1/24\n", false, false),
            ("FLANNEL_SUBNET=10.5.9.1/24\n", true, true),
            ("FLANNEL_SUBNET=10.5.72.1/25\n", true, true),
            ("FLANNEL_SUBNET=10.5.72.1/24,10.5.9.1/24\n", true, true),
            ("FLANNEL_SUBNET=10.5.7\n", true, true),
            ("FLANNEL_SUBNET=\nFLANNEL_MTU=1450\n", false, false),
            ("", false, false),
        ] {
            let another = |v6| names_another(text, PerFamily { v4, v6 });
            assert_eq!(another(None), of_v4, "{text:?}");
            assert_eq!(another(v6), of_both, "{text:?}");
        }
    }
}
