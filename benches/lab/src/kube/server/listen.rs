//! Connections.

use crate::etcd::pki::Pki;
use crate::kube::http::{Shared, answer};
use crate::{Error, Result};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::convert::Infallible;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// What a server at this address shows, and asks of its clients.
pub(super) fn tls(pki: &Pki, address: IpAddr) -> Result<ServerConfig> {
    let failed = |error: &dyn std::fmt::Display| Error::because("TLS of the API server", error);
    let names = [
        "127.0.0.1",
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
    ];
    let names: Vec<String> = [address.to_string()]
        .into_iter()
        .chain(names.map(str::to_owned))
        .collect();
    let pair = pki.server("apiserver", &names);
    let cert = CertificateDer::from_pem_file(&pair.cert).map_err(|e| failed(&e))?;
    let key = PrivateKeyDer::from_pem_file(&pair.key).map_err(|e| failed(&e))?;
    let ca = CertificateDer::from_pem_file(pki.ca()).map_err(|e| failed(&e))?;
    let mut roots = RootCertStore::empty();
    roots.add(ca).map_err(|e| failed(&e))?;
    let provider = Arc::new(ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let clients = clients
        .allow_unauthenticated()
        .build()
        .map_err(|e| failed(&e))?;
    let config = ServerConfig::builder_with_provider(provider);
    let config = config
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(&e))?;
    let config = config.with_client_cert_verifier(clients);
    let mut config = config
        .with_single_cert(vec![cert], key)
        .map_err(|e| failed(&e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Answer all that connect, for ever.
pub(super) async fn serve(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, acceptor.clone(), shared.clone()));
            }
            // Out of file descriptors, most likely: some may be closed by then.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    // Answers are small, and watches send single events.
    let _ = stream.set_nodelay(true);
    // A client that breaks off, or does not trust the server, knows that best itself.
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let certificate = certificates.and_then(|certificates| certificates.first());
    let certificate: Option<Arc<[u8]>> = certificate.map(|der| der.as_ref().into());
    let service = service_fn(move |request| {
        let answer = answer(shared.clone(), certificate.clone(), request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    let _ = served.await;
}
