//! Messages with descriptors between the platform, the spawner and the cells: JSON over `SOCK_SEQPACKET`.
//!
//! A packet is one message, so there is no framing and a half-read message cannot exist. Who may say what is
//! defined in `protocol`.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::retry_on_intr;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest message: arguments and environment of a process as JSON. The environment alone is bounded by 128
/// KiB, and this stays below the 208 KiB that a socket of an unprivileged process may buffer.
pub(crate) const MESSAGE_BYTES_MAX: usize = 192 * 1024;

/// Longest answer: a number, a name or one error message.
pub(crate) const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Most descriptors in one message; the kernel's own limit is 253.
pub(crate) const FDS_MAX: usize = 64;

/// A message that came in.
#[derive(Debug)]
pub(crate) struct Received<T> {
    pub(crate) message: T,
    pub(crate) fds: Vec<OwnedFd>,
}

/// Two ends of a new link.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    for end in [&one, &other] {
        // The buffer must hold the longest message and its bookkeeping; a refusal shows as a failing send.
        rustix::net::sockopt::set_socket_send_buffer_size(end, 2 * MESSAGE_BYTES_MAX)?;
    }
    Ok((one, other))
}

/// A message as it goes over the link.
pub(crate) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MESSAGE_BYTES_MAX {
        let text = format!("a message of {} bytes is longer than {MESSAGE_BYTES_MAX}", bytes.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(bytes)
}

/// Sends one encoded message.
pub(crate) fn send_bytes(link: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if fds.len() > FDS_MAX {
        let text = format!("{} descriptors are more than {FDS_MAX}", fds.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("the descriptors do not fit into the message"));
    }
    let slices = [IoSlice::new(bytes)];
    retry_on_intr(|| rustix::net::sendmsg(link, &slices, &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Sends one message.
pub(crate) fn send(link: impl AsFd, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_bytes(link.as_fd(), &encode(message)?, fds)
}

/// Receives one message into `buffer`; `None` when the other end is closed.
pub(crate) fn receive<T: DeserializeOwned>(
    link: impl AsFd,
    buffer: &mut [u8],
) -> io::Result<Option<Received<T>>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(buffer)];
    let link = link.as_fd();
    let got =
        retry_on_intr(|| rustix::net::recvmsg(link, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            fds.extend(received);
        }
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message was longer than agreed"));
    }
    let message = serde_json::from_slice(buffer.get(..got.bytes).unwrap_or_default())?;
    Ok(Some(Received { message, fds }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_descriptors_and_end_with_the_link() {
        let (here, there) = pair().unwrap();
        let mut buffer = vec![0; ANSWER_BYTES_MAX];
        send(&here, &"hello", &[here.as_fd(), there.as_fd()]).unwrap();
        let got = receive::<String>(&there, &mut buffer).unwrap().unwrap();
        assert_eq!((got.message.as_str(), got.fds.len()), ("hello", 2));
        drop(got);
        drop(here);
        assert!(receive::<String>(&there, &mut buffer).unwrap().is_none());
    }

    #[test]
    fn the_longest_message_passes_and_a_longer_one_is_refused() {
        let (here, there) = pair().unwrap();
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        let longest = "x".repeat(MESSAGE_BYTES_MAX - 2);
        send(&here, &longest, &[]).unwrap();
        assert_eq!(receive::<String>(&there, &mut buffer).unwrap().unwrap().message, longest);
        let error = send(&here, &format!("{longest}y"), &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_message_that_does_not_fit_the_buffer_or_is_no_json_is_an_error() {
        let (here, there) = pair().unwrap();
        send(&here, &"longer than eight bytes", &[]).unwrap();
        assert!(receive::<String>(&there, &mut [0; 8]).is_err());
        send_bytes(here.as_fd(), b"{", &[]).unwrap();
        assert!(receive::<String>(&there, &mut [0; 8]).is_err());
    }
}
