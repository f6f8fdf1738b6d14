//! Waiting for what a process that has just ended still holds: its port, its devices, its name.
//! The kernel tears io_uring instances down in the background, a little after their process.

use std::time::{Duration, Instant};

/// How long that may take.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// Pause between two looks. Packets of live flows are lost meanwhile.
const PAUSE: Duration = Duration::from_millis(4);

/// Look again and again until what is found `is_free`, or `grace` is over; what was found last.
pub(crate) async fn wait<T>(
    grace: Duration,
    mut look: impl AsyncFnMut() -> T,
    is_free: impl Fn(&T) -> bool,
) -> T {
    let deadline = Instant::now() + grace;
    loop {
        let found = look().await;
        if is_free(&found) || Instant::now() >= deadline {
            return found;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_looked_at_until_it_is_free_and_no_longer_than_the_grace() {
        let mut looks = 0;
        let count = async || {
            looks += 1;
            looks
        };
        assert_eq!(wait(GRACE, count, |looks| *looks == 3).await, 3);
        assert_eq!(looks, 3);
        // At least once.
        assert_eq!(
            wait(Duration::ZERO, async || "held", |_| false).await,
            "held"
        );
    }

    #[tokio::test]
    async fn others_go_on_meanwhile() {
        let free = std::cell::Cell::new(false);
        let waits = wait(Duration::from_secs(600), async || free.get(), |free| *free);
        let releases = async { free.set(true) };
        let (found, ()) = tokio::join!(waits, releases);
        assert!(found);
    }
}
