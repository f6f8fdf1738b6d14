use super::*;
use std::os::unix::fs::PermissionsExt;

fn attachment(network: &str, container_id: &str, ifname: &str) -> Attachment {
    Attachment {
        network: network.into(),
        container_id: container_id.into(),
        ifname: ifname.into(),
    }
}

fn text(of: &Attachment, dir: &Path) -> Option<Vec<u8>> {
    of.load(dir).unwrap().map(|kept| kept.text)
}

fn remove(of: &Attachment, dir: &Path) {
    of.load(dir).unwrap().unwrap().remove().unwrap();
}

#[test]
fn kept_for_the_owner_only_and_forgotten_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("cni/flannel");
    let a = attachment("n", "a", "eth0");
    assert_eq!(attachments(&dir, "n"), Ok(vec![]));
    assert_eq!(a.load(&dir), Ok(None));
    a.save(&dir, b"one").unwrap();
    a.save(&dir, b"two").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let network = dir.join(".networks/n");
    for dir in [&dir, &dir.join(".networks"), &network] {
        assert_eq!(mode(dir), 0o700);
    }
    assert_eq!(mode(&network.join("a:eth0")), 0o600);
    assert_eq!(text(&a, &dir), Some(b"two".to_vec()));
    assert_eq!(fs::read_dir(&network).unwrap().count(), 1, "nothing else");
    fs::write(network.join(".tmp-left"), "").unwrap();
    assert_eq!(attachments(&dir, "n"), Ok(vec![a.clone()]));
    let kept = a.load(&dir).unwrap().unwrap();
    kept.remove().unwrap();
    kept.remove().unwrap();
    assert_eq!(attachments(&dir, "n"), Ok(vec![]));
    assert!(fs::symlink_metadata(dir.join("a")).is_err());
}

#[test]
fn each_attachment_has_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let all = [
        attachment("n", "a", "eth0"),
        attachment("n", "a", "net1"),
        attachment("n.a", "a", "eth0"),
        attachment("a", "n", "eth0"),
        attachment("a", "n.a", "eth0"),
    ];
    for (number, one) in all.iter().enumerate() {
        one.save(dir, number.to_string().as_bytes()).unwrap();
    }
    assert_eq!(attachments(dir, "n"), Ok(all[..2].to_vec()));
    for (number, one) in all.iter().enumerate() {
        assert_eq!(text(one, dir), Some(number.to_string().into_bytes()));
        remove(one, dir);
        assert_eq!(text(one, dir), None, "{one:?}");
    }
}

/// The way back: flannel's plugin reads and removes the file that has the container's name.
#[test]
fn flannels_plugin_finds_the_first_attachment() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (eth0, net1) = (attachment("n", "a", "eth0"), attachment("m", "a", "net1"));
    eth0.save(dir, b"first").unwrap();
    net1.save(dir, b"second").unwrap();
    assert_eq!(fs::read(dir.join("a")).unwrap(), b"first");
    remove(&net1, dir);
    assert_eq!(fs::read(dir.join("a")).unwrap(), b"first");
    fs::remove_file(dir.join("a")).unwrap();
    assert_eq!(text(&eth0, dir), Some(b"first".to_vec()));
    remove(&eth0, dir);
    // The other order.
    eth0.save(dir, b"first").unwrap();
    net1.save(dir, b"second").unwrap();
    remove(&eth0, dir);
    assert!(fs::symlink_metadata(dir.join("a")).is_err());
    assert_eq!(text(&net1, dir), Some(b"second".to_vec()));
}

#[test]
fn what_flannels_plugin_kept_is_its_networks() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let conf = br#"{"name":"n","type":"bridge"}"#;
    fs::write(dir.join("a"), conf).unwrap();
    fs::write(dir.join("damaged"), "{").unwrap();
    let (n, m) = (attachment("n", "a", "eth0"), attachment("m", "a", "eth0"));
    assert_eq!(text(&m, dir), None);
    assert_eq!(text(&n, dir), Some(conf.to_vec()));
    assert_eq!(attachments(dir, "m"), Ok(vec![]));
    assert_eq!(attachments(dir, "n"), Ok(vec![attachment("n", "a", "")]));
    m.save(dir, b"own").unwrap();
    assert_eq!(fs::read(dir.join("a")).unwrap(), conf, "not overwritten");
    remove(&m, dir);
    remove(&n, dir);
    assert!(!dir.join("a").exists());
}

#[test]
fn failures_name_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let taken = dir.path().join("taken");
    fs::write(&taken, "").unwrap();
    let error = attachment("n", "a", "eth0").save(&taken, b"x").unwrap_err();
    assert_eq!(error.code, Code::Io as u32);
    assert!(error.msg.contains("taken/.networks/n/a:eth0"), "{error}");
}
