use super::*;
use crate::backend::FastPathMode;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener as Listener, UnixStream as Client};

const AGENT: &str = "/coreos.com/network /run/flannel/subnet.env";

/// What is answered to these bytes, read on a thread of its own.
async fn said(path: &Path, request: Vec<u8>) -> String {
    let path = path.to_owned();
    let talk = move || {
        let mut client = Client::connect(path).unwrap();
        // What is not read is refused.
        let _ = client.write_all(&request);
        let _ = client.shutdown(std::net::Shutdown::Write);
        let mut text = String::new();
        let _ = client.read_to_string(&mut text);
        text
    };
    tokio::task::spawn_blocking(talk).await.unwrap()
}

/// Answer all requests with what they ask for.
async fn answering(mut calls: Calls) {
    loop {
        match calls.next().await {
            Call::Question(verb, asker) => asker.answer(Answer::Error(format!("{verb:?}"))),
            Call::Successor(claim, _) => panic!("{claim:?}"),
        }
    }
}

#[tokio::test]
async fn a_request_is_answered_and_what_is_none_told() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("weft");
    let (socket, calls) = LocalSocket::start(&dir, AGENT).unwrap();
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir), mode(&socket.path)), (0o700, 0o600));
    let server = tokio::spawn(answering(calls));
    let off = Verb::FastPath {
        mode: Some(FastPathMode::Off),
    };
    let answer = said(&socket.path, off.line().into_bytes()).await;
    let reply = Reply::read(answer.as_bytes()).unwrap();
    assert_eq!(reply.agent, AGENT);
    assert_eq!(reply.answer, Answer::Error(format!("{off:?}")));
    for (request, told) in [
        (&b"\xff\0\n"[..], "not a JSON object"),
        (b"{}\n", "no version"),
        (b"{}", "without a line break"),
        (&[b'x'; REQUEST_MAX + 1], "too long"),
    ] {
        let answer = said(&socket.path, request.to_vec()).await;
        assert!(answer.contains(told), "{answer}");
        assert_eq!(answer.lines().count(), 1, "{answer}");
    }
    let path = socket.path.clone();
    drop(socket);
    assert!(!path.exists());
    server.abort();
}

#[tokio::test]
async fn idle_clients_make_room_for_others() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, calls) = LocalSocket::start(dir.path(), AGENT).unwrap();
    let server = tokio::spawn(answering(calls));
    let connect = || Client::connect(&socket.path).unwrap();
    let mut idle: Vec<Client> = (0..3 * CONNECTIONS).map(|_| connect()).collect();
    let show = Verb::FastPath { mode: None }.line().into_bytes();
    let answer = said(&socket.path, show).await;
    assert!(answer.contains("FastPath"), "{answer}");
    // The answer did not wait for their time to be over: the youngest are still open.
    let youngest = idle.pop().unwrap();
    youngest.set_nonblocking(true).unwrap();
    let open = (&youngest).read(&mut [0]).unwrap_err();
    assert_eq!(open.kind(), io::ErrorKind::WouldBlock);
    server.abort();
}

#[tokio::test]
async fn only_a_socket_that_nobody_answers_on_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = place::path(dir.path(), AGENT);
    drop(Listener::bind(&path).unwrap());
    assert!(path.exists());
    let (socket, _calls) = LocalSocket::start(dir.path(), AGENT).unwrap();
    let second = LocalSocket::start(dir.path(), AGENT).unwrap_err();
    assert!(second.to_string().contains("in use"), "{second}");
    assert!(path.exists(), "the first one's");
    drop(socket);

    fs::write(&path, "").unwrap();
    assert!(LocalSocket::start(dir.path(), AGENT).is_err());
    assert!(path.exists(), "somebody's file");
    fs::remove_file(&path).unwrap();

    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    let refused = LocalSocket::start(dir.path(), AGENT)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("written to by others"), "{refused}");
}
