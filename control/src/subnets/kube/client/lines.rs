//! The lines of an answer that goes on for as long as the server likes.

use super::failure::{ApiFailure, describe};
use http_body_util::BodyExt;
use kube::client::Body;
use std::time::Duration;
use tokio::time::timeout;

/// The longest line: etcd keeps no object of more than 1.5 MB.
const LONGEST: usize = 4 << 20;

/// An answer as its lines, or as the parts in which it comes.
pub(in crate::subnets::kube) struct AnswerLines {
    body: Body,
    /// What has come and is not used up.
    buffer: Vec<u8>,
    /// Where the next line begins.
    begin: usize,
}

impl AnswerLines {
    pub(super) fn of(body: Body) -> AnswerLines {
        AnswerLines {
            body,
            buffer: Vec::new(),
            begin: 0,
        }
    }

    /// The next line, for which the server may take so long; `None` at the end.
    pub(in crate::subnets::kube) async fn next(
        &mut self,
        silence: Duration,
    ) -> Result<Option<&[u8]>, ApiFailure> {
        let mut searched = self.begin;
        let end = loop {
            let found = self.buffer[searched..]
                .iter()
                .position(|byte| *byte == b'\n');
            if let Some(length) = found {
                break searched + length;
            }
            self.buffer.drain(..self.begin);
            self.begin = 0;
            searched = self.buffer.len();
            if searched > LONGEST {
                let reason = format!("a line is longer than {LONGEST} bytes");
                return Err(ApiFailure::Broken(reason));
            }
            match self.body_part(silence).await? {
                Some(part) => self.buffer.extend_from_slice(&part),
                // A line that is not complete says nothing.
                None => return Ok(None),
            }
        };
        let begin = std::mem::replace(&mut self.begin, end + 1);
        Ok(Some(&self.buffer[begin..end]))
    }

    /// The next part, whatever is in it; `None` at the end.
    pub(in crate::subnets::kube) async fn part(
        &mut self,
        silence: Duration,
    ) -> Result<Option<Vec<u8>>, ApiFailure> {
        let part = self.body_part(silence).await?;
        Ok(part.map(|part| part.to_vec()))
    }

    async fn body_part(
        &mut self,
        silence: Duration,
    ) -> Result<Option<impl std::ops::Deref<Target = [u8]> + use<>>, ApiFailure> {
        loop {
            let frame = timeout(silence, self.body.frame()).await;
            let frame = frame.map_err(|_| ApiFailure::Broken(format!("silent for {silence:?}")))?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(ApiFailure::Broken(describe(&error))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_end_where_they_end_and_the_last_must_be_whole() {
        let body = Body::from(b"one\n\n{\"two\":2}\nhal".to_vec());
        let mut lines = AnswerLines::of(body);
        let silence = Duration::from_secs(9);
        for wanted in ["one", "", "{\"two\":2}"] {
            let line = lines.next(silence).await.unwrap().unwrap();
            assert_eq!(line, wanted.as_bytes());
        }
        assert_eq!(lines.next(silence).await, Ok(None));
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_refused() {
        let body = Body::from(vec![b'x'; LONGEST + 1]);
        let failure = AnswerLines::of(body)
            .next(Duration::from_secs(9))
            .await
            .unwrap_err();
        assert!(matches!(failure, ApiFailure::Broken(reason) if reason.contains("longer than")));
    }
}
