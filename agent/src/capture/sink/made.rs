//! Members that are made while they are written, such as the core of a process.

use evidence::inventory::{Entry, Status};

use super::{Halt, Sink, Step, status_word};
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
        let step = |done| Step::Bytes { done, of: room };
        let made = self.within(item, room, &mut Pieces(next), &step)?;
        let made = made.unwrap_or(Made {
            came: 0,
            status: Status::Failed,
            halt: None,
        });
        self.tally.bytes += made.came;
        if made.status.is_loss() {
            self.loss(status_word(made.status));
        }
        Ok(made)
    }
}

/// What is made.
struct Pieces<'a>(&'a mut dyn FnMut(u64, Vec<u8>) -> Piece);

impl Source for Pieces<'_> {
    fn next(&mut self, left: u64, buffer: Vec<u8>) -> Piece {
        (self.0)(left, buffer)
    }

    fn end(&mut self, _: &mut Entry) {}
}
