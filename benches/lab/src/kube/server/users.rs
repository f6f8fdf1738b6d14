//! Tokens, certificates and kubeconfigs.

use super::ApiServer;
use crate::etcd::pki::Pki;
use crate::kube::access::{ADMIN, Credentials, service_account};
use crate::kube::flannel::USER;
use crate::kube::strategy;
use crate::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

impl ApiServer {
    /// The certificate of its authority.
    pub fn ca_pem(&self) -> String {
        fs::read_to_string(self.pki().ca()).unwrap_or_default()
    }

    fn pki(&self) -> MutexGuard<'_, Pki> {
        self.pki.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn credentials(&self) -> MutexGuard<'_, Credentials> {
        self.shared
            .credentials
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The token of flannel's service account.
    pub fn token(&self) -> String {
        let credentials = self.credentials();
        let mut tokens = credentials.tokens.iter();
        let found = tokens.find(|(_, user)| *user == USER);
        found.map(|(token, _)| token.clone()).unwrap_or_default()
    }

    /// A further token of any user.
    pub fn issue_token(&self, user: &str) -> String {
        let token = format!("lab.{}.{}", strategy::uid(), strategy::uid());
        self.credentials()
            .tokens
            .insert(token.clone(), user.to_owned());
        token
    }

    /// Give flannel's service account another token; the old ones are worth nothing any more.
    pub fn rotate_token(&self) -> String {
        self.credentials().revoke(USER);
        self.issue_token(USER)
    }

    /// Write `token`, `ca.crt` and `namespace` of flannel's service account to a directory, as
    /// kubelets do for pods. The token is replaced in one step.
    pub fn write_service_account(&self, dir: &Path) -> Result<()> {
        let namespace = service_account(USER).map_or("", |(namespace, _)| namespace);
        let write = |name: &str, text: &str| {
            let (path, fresh) = (dir.join(name), dir.join(format!(".{name}")));
            let written = fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &path));
            written.map_err(|error| Error::because(path.display(), error))
        };
        write("ca.crt", &self.ca_pem())?;
        write("namespace", namespace)?;
        write("token", &self.token())
    }

    /// A kubeconfig with a certificate of this user, such as [`ADMIN`], for whom everything is
    /// allowed.
    pub fn kubeconfig(&self, user: &str) -> String {
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let pair = self.pki().client(&format!("client{number}"), user);
        let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let (cert, key) = (text(&pair.cert), text(&pair.key));
        if let Ok(der) = CertificateDer::from_pem_slice(cert.as_bytes()) {
            let certificates = &mut self.credentials().certificates;
            certificates.insert(der.to_vec(), user.to_owned());
        }
        self.config(
            user,
            json!({
                "client-certificate-data": STANDARD.encode(cert),
                "client-key-data": STANDARD.encode(key),
            }),
        )
    }

    /// A kubeconfig with a token.
    pub fn kubeconfig_with_token(&self, token: &str) -> String {
        self.config("token", json!({"token": token}))
    }

    /// JSON, which YAML includes.
    fn config(&self, user: &str, credentials: Value) -> String {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {
                "server": self.url(), "certificate-authority-data": STANDARD.encode(self.ca_pem()),
            }}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
        });
        format!("{config:#}\n")
    }

    /// Write a kubeconfig of [`ADMIN`] to a file.
    pub fn write_kubeconfig(&self, path: &Path) -> Result<()> {
        let written = fs::write(path, self.kubeconfig(ADMIN));
        written.map_err(|error| Error::because(path.display(), error))
    }

    /// Directory for files that are to last as long as the server.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}
