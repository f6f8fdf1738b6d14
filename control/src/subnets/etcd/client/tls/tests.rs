use super::*;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

/// A certificate for itself, and its key.
fn pair(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// Options that name three files of `dir`, which hold usable texts.
fn options(dir: &TempDir) -> EtcdOptions {
    let (ca, _) = pair("ca.example");
    let (cert, key) = pair("client.example");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        Some(path)
    };
    EtcdOptions {
        ca_file: file("ca.pem", &ca),
        cert_file: file("cert.pem", &cert),
        key_file: file("key.pem", &key),
        ..EtcdOptions::default()
    }
}

fn complaint(options: &EtcdOptions) -> String {
    match Tls::new(options) {
        Ok(_) => panic!("accepted"),
        Err(complaint) => complaint,
    }
}

#[test]
fn good_files_are_taken() {
    let dir = TempDir::new().unwrap();
    let tls = Tls::new(&options(&dir)).unwrap();
    let endpoint = Endpoint::from_static("https://127.0.0.1:2379");
    tls.secure(endpoint).unwrap();
}

#[test]
fn a_bad_file_is_named_with_its_flag() {
    let (other, _) = pair("other.example");
    let text = "no PEM in here";
    let broken = "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n";
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (name, text, flag, words) in [
        ("ca.pem", None, "-etcd-cafile", "cannot read"),
        ("ca.pem", Some(text), "-etcd-cafile", "holds no certificate"),
        ("ca.pem", Some(broken), "-etcd-cafile", "malformed"),
        ("ca.pem", Some(nonsense), "-etcd-cafile", "malformed"),
        ("cert.pem", None, "-etcd-certfile", "cannot read"),
        (
            "cert.pem",
            Some(text),
            "-etcd-certfile",
            "holds no certificate",
        ),
        ("cert.pem", Some(broken), "-etcd-certfile", "malformed"),
        (
            "cert.pem",
            Some(nonsense),
            "-etcd-certfile",
            "cannot be used",
        ),
        ("cert.pem", Some(&other), "-etcd-keyfile", "does not belong"),
        ("key.pem", None, "-etcd-keyfile", "cannot read"),
        (
            "key.pem",
            Some(text),
            "-etcd-keyfile",
            "holds no unencrypted private key",
        ),
    ] {
        let dir = TempDir::new().unwrap();
        let options = options(&dir);
        let path = dir.path().join(name);
        match text {
            None => fs::remove_file(&path).unwrap(),
            Some(text) => fs::write(&path, text).unwrap(),
        }
        let complaint = complaint(&options);
        let path = path.display().to_string();
        for word in [path.as_str(), flag, words] {
            assert!(complaint.contains(word), "{name}, {words}: {complaint}");
        }
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
}

#[test]
fn keys_are_never_shown() {
    let dir = TempDir::new().unwrap();
    let options = options(&dir);
    let key = options.key_file.as_ref().unwrap();
    fs::write(
        key,
        "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
    )
    .unwrap();
    let complaint = complaint(&options);
    assert!(
        !complaint.contains("c2VjcmV0") && !complaint.contains("secret"),
        "{complaint}"
    );
}

#[test]
fn changed_files_are_read_again_and_bad_ones_are_not_taken() {
    let dir = TempDir::new().unwrap();
    let options = options(&dir);
    let tls = Tls::new(&options).unwrap();
    assert!(!tls.refresh(false), "nothing has changed");
    assert!(!tls.refresh(true), "nothing has changed");

    let (cert, key) = pair("client.example");
    fs::write(options.cert_file.as_ref().unwrap(), &cert).unwrap();
    assert!(!tls.refresh(false), "the certificate without its key");
    assert!(
        tls.state()
            .complaint
            .as_ref()
            .unwrap()
            .contains("does not belong")
    );
    fs::write(options.key_file.as_ref().unwrap(), &key).unwrap();
    assert!(tls.refresh(false), "both");
    assert_eq!(tls.state().complaint, None);
    assert!(!tls.refresh(false), "once");

    fs::remove_file(options.ca_file.as_ref().unwrap()).unwrap();
    assert!(!tls.refresh(true), "a file that is missing");
    assert!(
        tls.state()
            .complaint
            .as_ref()
            .unwrap()
            .contains("cannot read")
    );
    let endpoint = Endpoint::from_static("https://127.0.0.1:2379");
    tls.secure(endpoint).unwrap();
}

#[test]
fn a_file_written_again_with_the_same_text_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let options = options(&dir);
    let tls = Tls::new(&options).unwrap();
    let path = options.ca_file.as_ref().unwrap();
    let text = fs::read(path).unwrap();
    fs::write(path, text).unwrap();
    assert!(!tls.refresh(false));
}
