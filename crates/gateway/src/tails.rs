//! What streams at the end of the journal share: they look at it together, and what one of them reads then, all send.

use std::collections::VecDeque;
use std::time::Duration;

use axum::body::Bytes;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How often streams look at the end of the journal while it grows. An event is told so much later at most; a commit costs no write to each
/// of hundreds of sockets.
const TOGETHER: Duration = Duration::from_millis(25);
/// Pages that are kept for those that come a little later.
const KEPT: usize = 8;

/// A page of a stream without a filter.
#[derive(Debug)]
struct Page {
    /// The event that it follows.
    after: u64,
    /// With the contents of events, or without.
    whole: bool,
    /// Its events as they are sent.
    frames: Bytes,
    /// Its last event.
    through: u64,
}

/// The pages at the end of the journal, newest last.
#[derive(Debug)]
pub(crate) struct Tails {
    begun: Instant,
    pages: Mutex<VecDeque<Page>>,
}

impl Tails {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), pages: Mutex::default() }
    }

    /// When streams look at the end of the journal next.
    pub(crate) fn next_look(&self) -> Instant {
        let looks = self.begun.elapsed().as_millis() / TOGETHER.as_millis() + 1;
        self.begun + TOGETHER * u32::try_from(looks).unwrap_or(u32::MAX)
    }

    /// The page after this event: that of somebody else, or what `read` makes of it for all. One reads at a time, and who waits for it
    /// has its page.
    pub(crate) async fn page<E>(
        &self,
        after: u64,
        whole: bool,
        read: impl Future<Output = Result<(Bytes, u64), E>>,
    ) -> Result<(Bytes, u64), E> {
        let mut pages = self.pages.lock().await;
        if let Some(known) = pages.iter().rev().find(|page| (page.after, page.whole) == (after, whole)) {
            return Ok((known.frames.clone(), known.through));
        }
        let (frames, through) = read.await?;
        if through > after {
            if pages.len() == KEPT {
                pages.pop_front();
            }
            pages.push_back(Page { after, whole, frames: frames.clone(), through });
        }
        Ok((frames, through))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_comes_second_has_the_page_of_the_first_and_nobody_has_that_of_other_eyes() {
        let tails = Tails::new();
        let read =
            |words: &'static str, through| async move { Ok::<_, ()>((Bytes::from_static(words.as_bytes()), through)) };
        assert_eq!(tails.page(4, true, read("five", 5)).await, Ok((Bytes::from("five"), 5)));
        assert_eq!(tails.page(4, true, read("again", 6)).await, Ok((Bytes::from("five"), 5)));
        assert_eq!(tails.page(4, false, read("withheld", 5)).await, Ok((Bytes::from("withheld"), 5)));
        assert_eq!(tails.page(4, true, read("again", 6)).await, Ok((Bytes::from("five"), 5)));
        assert_eq!(tails.page(5, true, read("", 5)).await, Ok((Bytes::new(), 5)), "nothing yet");
        assert_eq!(tails.page(5, true, read("six", 6)).await, Ok((Bytes::from("six"), 6)), "which is not kept");
        assert_eq!(tails.page(6, true, async { Err::<(Bytes, u64), _>(()) }).await, Err(()));
        for after in 7..100 {
            assert!(tails.page(after, true, read("more", after + 1)).await.is_ok());
        }
        assert_eq!(tails.pages.lock().await.len(), KEPT);
        assert_eq!(tails.page(4, true, read("anew", 6)).await, Ok((Bytes::from("anew"), 6)));
    }

    #[tokio::test(start_paused = true)]
    async fn streams_look_at_the_same_times() {
        let tails = Tails::new();
        tokio::time::advance(Duration::from_millis(26)).await;
        let first = tails.next_look();
        tokio::time::advance(Duration::from_millis(23)).await;
        assert_eq!(tails.next_look(), first);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(tails.next_look(), first + TOGETHER);
    }
}
