//! containerd on a node, and a client of its container runtime interface.
//!
//! It sees the node's network, processes and mounts of its own, and fresh directories in place
//! of those of the machine that a cluster's node has: `/run`, `/opt`, `/var/lib` and `/etc/cni`.
//! All of it goes with the process.

use hyper_util::rt::TokioIo;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_prost::ProstCodec;
use weft_lab::{Lab, Namespace, Process, run, wait_until};

/// How long containerd may take to listen.
const START: Duration = Duration::from_secs(30);

/// How long one call may take.
const CALL: Duration = Duration::from_secs(60);

/// The image of pods that hold a network namespace, and of pods that do something with it.
pub(super) const BUSYBOX: &str = "docker.io/library/busybox:1";

/// What is made before containerd starts; `$1` is the directory for what is to be seen outside.
const PREPARE: &str = r#"
set -e
mount --make-rprivate /
mkdir "$1/etc" "$1/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/etc,workdir=$1/work" /etc
rm -rf /etc/cni
for dir in /run /opt /var/lib; do mount -t tmpfs tmpfs $dir; done
mkdir -p /run/netns /opt/cni/bin /etc/cni/net.d
cp /usr/lib/cni/* /opt/cni/bin/
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
exec containerd --config "$1/config.toml"
"#;

/// containerd on one node.
pub(super) struct Runtime {
    pub(super) node: Namespace,
    pub(super) dir: PathBuf,
    process: Process,
    tokio: tokio::runtime::Runtime,
    channel: Channel,
}

impl Runtime {
    /// Start it on a node of the lab, with these image archives.
    pub(super) fn start(lab: &Lab, number: usize, images: &[&Path]) -> Runtime {
        let node = lab.node(number).ns.clone();
        let dir = lab.dir().join(format!("containerd{number}"));
        std::fs::create_dir(&dir).unwrap();
        let socket = dir.join("containerd.sock");
        std::fs::write(dir.join("config.toml"), config(&dir)).unwrap();
        let mut command = node.command("unshare");
        command.args([
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
            "sh",
            "-c",
        ]);
        command.args([PREPARE, "sh"]).arg(&dir);
        let mut process = node.spawn(command, &dir.join("log")).unwrap();
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let at = socket.clone();
        let connect = tower::service_fn(move |_: Uri| {
            let at = at.clone();
            async move { UnixStream::connect(at).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://containerd").timeout(CALL);
        let channel = {
            let _inside = tokio.enter();
            endpoint.connect_with_connector_lazy(connect)
        };
        let up = wait_until(START, || {
            let version = ["--address", socket.to_str().unwrap(), "version"];
            let listens = node.run(&[&["ctr"][..], &version].concat()).is_ok();
            listens || process.ended().unwrap().is_some()
        });
        let runtime = Runtime {
            node,
            dir,
            process,
            tokio,
            channel,
        };
        assert!(
            up && socket.exists(),
            "containerd said: {}",
            runtime.process.log()
        );
        for image in images {
            runtime.ctr(&["images", "import", image.to_str().unwrap()]);
        }
        runtime
    }

    /// Run `ctr` with these words.
    pub(super) fn ctr(&self, words: &[&str]) -> String {
        let socket = self.dir.join("containerd.sock");
        let mut command = self.node.command("ctr");
        command.arg("--address").arg(socket);
        command.args(["--namespace", "k8s.io"]).args(words);
        run(&mut command).unwrap()
    }

    /// Run a command among the node's processes, and with its mounts.
    pub(super) fn inside(&self, words: &[&str]) -> weft_lab::Result<String> {
        let mut command = self.node.command("nsenter");
        command.args(["--mount", "--pid", "--target"]);
        command.arg(self.containerd().to_string()).args(words);
        run(&mut command)
    }

    /// The process that sees what containers are mounted from, by its number outside.
    fn containerd(&self) -> u32 {
        let children = format!("/proc/{0}/task/{0}/children", self.process.pid());
        let children = std::fs::read_to_string(children).unwrap();
        children.trim().parse().unwrap()
    }

    /// Call a method of the service; its answer, or what is wrong.
    pub(super) fn call<Q, A>(&self, method: &str, request: Q) -> Result<A, String>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let path = format!("/runtime.v1.RuntimeService/{method}");
        let path: PathAndQuery = path.parse().unwrap();
        let answered = self.tokio.block_on(async {
            let mut client = Grpc::new(self.channel.clone());
            client.ready().await.map_err(|error| error.to_string())?;
            let codec = ProstCodec::<Q, A>::default();
            let answer = client
                .unary(tonic::Request::new(request), path, codec)
                .await;
            answer.map_err(|status| status.message().to_owned())
        });
        let answered = answered.map(tonic::Response::into_inner);
        answered.map_err(|error| format!("{method}: {error}; {}", self.process.log()))
    }
}

fn config(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"version = 2
root = "{dir}/root"
state = "/run/containerd"
[grpc]
address = "{dir}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{BUSYBOX}"
# Controllers are the machine's to give. The list of devices holds all the same.
disable_cgroup = true
# So is CAP_SYS_RESOURCE.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"#
    )
}
