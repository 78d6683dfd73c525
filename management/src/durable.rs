//! Waiting until changes are on disk: whoever is told that a change is made may rely on it.

use std::sync::Arc;
use std::time::Duration;

use leveret_core::broker::Broker;
use leveret_core::watermark::Wake;
use tokio::sync::Notify;

use crate::protocol::{Code, Failure};

/// How long a change may take to reach the disk before its author is told that it did not. The
/// definitions write within milliseconds; what takes this long is a disk that failed.
const DURABLE_MS_MAX: u64 = 30_000;

struct Bell(Notify);

impl Wake for Bell {
    fn wake(&self) {
        self.0.notify_one();
    }
}

/// Returns when everything that was submitted before is durable.
///
/// # Errors
/// [`Code::Temporary`] if it is not after [`DURABLE_MS_MAX`].
pub(crate) async fn settle(broker: &Broker) -> Result<(), Failure> {
    let definitions = broker.definitions();
    // A record without changes: it becomes durable after all that were submitted before it.
    let number = definitions.submit(Vec::new());
    let bell = Arc::new(Bell(Notify::new()));
    let waker: Arc<dyn Wake> = bell.clone();
    let mark = definitions.watermark();
    if !mark.wait(number, &waker) {
        return Ok(());
    }
    if !mark.has_failed() {
        let limit = Duration::from_millis(DURABLE_MS_MAX);
        // If the time is over, the mark says how far it has got.
        let _ = tokio::time::timeout(limit, bell.0.notified()).await;
    }
    if mark.durable() >= number {
        return Ok(());
    }
    Err(Failure::new(
        Code::Temporary,
        "the change is made but not on disk: see the log for what the disk says",
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use leveret_core::definitions::{Change, Definitions, Fault, Kind};
    use leveret_core::journal::MemoryJournal;
    use leveret_core::options::Options;
    use leveret_core::time::Time;
    use leveret_core::watermark::Watermark;

    use super::*;

    /// A disk that writes nothing until it is told to.
    #[derive(Default)]
    struct Slow {
        submitted: AtomicU64,
        watermark: Arc<Watermark>,
    }

    impl Definitions for Slow {
        fn load(&self, _kind: Kind, _visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault> {
            Ok(())
        }

        fn submit(&self, _changes: Vec<Change>) -> u64 {
            self.submitted.fetch_add(1, Ordering::AcqRel) + 1
        }

        fn watermark(&self) -> &Arc<Watermark> {
            &self.watermark
        }
    }

    #[tokio::test]
    async fn o2_changes_are_answered_when_they_are_durable() {
        let slow = Arc::new(Slow::default());
        let journal = Arc::new(MemoryJournal::default());
        let options = Options::default();
        let broker = Broker::open(options, slow.clone(), journal, Time(0), String::new);
        let broker = broker.expect("an empty broker opens");
        let settling = settle(&broker);
        tokio::pin!(settling);
        let once = std::future::poll_fn(|cx| {
            std::task::Poll::Ready(settling.as_mut().poll(cx).is_pending())
        });
        assert!(once.await);
        slow.watermark.raise(slow.submitted.load(Ordering::Acquire));
        assert_eq!(settling.await, Ok(()));
    }

    /// FEATURES D3: nobody is told that a change is made which the disk did not take.
    #[tokio::test]
    async fn d3_a_failed_disk_is_told() {
        let slow = Arc::new(Slow::default());
        let journal = Arc::new(MemoryJournal::default());
        let options = Options::default();
        let broker = Broker::open(options, slow.clone(), journal, Time(0), String::new);
        let broker = broker.expect("an empty broker opens");
        let settling = settle(&broker);
        tokio::pin!(settling);
        let once = std::future::poll_fn(|cx| {
            std::task::Poll::Ready(settling.as_mut().poll(cx).is_pending())
        });
        assert!(once.await);
        slow.watermark.fail();
        assert!(settling.await.is_err());
        assert!(settle(&broker).await.is_err());
    }
}
