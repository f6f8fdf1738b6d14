use super::*;
use proptest::prelude::*;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

const SOON: Duration = Duration::from_secs(10);

fn pair() -> (Channel, Channel) {
    let (a, b) = UnixStream::pair().unwrap();
    (Channel::new(a), Channel::new(b))
}

fn inode(descriptor: &OwnedFd) -> u64 {
    let file = File::from(descriptor.try_clone().unwrap());
    file.metadata().unwrap().ino()
}

#[tokio::test]
async fn descriptors_come_in_order_with_their_message() {
    let (one, mut other) = pair();
    let files: Vec<OwnedFd> = (0..2 * AT_ONCE + 7)
        .map(|_| tempfile::tempfile().unwrap().into())
        .collect();
    let given: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
    one.send(&Message::Ready {}, &[]).await.unwrap();
    let (message, none) = other.receive(SOON).await.unwrap();
    assert_eq!((message, none.len()), (Message::Ready {}, 0));
    let yours = Message::Yours { since: 5 };
    let say = one.send(&yours, &given);
    let (said, heard) = tokio::join!(say, other.receive(SOON));
    said.unwrap();
    let (message, taken) = heard.unwrap();
    assert_eq!(message, yours);
    let inodes = |files: &[OwnedFd]| files.iter().map(inode).collect::<Vec<_>>();
    assert_eq!(inodes(&taken), inodes(&files));
}

#[tokio::test]
async fn who_hangs_up_says_nothing_or_too_much_is_told_from_others() {
    let (one, mut other) = pair();
    let late = other.receive(Duration::from_millis(1)).await;
    assert!(matches!(late, Err(ChannelError::Late(_))), "{late:?}");
    one.write(b"{\"ready\"", &[]).await.unwrap();
    drop(one);
    let ended = other.receive(SOON).await;
    assert!(matches!(ended, Err(ChannelError::Ended)), "{ended:?}");

    let (one, mut other) = pair();
    let endless = async {
        // It is refused while more is on its way.
        while let Ok(1..) = one.write(&[b' '; READ], &[]).await {}
    };
    let heard = tokio::select! {
        heard = other.receive(SOON) => heard,
        () = endless => unreachable!("nobody has hung up"),
    };
    assert!(matches!(heard, Err(ChannelError::TooLong)), "{heard:?}");

    let (one, mut other) = pair();
    let file: OwnedFd = tempfile::tempfile().unwrap().into();
    let many = vec![file.as_fd(); AT_ONCE];
    let flood = async { while one.write(b" ", &many).await.is_ok() {} };
    let heard = tokio::select! {
        heard = other.receive(SOON) => heard,
        () = flood => unreachable!("nobody has hung up"),
    };
    let refused = matches!(heard, Err(ChannelError::TooMany | ChannelError::Dropped));
    assert!(refused, "{heard:?}");
}

proptest! {
    #[test]
    fn any_bytes_are_refused_in_one_line_or_a_message(bytes: Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (one, mut other) = pair();
            one.write(&[&bytes[..], b"\n"].concat(), &[]).await.unwrap();
            drop(one);
            if let Err(error) = other.receive(SOON).await {
                let text = error.to_string();
                assert!(!text.is_empty() && !text.chars().any(char::is_control), "{text:?}");
            }
        });
    }
}
