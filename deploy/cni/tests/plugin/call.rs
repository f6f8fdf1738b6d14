//! Calling the plugin, and the stacks of upstream's tests.

use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// The binary under test.
pub(crate) const FLANNEL: &str = env!("CARGO_BIN_EXE_flannel");

/// A `subnet.env` of upstream's tests and what the plugin makes of it.
pub(crate) struct Stack {
    pub(crate) container_id: &'static str,
    pub(crate) networks: &'static [&'static str],
    pub(crate) subnets: &'static [&'static str],
    /// First lines of `subnet.env`.
    pub(crate) lines: &'static str,
}

pub(crate) const V4: Stack = Stack {
    container_id: "some-container-id-ipv4",
    networks: &["10.1.0.0/16"],
    subnets: &["10.1.17.0/24"],
    lines: "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\n",
};

pub(crate) const V4_TWICE: Stack = Stack {
    container_id: "some-container-id-ipv4-multiple",
    networks: &["10.1.0.0/16", "192.168.0.0/16"],
    subnets: &["10.1.17.0/24"],
    lines: "FLANNEL_NETWORK=10.1.0.0/16,192.168.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\n",
};

pub(crate) const V6: Stack = Stack {
    container_id: "some-container-id-ipv6",
    networks: &["fc00::/48"],
    subnets: &["fc00::/64"],
    lines: "FLANNEL_IPV6_NETWORK=fc00::/48\nFLANNEL_IPV6_SUBNET=fc00::1/64\n",
};

pub(crate) const DUAL: Stack = Stack {
    container_id: "some-container-id-dual-stack",
    networks: &["10.1.0.0/16", "fc00::/48"],
    subnets: &["10.1.17.0/24", "fc00::/64"],
    lines: "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\n\
            FLANNEL_IPV6_NETWORK=fc00::/48\nFLANNEL_IPV6_SUBNET=fc00::1/64\n",
};

impl Stack {
    /// The configuration for the delegate, as upstream's tests have it.
    pub(crate) fn rendered(&self) -> Value {
        let routes: Vec<_> = self.networks.iter().map(|n| json!({"dst": n})).collect();
        let ranges: Vec<_> = self
            .subnets
            .iter()
            .map(|n| json!([{"subnet": n}]))
            .collect();
        json!({
            "ipMasq": false,
            "ipam": {"ranges": ranges, "routes": routes, "type": "host-local"},
            "isGateway": true,
            "mtu": 1472,
            "name": "cni-flannel",
            "type": "bridge",
        })
    }
}

/// Files for calls: `subnet.env`, the data directory, a directory for delegates.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
}

impl Bench {
    pub(crate) fn new(stack: &Stack) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let lines = stack.lines;
        let env = format!("{lines}FLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n");
        fs::write(dir.path().join("subnet.env"), env).unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        Bench { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What is kept for a container, by the name that flannel's plugin gives it.
    pub(crate) fn state(&self, container_id: &str) -> PathBuf {
        self.path("data").join(container_id)
    }

    /// A delegate of this name that runs a shell script in the bench's directory.
    pub(crate) fn delegate(&self, name: &str, script: &str) {
        let file = self.path("bin").join(name);
        let dir = self.dir.path().display();
        weft_lab::script(file, &format!("cd {dir}\n{script}")).unwrap();
    }

    /// The plugin's configuration, with the keys of `more` added.
    pub(crate) fn conf(&self, more: Value) -> Value {
        let mut conf = json!({
            "name": "cni-flannel",
            "type": "flannel",
            "subnetFile": self.path("subnet.env"),
            "dataDir": self.path("data"),
        });
        let more = more.as_object().unwrap().clone();
        conf.as_object_mut().unwrap().extend(more);
        conf
    }

    /// Call the plugin for `eth0` of a container, with the delegates of this bench.
    pub(crate) fn call(&self, command: &str, container_id: &str, conf: &Value) -> Answer {
        self.call_for(command, (container_id, "eth0"), conf)
    }

    /// The same for any interface.
    pub(crate) fn call_for(&self, command: &str, interface: (&str, &str), conf: &Value) -> Answer {
        let mut call = Command::new(FLANNEL);
        call.env("CNI_PATH", self.path("bin"));
        call.env("CNI_NETNS", "/run/netns/none");
        call_with(call, command, interface, conf)
    }
}

/// Finish `call`, which starts the plugin somewhere, for an interface of a container.
pub(crate) fn call_with(
    mut call: Command,
    command: &str,
    (container_id, ifname): (&str, &str),
    conf: &Value,
) -> Answer {
    let mut child = call
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", container_id)
        .env("CNI_IFNAME", ifname)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A plugin that refuses the variables does not read the rest.
    let _ = stdin.write_all(conf.to_string().as_bytes());
    drop(stdin);
    Answer(child.wait_with_output().unwrap())
}

/// How a call ended.
pub(crate) struct Answer(pub(crate) Output);

impl Answer {
    pub(crate) fn stdout(&self) -> &str {
        std::str::from_utf8(&self.0.stdout).unwrap()
    }

    /// The result of a call that must have succeeded; null if it printed none.
    pub(crate) fn result(&self) -> Value {
        let stderr = String::from_utf8_lossy(&self.0.stderr);
        assert!(self.0.status.success(), "{} {stderr}", self.stdout());
        match self.stdout() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap(),
        }
    }

    /// Code and message of a call that must have failed.
    pub(crate) fn error(&self) -> (u64, String) {
        assert_eq!(self.0.status.code(), Some(1), "{}", self.stdout());
        let error: Value = serde_json::from_str(self.stdout()).unwrap();
        let msg = error["msg"].as_str().unwrap().to_owned();
        assert!(!msg.contains('\n'), "{msg}");
        assert!(error["cniVersion"].is_string(), "{error}");
        (error["code"].as_u64().unwrap(), msg)
    }
}

/// The JSON in a file.
pub(crate) fn json_in(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}
