//! weft's image, and one that pods are made of.

use super::runtime::BUSYBOX;
use crate::cluster::weft;
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use weft_lab::run;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// weft's image with the programs under test, by the script that makes it.
pub(super) fn image() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(make_image)
}

fn make_image() -> PathBuf {
    let mut script = Command::new(format!("{ROOT}/scripts/image.sh"));
    script.env(
        format!("WEFT_BINARIES_{}", arch()),
        weft().parent().unwrap(),
    );
    run(&mut script).unwrap();
    PathBuf::from(format!("{ROOT}/target/image/weft-{}.tar", arch()))
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// An image with the machine's busybox, which waits.
pub(super) fn busybox(dir: &Path) -> PathBuf {
    let root = dir.join("busybox");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::create_dir_all(root.join("www")).unwrap();
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in ["sh", "cat", "ping", "wget", "httpd", "sleep"] {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("www/page"), page()).unwrap();
    let (layer, archive) = (dir.join("layer.tar"), dir.join("busybox.tar"));
    let tar = |from: &Path, to: &Path, what: &[&str]| {
        let mut tar = Command::new("tar");
        run(tar.arg("-C").arg(from).arg("-cf").arg(to).args(what)).unwrap();
    };
    tar(&root, &layer, &["."]);
    let digest = run(Command::new("sha256sum").arg(&layer)).unwrap();
    let digest = format!("sha256:{}", digest.split(' ').next().unwrap());
    let config = json!({
        "architecture": arch(), "os": "linux",
        "config": {"Entrypoint": ["/bin/sleep", "100000"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    });
    let manifest = json!([{
        "Config": "config.json", "RepoTags": [BUSYBOX], "Layers": ["layer.tar"],
    }]);
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
    tar(
        dir,
        &archive,
        &["manifest.json", "config.json", "layer.tar"],
    );
    archive
}

pub(super) fn page() -> String {
    (0..200_000).map(|line| format!("{line}\n")).collect()
}
