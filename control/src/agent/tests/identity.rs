//! What a node is known by: its MAC, and the lease that it takes or gives back.

use super::*;
use crate::wire::MacAddr;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

/// Another node has a lease with this MAC, until this one has another.
struct Shared {
    leases: Leases,
    taken: Mutex<Vec<MacAddr>>,
    known: Option<LeaseAttrs>,
    released: Mutex<Vec<Lease>>,
    /// What is left of the lease.
    useless: bool,
}

impl Shared {
    fn of(subnet: &str) -> Shared {
        Shared {
            leases: Leases::of(subnet),
            taken: Mutex::default(),
            known: None,
            released: Mutex::default(),
            useless: false,
        }
    }

    /// The MACs that leases were asked for with.
    fn asked_macs(&self) -> Vec<MacAddr> {
        let asked = self.leases.asked().into_iter();
        asked.map(|(attrs, _)| attrs.macs()[0].unwrap()).collect()
    }
}

impl SubnetManager for Shared {
    fn store(&self) -> &'static str {
        "etcd"
    }

    async fn network_config(&self) -> Result<String, SubnetError> {
        self.leases.network_config().await
    }

    async fn acquire(
        &self,
        config: &NetworkConfig,
        attrs: &LeaseAttrs,
        previous: &Previous,
    ) -> Result<Lease, SubnetError> {
        let lease = self.leases.acquire(config, attrs, previous).await?;
        let mac = attrs.macs()[0].unwrap();
        if self.taken.lock().unwrap().contains(&mac) {
            return Err(SubnetError::MacTaken {
                mac,
                by: [192, 0, 2, 9].into(),
                key: "10.5.9.0-24".parse().unwrap(),
            });
        }
        let subnet = lease.subnet.filter(|_| !self.useless);
        Ok(Lease { subnet, ..lease })
    }

    async fn known(&self, _attrs: &LeaseAttrs) -> Option<LeaseAttrs> {
        self.known.clone()
    }

    async fn release(&self, lease: &Lease) {
        self.released.lock().unwrap().push(lease.clone());
    }

    async fn keep(&self, lease: Lease, margin: Duration) -> LeaseEnd {
        self.leases.keep(lease, margin).await
    }

    async fn watch(&self, own: &Lease, events: mpsc::Sender<LeaseEvent>) {
        self.leases.watch(own, events).await;
    }
}

fn mac_file(options: &AgentOptions) -> String {
    fs::read_to_string(options.backend.state_dir.join("flannel.1.mac")).unwrap()
}

#[test]
fn a_mac_that_another_node_has_is_replaced_before_the_lease_is_taken() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        let options = options(&dir, &[]);
        let leases = Shared::of("10.5.72.0/24");
        Node::start(&options, &leases).await.unwrap().stop().await;
        let first = leases.asked_macs()[0];
        assert_eq!(mac_file(&options), format!("{}\n", first));

        leases.taken.lock().unwrap().push(first);
        let node = Node::start(&options, &leases).await.unwrap();
        let [_, again, new] = leases.asked_macs()[..] else {
            panic!("{:?}", leases.asked_macs());
        };
        assert_eq!(again, first);
        assert_ne!(new, first);
        assert_eq!(mac_file(&options), format!("{}\n", new));
        assert_eq!(node.lease.attrs.macs()[0], Some(new));
        node.stop().await;

        Node::start(&options, &leases).await.unwrap().stop().await;
        assert_eq!(leases.asked_macs()[3..], [new], "it is kept");
    });
}

#[test]
fn without_a_place_for_it_the_mac_is_that_of_the_lease_or_a_new_one() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        let options = options(&dir, &[]);
        // Root may write to a directory of any mode, and nobody into a file.
        symlink("/dev/null", &options.backend.state_dir).unwrap();
        let mut leases = Shared::of("10.5.72.0/24");
        Node::start(&options, &leases).await.unwrap().stop().await;
        let (attrs, _) = leases.leases.asked().remove(0);
        leases.known = Some(attrs.clone());
        for _ in 0..2 {
            let node = Node::start(&options, &leases).await.unwrap();
            assert_eq!(node.lease.attrs, attrs);
            node.stop().await;
        }
        // Another node may have it, too.
        leases.taken.lock().unwrap().extend(attrs.macs()[0]);
        let node = Node::start(&options, &leases).await.unwrap();
        assert_ne!(node.lease.attrs, attrs);
        node.stop().await;
    });
}

/// Have a directory that not even root can write to, in the mounts of this thread alone.
fn make_read_only(dir: &std::path::Path) {
    weft_lab::netns::isolate_mounts().unwrap();
    let dir = dir.display();
    for line in [
        format!("--bind {dir} {dir}"),
        format!("-o remount,bind,ro {dir}"),
    ] {
        let mount = Command::new("mount").args(line.split(' ')).status();
        assert!(mount.unwrap().success(), "mount {line}");
    }
}

#[test]
fn a_copied_disk_that_cannot_be_written_has_the_mac_of_its_lease_at_each_start() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        let options = options(&dir, &[]);
        let mut leases = Shared::of("10.5.72.0/24");
        Node::start(&options, &leases).await.unwrap().stop().await;
        let copied = leases.asked_macs()[0];
        leases.taken.lock().unwrap().push(copied);
        make_read_only(&options.backend.state_dir);
        let start = async |leases: &Shared| {
            let node = Node::start(&options, leases).await.unwrap();
            let attrs = node.lease.attrs.clone();
            node.stop().await;
            attrs
        };
        let own = start(&leases).await;
        leases.known = Some(own.clone());
        for _ in 0..2 {
            assert_eq!(start(&leases).await, own);
        }
        // Another node may have that, too, or the own lease the one that was copied.
        leases.taken.lock().unwrap().extend(own.macs()[0]);
        assert_ne!(start(&leases).await, own);
        leases.known = Some(leases.leases.asked().remove(0).0);
        assert_ne!(start(&leases).await.macs()[0], Some(copied));
        let state = options.backend.state_dir.display().to_string();
        let unmounted = Command::new("umount").arg(state).status();
        assert!(unmounted.unwrap().success());
    });
}

#[test]
fn a_start_that_fails_gives_back_the_lease_that_it_made() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        let options = options(&dir, &[]);
        let mut leases = Shared::of("10.5.72.0/24");
        leases.useless = true;
        let mut signals = Signals::install().unwrap();
        let mut post = vacant(&options);
        let error = run_node(&options, &leases, &mut signals, &mut post).await;
        assert!(error.unwrap_err().to_string().contains("no IPv4 subnet"));
        assert_eq!(leases.released.lock().unwrap().len(), 1);
    });
}

#[test]
fn a_start_that_fails_keeps_the_subnet_that_pods_have() {
    netns::run(async |_| {
        let leases = Shared::of("10.5.72.0/24");
        let config = NetworkConfig::parse(&leases.leases.text()).unwrap();
        let attrs = LeaseAttrs::alloc(Some([192, 0, 2, 1].into()), None);
        let lease = leases
            .leases
            .acquire(&config, &attrs, &Previous::default())
            .await
            .unwrap();
        for (subnet, released) in [("10.5.72.0/24", 0), ("10.5.73.0/24", 1)] {
            let previous = Previous {
                subnet: Some(subnet.parse().unwrap()),
                ..Previous::default()
            };
            grant::give_back(&leases, &lease, &previous).await;
            assert_eq!(leases.released.lock().unwrap().len(), released, "{subnet}");
        }
    });
}
