//! What the platform and a script host say to each other about contexts, one packet each.
//!
//! ```text
//! | kind u32 | number u32 | value u64 | text |        little-endian
//! ```

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::retry_on_intr;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// Longest packet: the environment of a function, which has at most 128 KiB, and what the platform adds.
pub(crate) const PACKET_BYTES_MAX: usize = 192 * 1024;
const HEADER_BYTES: usize = 16;
/// Descriptors in a packet: the link of an instance and its compiled script.
const FDS_MAX: usize = 2;

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Platform: make the context `number`; descriptors are its link and its script, text is its environment.
    Open = 1,
    /// Platform: end it.
    Close = 2,
    /// Platform: a sign of life, please.
    Ping = 3,
    /// Host: every thread is alive.
    Pong = 4,
    /// Host: the context `number` has ended.
    Ended = 5,
    /// Host: the context `number` uses `value` bytes, and has used as many microseconds of the CPU as the eight bytes
    /// of text say.
    Usage = 6,
    /// Host: the context `number` keeps its thread from answering.
    Stuck = 7,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Open, Self::Close, Self::Ping, Self::Pong, Self::Ended, Self::Usage, Self::Stuck];
}

/// One packet.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) kind: Kind,
    pub(crate) number: u32,
    pub(crate) value: u64,
    pub(crate) text: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

/// Two ends of a new link, neither of which waits when it is full.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, inside) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    // The buffer must hold the longest packet; a refusal shows as a failing send.
    rustix::net::sockopt::set_socket_send_buffer_size(&ours, 2 * PACKET_BYTES_MAX)?;
    Ok((ours, inside))
}

/// Sends one packet.
pub(crate) fn send(
    link: impl AsFd,
    kind: Kind,
    number: u32,
    value: u64,
    text: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    if text.len() + HEADER_BYTES > PACKET_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the environment is too large"));
    }
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&(kind as u32).to_le_bytes());
    header[4..8].copy_from_slice(&number.to_le_bytes());
    header[8..].copy_from_slice(&value.to_le_bytes());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !rights.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("the descriptors do not fit into the packet"));
    }
    let slices = [IoSlice::new(&header), IoSlice::new(text)];
    let link = link.as_fd();
    retry_on_intr(|| rustix::net::sendmsg(link, &slices, &mut rights, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Receives one packet into `buffer`; `None` when the other end is closed. What is not a packet is an error: the
/// other side is not to be talked to any more.
pub(crate) fn receive(link: impl AsFd, buffer: &mut [u8]) -> io::Result<Option<Packet>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let link = link.as_fd();
    let mut slices = [IoSliceMut::new(buffer)];
    let got =
        retry_on_intr(|| rustix::net::recvmsg(link, &mut slices, &mut rights, RecvFlags::CMSG_CLOEXEC))?;
    let mut fds = Vec::new();
    for part in rights.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            fds.extend(received);
        }
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "a packet is malformed");
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(malformed());
    }
    let packet = buffer.get(..got.bytes).ok_or_else(malformed)?;
    let (header, text) = packet.split_first_chunk::<HEADER_BYTES>().ok_or_else(malformed)?;
    let [k0, k1, k2, k3, n0, n1, n2, n3, value @ ..] = *header;
    let kind = u32::from_le_bytes([k0, k1, k2, k3]);
    let kind = Kind::ALL.into_iter().find(|known| *known as u32 == kind).ok_or_else(malformed)?;
    let number = u32::from_le_bytes([n0, n1, n2, n3]);
    Ok(Some(Packet { kind, number, value: u64::from_le_bytes(value), text: text.to_vec(), fds }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_pass_whole_and_garbage_is_refused() {
        let (here, there) = pair().unwrap();
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        send(&here, Kind::Open, 7, 9, b"A\0b", &[here.as_fd(), there.as_fd()]).unwrap();
        let packet = receive(&there, &mut buffer).unwrap().unwrap();
        assert_eq!((packet.kind, packet.number, packet.value), (Kind::Open, 7, 9));
        assert_eq!((&*packet.text, packet.fds.len()), (&b"A\0b"[..], 2));
        drop(packet);
        for garbage in [&b"short"[..], &[9; 16], &[0; 16]] {
            rustix::net::send(&here, garbage, SendFlags::empty()).unwrap();
            assert!(receive(&there, &mut buffer).is_err());
        }
        let longest = vec![b'x'; PACKET_BYTES_MAX - 16];
        send(&here, Kind::Open, 1, 1, &longest, &[]).unwrap();
        assert_eq!(receive(&there, &mut buffer).unwrap().unwrap().text.len(), longest.len());
        assert!(send(&here, Kind::Open, 1, 1, &[longest, vec![1]].concat(), &[]).is_err());
        drop(here);
        assert!(receive(&there, &mut buffer).unwrap().is_none());
    }
}
