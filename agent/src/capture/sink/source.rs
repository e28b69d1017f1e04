//! Content that comes in pieces, within an artifact's limits.

use evidence::inventory::{Entry, Status};

use super::made::Made;
use super::{Budget, Halt, Sink, Step};
use crate::bundle::{Item, Piece, Source};
use crate::host::HostFile;

impl Sink<'_> {
    /// Writes `size` bytes of `content` as the member `item`; whoever watches is told the `step` that so many bytes of it
    /// are. `None` when the name is taken.
    ///
    /// # Errors
    /// When the store takes no more.
    pub(super) fn within(
        &mut self,
        item: Item,
        size: u64,
        content: &mut dyn Source,
        step: &dyn Fn(u64) -> Step,
    ) -> Result<Option<Made>, Halt> {
        let mut limited = Limited {
            content,
            budget: &self.budget,
            artifact: self.artifact,
            size,
            step,
            halt: None,
            status: item.status,
        };
        let came = self.bundle.stream(item, size, &mut limited)?;
        let (halt, status) = (limited.halt, limited.status);
        Ok(came.map(|came| Made { came, status, halt }))
    }
}

/// What looks at the limits before each piece.
struct Limited<'a> {
    content: &'a mut dyn Source,
    budget: &'a Budget<'a>,
    artifact: &'static str,
    size: u64,
    step: &'a dyn Fn(u64) -> Step,
    halt: Option<Halt>,
    status: Status,
}

impl Source for Limited<'_> {
    fn next(&mut self, left: u64, buffer: Vec<u8>) -> Piece {
        match self.budget.check() {
            Ok(now) => {
                let step = (self.step)(self.size - left);
                self.budget.tell(now, self.artifact, step);
                self.content.next(left, buffer)
            }
            Err(why) => {
                self.halt = Some(why);
                Piece::Short {
                    status: Status::Truncated,
                    reason: why.to_string(),
                    errno: None,
                }
            }
        }
    }

    fn end(&mut self, entry: &mut Entry) {
        self.status = entry.status;
        self.content.end(entry);
    }
}

impl Source for HostFile {
    fn next(&mut self, left: u64, buffer: Vec<u8>) -> Piece {
        match self.read(buffer, usize::try_from(left).unwrap_or(usize::MAX)) {
            Ok(bytes) if bytes.is_empty() => Piece::Short {
                status: Status::Shrank,
                reason: "it shrank while it was read".to_owned(),
                errno: None,
            },
            Ok(bytes) => Piece::Bytes(bytes),
            Err(error) => Piece::Short {
                status: error.status(),
                reason: error.to_string(),
                errno: error.errno(),
            },
        }
    }

    fn end(&mut self, entry: &mut Entry) {
        let now = self.size_now().unwrap_or(0);
        entry.grew_to = (now > self.stat().size).then_some(now);
    }
}
