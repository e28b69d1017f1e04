//! Members that are made while they are written, such as the core of a process.

use evidence::inventory::{Entry, Status};

use super::{Budget, Halt, Sink, Step, status_word};
use crate::bundle::{self, Piece, Source};

/// What became of such a member.
#[derive(Debug)]
pub struct Made {
    /// Bytes that came; zeros fill the rest.
    pub came: u64,
    pub status: Status,
    /// Why the artifact has to end.
    pub halt: Option<Halt>,
}

impl Sink<'_> {
    /// Puts bytes of our own making, `size` in all, at `name`, outside `[root]/`, as `next` has them. What the limits
    /// leave no room for is cut, which the inventory says.
    ///
    /// # Errors
    /// When the artifact has to end before the first of them, or the store takes no more.
    pub fn made(
        &mut self,
        name: &str,
        reason: &str,
        size: u64,
        next: &mut dyn FnMut(u64, Vec<u8>) -> Piece,
    ) -> Result<Made, Halt> {
        self.check()?;
        let mut item = bundle::own(name.as_bytes(), self.artifact);
        item.reason = Some(reason.to_owned());
        let left = self.budget.left(self.tally.streamed());
        let most = left.min(self.budget.max_file_bytes);
        let room = size.min(most);
        if room < size {
            let limit = if most == left {
                "--max-total-size"
            } else {
                "--max-file-size"
            };
            item.status = Status::Truncated;
            item.reason = Some(format!("{reason}; {room} of {size} bytes: {limit}"));
        }
        let mut source = Pieces {
            next,
            budget: &self.budget,
            artifact: self.artifact,
            size: room,
            halt: None,
            status: item.status,
        };
        let came = self.bundle.stream(item, room, &mut source)?;
        let (halt, status) = (source.halt, source.status);
        self.tally.bytes += came.unwrap_or(0);
        if status.is_loss() {
            self.loss(status_word(status));
        }
        Ok(Made {
            came: came.unwrap_or(0),
            status,
            halt,
        })
    }
}

/// What is made, within the artifact's budget.
struct Pieces<'a> {
    next: &'a mut dyn FnMut(u64, Vec<u8>) -> Piece,
    budget: &'a Budget<'a>,
    artifact: &'static str,
    size: u64,
    halt: Option<Halt>,
    status: Status,
}

impl Source for Pieces<'_> {
    fn next(&mut self, left: u64, buffer: Vec<u8>) -> Piece {
        let now = match self.budget.check_member(&mut self.halt) {
            Ok(now) => now,
            Err(end) => return end,
        };
        let (done, of) = (self.size - left, self.size);
        self.budget
            .tell(now, self.artifact, Step::Bytes { done, of });
        (self.next)(left, buffer)
    }

    fn end(&mut self, entry: &mut Entry) {
        self.status = entry.status;
    }
}
