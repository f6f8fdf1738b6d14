//! Servers that are no etcd, and outages whose reason changes.

use crate::lab::{Etcd, manager, timing};
use crate::soon;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use weft_control::subnets::SubnetManager;
use weft_lab::etcd::Location;
use weft_lab::log::Log;

/// A web server in HTTP/2 without TLS that answers every request with "404 Not Found".
struct Impostor {
    endpoint: String,
    asked: Arc<AtomicUsize>,
}

impl Impostor {
    async fn start() -> Impostor {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<AtomicUsize>::default();
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(not_found(client, count.clone()));
            }
        });
        Impostor { endpoint, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Frame types of RFC 9113, section 6.
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

/// Flags of these types.
const ACK: u8 = 1;
const END_STREAM_AND_HEADERS: u8 = 5;

/// `:status: 404` in the static table of HPACK (RFC 7541, appendix A).
const STATUS_404: u8 = 0x80 | 13;

/// Serve one connection until it breaks.
async fn not_found(mut client: TcpStream, asked: Arc<AtomicUsize>) -> std::io::Result<()> {
    let mut preface = [0; 24];
    client.read_exact(&mut preface).await?;
    client.write_all(&frame(SETTINGS, 0, [0; 4], &[])).await?;
    loop {
        let mut head = [0; 9];
        client.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut body = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        client.read_exact(&mut body).await?;
        let answer = match kind {
            HEADERS => {
                asked.fetch_add(1, Ordering::Relaxed);
                frame(HEADERS, END_STREAM_AND_HEADERS, stream, &[STATUS_404])
            }
            SETTINGS if flags != ACK => frame(SETTINGS, ACK, stream, &[]),
            PING if flags != ACK => frame(PING, ACK, stream, &body),
            _ => continue,
        };
        client.write_all(&answer).await?;
    }
}

fn frame(kind: u8, flags: u8, stream: [u8; 4], body: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (body.len() as u32).to_be_bytes();
    [&length[..], &[kind, flags], &stream, body].concat()
}

#[tokio::test]
async fn a_server_that_is_no_etcd_is_passed_over() {
    let etcd = Etcd::start().await;
    etcd.put("config", "{}").await;
    let impostor = Impostor::start().await;
    // Which server is asked first is left to chance.
    while impostor.asked() == 0 {
        let endpoints = [impostor.endpoint.clone(), etcd.endpoint()];
        let subnets = manager(&endpoints, timing()).await;
        let found = soon("config", subnets.network_config()).await;
        assert_eq!(found, Ok("{}".to_owned()));
    }
}

#[tokio::test]
async fn an_outage_is_told_again_when_its_reason_changes() {
    // Nobody listens there yet.
    let address = Location::loopback().client();
    let log = Log::start();
    let subnets = manager(&[format!("http://{address}")], timing()).await;
    let count = |part: &str| {
        let lines = log.lines().into_iter();
        lines.filter(|line| line.contains(part)).count()
    };
    let told = async |part: &str| {
        soon(part, async {
            while count(part) == 0 {
                sleep(Duration::from_millis(20)).await;
            }
            // Several tries more say nothing new.
            sleep(Duration::from_secs(1)).await;
        })
        .await;
    };
    let operator = async {
        told("refused").await;
        let listener = TcpListener::bind(address).await.unwrap();
        let asked = Arc::<AtomicUsize>::default();
        let web = async {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(not_found(client, asked.clone()));
            }
        };
        tokio::select! {
            () = web => panic!("the web server ended"),
            () = async {
                told("404").await;
                soon("tries", async {
                    while asked.load(Ordering::Relaxed) < 5 {
                        sleep(Duration::from_millis(20)).await;
                    }
                })
                .await;
            } => {}
        }
    };
    tokio::select! {
        found = subnets.network_config() => panic!("{found:?}"),
        () = operator => {}
    }
    let at = format!("http://{address}: ");
    assert_eq!(
        log.lines(),
        [
            format!("WARN etcd unreachable: {at}Connection refused (os error 111); retrying"),
            format!(
                "WARN etcd still unreachable: {at}grpc-status header missing, mapped from HTTP \
                 status code 404: is this etcd?; retrying"
            ),
        ]
    );
}
