//! From the server to the node and back: what the node is doing.

use crate::status::NodeStatus;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

/// Questions that may wait for the node.
const WAITING: usize = 8;

/// How long the node may take to answer: less than the 10 s that Prometheus waits.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Somebody wants to know what the node is doing.
#[derive(Debug)]
pub struct Question(oneshot::Sender<NodeStatus>);

impl Question {
    /// Tell it.
    pub fn answer(self, status: NodeStatus) {
        // Who asked may have gone.
        let _ = self.0.send(status);
    }
}

/// The way to the node.
#[derive(Debug, Default)]
pub(super) struct Questions {
    waiting: Mutex<VecDeque<Question>>,
    asked: Notify,
}

impl Questions {
    /// Wait for the next one.
    pub(super) async fn next(&self) -> Question {
        loop {
            if let Some(question) = self.waiting().pop_front() {
                return question;
            }
            self.asked.notified().await;
        }
    }

    /// Ask the node, and wait for it; what keeps it from answering, in one line.
    pub(super) async fn ask(&self, patience: Duration) -> Result<NodeStatus, String> {
        let (answer, answered) = oneshot::channel();
        {
            let mut waiting = self.waiting();
            if waiting.len() == WAITING {
                return Err("too many ask at a time; ask less often".to_owned());
            }
            waiting.push_back(Question(answer));
        }
        self.asked.notify_one();
        match timeout(patience, answered).await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(_)) => Err("the agent is ending".to_owned()),
            Err(_) => Err(format!(
                "the node has not answered within {patience:?}: it waits for its network config or a lease, or is busy"
            )),
        }
    }

    /// Those whose askers still wait.
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Question>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|question| !question.0.is_closed());
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_that_does_not_answer_is_waited_for_only_so_long() {
        let questions = Questions::default();
        let refused = questions.ask(Duration::from_millis(1)).await.unwrap_err();
        assert!(refused.contains("within 1ms"), "{refused}");
        let answered = async { questions.next().await.answer(NodeStatus::default()) };
        let (status, ()) = tokio::join!(questions.ask(PATIENCE), answered);
        assert_eq!(status, Ok(NodeStatus::default()));
        let dropped = async { drop(questions.next().await) };
        let (refused, ()) = tokio::join!(questions.ask(PATIENCE), dropped);
        assert_eq!(refused, Err("the agent is ending".to_owned()));
    }

    #[tokio::test]
    async fn only_so_many_wait_and_who_has_gone_makes_room() {
        let questions = Questions::default();
        let all = (0..=WAITING).map(|_| questions.ask(Duration::from_millis(1)));
        let refused: Vec<_> = futures::future::join_all(all).await;
        let of = |text: &str| {
            let texts = refused.iter().filter_map(|refusal| refusal.as_ref().err());
            texts.filter(|refusal| refusal.contains(text)).count()
        };
        assert_eq!((of("too many"), of("within 1ms")), (1, WAITING));
        let answered = async { questions.next().await.answer(NodeStatus::default()) };
        let (status, ()) = tokio::join!(questions.ask(PATIENCE), answered);
        assert!(status.is_ok());
    }
}
