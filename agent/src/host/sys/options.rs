//! Options of sockets that answer with structures of their own.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// getsockopt(2): `answer` has the question in it, and takes what is said to it; its length is returned.
///
/// # Errors
/// As the kernel says.
pub fn socket_option(
    socket: BorrowedFd<'_>,
    level: i32,
    option: i32,
    answer: &mut [u8],
) -> Result<usize, Errno> {
    let mut length = libc::socklen_t::try_from(answer.len()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the buffer is valid for its length, and the kernel writes no more than that.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            answer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    Errno::result(result)?;
    Ok(usize::try_from(length).unwrap_or(0).min(answer.len()))
}
