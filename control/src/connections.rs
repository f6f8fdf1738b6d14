//! The connections of one server: only so many at a time, and who asks for nothing makes room.

use std::collections::VecDeque;
use std::future::Future;
use tokio::task::JoinHandle;

/// Connections that are open, the oldest first.
pub(crate) struct Connections {
    open: VecDeque<JoinHandle<()>>,
    most: usize,
}

impl Connections {
    /// None yet, and at no time more than `most`.
    pub(crate) fn new(most: usize) -> Connections {
        Connections {
            open: VecDeque::with_capacity(most),
            most,
        }
    }

    /// Serve a further one; the oldest is closed for it if there are too many.
    pub(crate) async fn add(&mut self, served: impl Future<Output = ()> + Send + 'static) {
        self.open.retain(|connection| !connection.is_finished());
        if self.open.len() == self.most {
            self.close_oldest().await;
        }
        self.open.push_back(tokio::spawn(served));
    }

    /// Close the oldest connection, and wait until it is; whether there was one.
    pub(crate) async fn close_oldest(&mut self) -> bool {
        let Some(oldest) = self.open.pop_front() else {
            return false;
        };
        oldest.abort();
        let _ = oldest.await;
        true
    }
}
