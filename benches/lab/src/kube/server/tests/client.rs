//! HTTP over TLS without a library that would mend or hide anything.

use crate::kube::{ADMIN, ApiServer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

type Stream = BufReader<StreamOwned<ClientConnection, TcpStream>>;

/// One user.
pub(super) struct Client {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    headers: String,
}

/// An answer as a whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The message of a `Status` object.
    pub(super) fn message(&self) -> String {
        let status = self.json();
        assert_eq!(status["kind"], "Status", "{status}");
        assert_eq!(status["code"], self.code, "{status}");
        status["message"].as_str().unwrap().to_owned()
    }
}

impl Client {
    /// Somebody with a token.
    pub(super) fn new(server: &ApiServer, token: &str) -> Client {
        let client = Client::nobody(server);
        client.with(&format!("Authorization: Bearer {token}"))
    }

    pub(super) fn admin(server: &ApiServer) -> Client {
        Client::new(server, &server.issue_token(ADMIN))
    }

    /// Somebody who shows nothing.
    pub(super) fn nobody(server: &ApiServer) -> Client {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(server.ca_pem().as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Client {
            address: server.address(),
            tls: Arc::new(config),
            headers: String::new(),
        }
    }

    /// The same with a further line of each head.
    pub(super) fn with(mut self, line: &str) -> Client {
        self.headers += &format!("{line}\r\n");
        self
    }

    pub(super) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", "")
    }

    pub(super) fn patch(&self, path: &str, media_type: &str, body: &Value) -> Answer {
        self.send("PATCH", path, media_type, &body.to_string())
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, "application/json", &body.to_string())
    }

    pub(super) fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, "application/json", &body.to_string())
    }

    pub(super) fn send(&self, method: &str, path: &str, media_type: &str, body: &str) -> Answer {
        let (mut stream, head) = self.ask(method, path, media_type, body);
        let code = head[9..12].parse().unwrap();
        let mut body = String::new();
        match head.to_lowercase().contains("transfer-encoding: chunked") {
            true => {
                while let Some(part) = chunk(&mut stream).unwrap() {
                    body += &part;
                }
            }
            false => _ = stream.read_to_string(&mut body).unwrap(),
        }
        Answer { code, head, body }
    }

    /// The events of a watch that is accepted.
    pub(super) fn watch(&self, query: &str) -> Events {
        let path = format!("/api/v1/nodes?watch=1&{query}");
        let (stream, head) = self.ask("GET", &path, "", "");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        Events {
            stream,
            text: String::new(),
        }
    }

    fn ask(&self, method: &str, path: &str, media_type: &str, body: &str) -> (Stream, String) {
        let name = ServerName::from(self.address.ip());
        let connection = ClientConnection::new(self.tls.clone(), name).unwrap();
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(super::PATIENCE)).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        let headers = &self.headers;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\nContent-Type: {media_type}\r\n\
             Content-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(stream.read_line(&mut head).unwrap(), 0, "{head}");
        }
        (stream, head)
    }
}

/// The next chunk of a body; `None` at its end.
fn chunk(stream: &mut Stream) -> io::Result<Option<String>> {
    let mut size = String::new();
    stream.read_line(&mut size)?;
    let size = usize::from_str_radix(size.trim(), 16).map_err(|_| io::ErrorKind::UnexpectedEof)?;
    let mut chunk = vec![0; size + 2];
    stream.read_exact(&mut chunk)?;
    chunk.truncate(size);
    Ok((size > 0).then(|| String::from_utf8(chunk).unwrap()))
}

/// What comes next in a watch.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Event(Value),
    /// It has ended in order.
    End,
    /// The connection has broken; what had come of an event.
    Broken(String),
}

/// A watch.
pub(super) struct Events {
    stream: Stream,
    text: String,
}

impl Events {
    pub(super) fn next(&mut self) -> Next {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let event = serde_json::from_str(line).unwrap();
                self.text = rest.to_owned();
                return Next::Event(event);
            }
            match chunk(&mut self.stream) {
                Ok(Some(part)) => self.text += &part,
                Ok(None) => return Next::End,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("nothing comes"),
                Err(_) => return Next::Broken(std::mem::take(&mut self.text)),
            }
        }
    }

    /// The next event: `ADDED n1`, `BOOKMARK `.
    pub(super) fn seen(&mut self) -> String {
        let event = self.event();
        let name = event["object"]["metadata"]["name"]
            .as_str()
            .unwrap_or_default();
        format!("{} {name}", event["type"].as_str().unwrap())
    }

    pub(super) fn event(&mut self) -> Value {
        match self.next() {
            Next::Event(event) => event,
            other => panic!("no event: {other:?}"),
        }
    }
}
