//! Where the API server is, and what tells it who asks: by a kubeconfig, by a URL alone, or by the
//! service account of the pod.
//!
//! Tokens and certificates are replaced while the agent runs: a token of a pod lives for an hour.
//! So all files are read again from time to time, and what is different makes a new client.

use crate::subnets::kube::options::KubeOptions;
use crate::text::{one_line, shown};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use kube::config::Kubeconfig;
use kube::{Client, Config};
use std::error::Error;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::time::Duration;
use tower::ServiceBuilder;

/// How long a connection may be silent before the kernel asks whether the other side is there, how
/// often it asks, and how many times in vain.
const KEEP_ALIVE: (Duration, Duration, u32) = (Duration::from_secs(20), Duration::from_secs(10), 3);

/// A way to the API server.
#[derive(Clone)]
pub(super) struct Access {
    pub(super) client: Client,
    /// For people.
    pub(super) url: String,
    /// A mark of all that was read.
    pub(super) mark: u64,
}

/// Read all files and make a client; nothing is sent. The error is one line. Must be called inside
/// a tokio runtime.
pub(super) fn load(options: &KubeOptions, connect_timeout: Duration) -> Result<Access, String> {
    let mut hasher = DefaultHasher::new();
    let config = match (&options.kubeconfig, &options.api_url) {
        (Some(path), url) => of_file(path, url.as_deref(), &mut hasher)?,
        (None, Some(url)) => Config::new(uri(url)?),
        (None, None) => of_pod(&mut hasher)?,
    };
    config.cluster_url.to_string().hash(&mut hasher);
    config.root_cert.hash(&mut hasher);
    let url = config.cluster_url.to_string();
    let url = url.trim_end_matches('/').to_owned();
    let client = client(&config, connect_timeout).map_err(|error| {
        let from = match &options.kubeconfig {
            Some(path) => format!("{} (-kubeconfig-file)", path.display()),
            None => "what the pod's service account has".to_owned(),
        };
        format!("{from} cannot be used: {}", innermost(&error))
    })?;
    Ok(Access {
        client,
        url,
        mark: hasher.finish(),
    })
}

fn of_file(path: &Path, url: Option<&str>, hasher: &mut impl Hasher) -> Result<Config, String> {
    let name = format!("{} (-kubeconfig-file)", path.display());
    let failed = |error: &dyn Error| format!("{name} cannot be used: {}", innermost(error));
    let mut file = Kubeconfig::read_from(path).map_err(|error| failed(&error))?;
    if let Some(url) = url {
        for cluster in &mut file.clusters {
            if let Some(cluster) = &mut cluster.cluster {
                cluster.server = Some(url.to_owned());
            }
        }
    }
    let proxies = file
        .clusters
        .iter()
        .filter_map(|named| named.cluster.as_ref());
    if proxies
        .into_iter()
        .any(|cluster| cluster.proxy_url.is_some())
    {
        return Err(format!(
            "{name} has a proxy-url: the API server must be reached without a proxy"
        ));
    }
    let mut config = Config::try_from(file).map_err(|error| failed(&error))?;
    config.cluster_url = uri(&config.cluster_url.to_string())?;
    let user = &mut config.auth_info;
    if let Some(exec) = &user.exec {
        let command = shown(exec.command.as_deref().unwrap_or_default());
        return Err(format!(
            "{name} gets its credentials from a program ({command}), which weft does not run: give it a tokenFile, a token or a client certificate"
        ));
    }
    if let Some(provider) = &user.auth_provider {
        let provider = shown(&provider.name);
        return Err(format!(
            "{name} has the auth-provider {provider}, which weft does not know: give it a tokenFile, a token or a client certificate"
        ));
    }
    if let Some(file) = user.token_file.take().filter(|_| user.token.is_none()) {
        user.token = Some(token(Path::new(&file), hasher)?.into());
    }
    for file in [&user.client_certificate, &user.client_key]
        .into_iter()
        .flatten()
    {
        let content = fs::read(file).map_err(|error| format!("{file}: {error}"))?;
        content.hash(hasher);
    }
    fs::read(path).unwrap_or_default().hash(hasher);
    Ok(config)
}

fn of_pod(hasher: &mut impl Hasher) -> Result<Config, String> {
    let mut config = Config::incluster().map_err(|error| {
        format!(
            "-kube-subnet-mgr finds no service account, as outside of a pod ({}): give -kubeconfig-file or -kube-api-url",
            innermost(&error)
        )
    })?;
    // It is read again together with the rest.
    config.root_cert_file = None;
    if let Some(file) = config.auth_info.token_file.take() {
        config.auth_info.token = Some(token(Path::new(&file), hasher)?.into());
    }
    Ok(config)
}

/// A token, without what an editor leaves around it.
fn token(file: &Path, hasher: &mut impl Hasher) -> Result<String, String> {
    let text = fs::read_to_string(file);
    let text = text.map_err(|error| format!("the token file {}: {error}", file.display()))?;
    let token = text.trim().to_owned();
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || !c.is_ascii();
    if token.is_empty() || token.contains(is_odd) {
        let file = file.display();
        return Err(format!("the token file {file} does not hold one token"));
    }
    token.hash(hasher);
    Ok(token)
}

/// The URL of a server.
fn uri(text: &str) -> Result<hyper::Uri, String> {
    let uri: Option<hyper::Uri> = text.parse().ok();
    let is_right = |uri: &hyper::Uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
    };
    uri.filter(is_right).ok_or_else(|| {
        let text = shown(text);
        format!("the API server's URL {text} must be like https://10.0.0.1:6443")
    })
}

fn client(config: &Config, connect_timeout: Duration) -> Result<Client, kube::Error> {
    let (time, interval, retries) = KEEP_ALIVE;
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(connect_timeout));
    connector.set_keepalive(Some(time));
    connector.set_keepalive_interval(Some(interval));
    connector.set_keepalive_retries(Some(retries));
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(tower::BoxError::from)
        .service(
            hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector),
        );
    Ok(Client::new(service, &config.default_namespace))
}

fn innermost(error: &dyn Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    match std::ptr::addr_eq(deepest, error) {
        true => one_line(&error.to_string()),
        false => one_line(&format!("{error}: {deepest}")),
    }
}

#[cfg(test)]
mod tests;
