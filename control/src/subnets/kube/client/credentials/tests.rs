use super::*;
use std::path::PathBuf;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(5);

/// A kubeconfig whose user and cluster have these lines.
fn kubeconfig(dir: &TempDir, cluster: &str, user: &str) -> KubeOptions {
    let path: PathBuf = dir.path().join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: {{cluster: k, user: u}}\nclusters:\n- name: k\n  cluster: {cluster}\nusers:\n- name: u\n  user: {user}\n"
    );
    fs::write(&path, text).unwrap();
    KubeOptions {
        kubeconfig: Some(path),
        ..KubeOptions::default()
    }
}

fn reason(options: &KubeOptions) -> String {
    match load(options, LIMIT) {
        Ok(_) => panic!("it can be used"),
        Err(reason) => {
            assert!(!reason.contains('\n'), "{reason}");
            reason
        }
    }
}

const SERVER: &str = "{server: 'http://127.0.0.1:8080'}";

#[tokio::test]
async fn a_token_file_is_read_again_without_what_is_around_the_token() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("token"), "abc.def\n").unwrap();
    // Beside the kubeconfig.
    let options = kubeconfig(&dir, SERVER, "{tokenFile: token}");
    let first = load(&options, LIMIT).unwrap();
    assert_eq!(first.url, "http://127.0.0.1:8080");
    assert_eq!(load(&options, LIMIT).unwrap().mark, first.mark);
    fs::write(dir.path().join("token"), "ghi").unwrap();
    assert_ne!(load(&options, LIMIT).unwrap().mark, first.mark);
    for text in ["", "\n", "two words", "ctrl\u{7}"] {
        fs::write(dir.path().join("token"), text).unwrap();
        assert!(
            reason(&options).ends_with("does not hold one token"),
            "{text:?}"
        );
    }
    fs::remove_file(dir.path().join("token")).unwrap();
    assert!(reason(&options).starts_with("the token file "));
}

#[tokio::test]
async fn a_url_beside_a_kubeconfig_names_the_server() {
    let dir = TempDir::new().unwrap();
    let mut options = kubeconfig(&dir, SERVER, "{token: x}");
    options.api_url = Some("https://10.0.0.1:6443/".to_owned());
    let access = load(&options, LIMIT).unwrap();
    assert_eq!(access.url, "https://10.0.0.1:6443");
    let alone = KubeOptions {
        kubeconfig: None,
        ..options.clone()
    };
    assert_eq!(load(&alone, LIMIT).unwrap().url, "https://10.0.0.1:6443");
    for url in [
        "",
        "10.0.0.1:6443",
        "ftp://10.0.0.1",
        "https://",
        "http://a b",
    ] {
        let options = KubeOptions {
            api_url: Some(url.to_owned()),
            kubeconfig: None,
            ..options.clone()
        };
        assert!(reason(&options).contains("must be like https://"), "{url}");
    }
}

#[tokio::test]
async fn what_weft_does_not_do_is_said() {
    let dir = TempDir::new().unwrap();
    let exec = "{exec: {apiVersion: client.authentication.k8s.io/v1, command: aws, args: [eks]}}";
    assert!(reason(&kubeconfig(&dir, SERVER, exec)).contains("a program (aws)"));
    let provider = "{auth-provider: {name: gcp, config: {}}}";
    assert!(reason(&kubeconfig(&dir, SERVER, provider)).contains("auth-provider gcp"));
    let proxied = "{server: 'http://127.0.0.1:8080', proxy-url: 'http://10.0.0.9:3128'}";
    assert!(reason(&kubeconfig(&dir, proxied, "{}")).contains("has a proxy-url"));
}

#[tokio::test]
async fn a_kubeconfig_that_is_none_is_one_line_with_its_name() {
    let dir = TempDir::new().unwrap();
    let good = kubeconfig(&dir, SERVER, "{}");
    load(&good, LIMIT).unwrap_or_else(|reason| panic!("{reason}"));
    let path = good.kubeconfig.clone().unwrap();
    for text in [
        "",
        "{",
        "a: [",
        "\u{0}\u{1}",
        "current-context: x\n",
        "- 1\n- 2\n",
    ] {
        fs::write(&path, text).unwrap();
        assert!(
            reason(&good).contains("kubeconfig (-kubeconfig-file)"),
            "{text:?}"
        );
    }
    let tls = "{server: 'https://127.0.0.1:1', certificate-authority: ca.pem}";
    let missing = reason(&kubeconfig(&dir, tls, "{}"));
    assert!(missing.contains("ca.pem"), "{missing}");
    fs::write(dir.path().join("ca.pem"), "no PEM").unwrap();
    let half = "{server: 'https://127.0.0.1:1'}";
    let cert = reason(&kubeconfig(
        &dir,
        half,
        "{client-certificate: no.pem, client-key: no.key}",
    ));
    assert!(cert.contains("no.pem"), "{cert}");
}
