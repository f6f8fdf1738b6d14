//! Whether an answer is still on its way.
//!
//! A list of many leases over a slow link, or by many nodes at once, takes longer than a server
//! that is gone should be waited for. So time is up when a server has been silent for long, not
//! when its answer has been long.

use etcd_client::Channel;
use http_body_util::BodyExt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::transport::Endpoint;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

tokio::task_local! {
    /// How many pieces of answers to the request under way have come, of some kilobytes each.
    static PIECES: Arc<AtomicU64>;
}

/// A channel to a server; answers to requests are seen as they come.
pub(super) fn channel(endpoint: &Endpoint) -> Channel {
    let channel = ServiceExt::<Request<Body>>::map_response(
        endpoint.connect_lazy(),
        |answer: Response<Body>| answer.map(counted),
    );
    let channel = ServiceExt::<Request<Body>>::map_err(channel, Into::into);
    Channel::Custom(BoxCloneSyncService::new(channel))
}

fn counted(body: Body) -> Body {
    let Ok(pieces) = PIECES.try_with(Arc::clone) else {
        return body;
    };
    Body::new(body.map_frame(move |frame| {
        pieces.fetch_add(1, Ordering::Relaxed);
        frame
    }))
}

/// The outcome of a request; `None` if nothing of an answer has come for `limit`.
pub(super) async fn unless_silent<T>(
    limit: Duration,
    request: impl Future<Output = T>,
) -> Option<T> {
    let pieces = Arc::<AtomicU64>::default();
    let mut request = pin!(PIECES.scope(pieces.clone(), request));
    let mut seen = 0;
    loop {
        if let Ok(outcome) = timeout(limit, &mut request).await {
            return Some(outcome);
        }
        let now = pieces.load(Ordering::Relaxed);
        if std::mem::replace(&mut seen, now) == now {
            return None;
        }
    }
}
