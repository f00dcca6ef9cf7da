//! Questions over UDP, from the socket inside a workspace's network.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::UdpSocket as StdSocket,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::{
    libc::in_pktinfo,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg},
};
use socket2::{Domain, Protocol, SockRef, Type};
use tokio::{io::Interest, net::UdpSocket};

use super::{Names, answer::answer};
use crate::Error;

/// The longest question; longer ones are cut, and so not understood.
const QUESTION_MAX: usize = 1500;
/// After how many questions others get their turn.
const AT_ONCE: usize = 32;

/// The socket, known to be one.
#[derive(Debug)]
pub(crate) struct Datagrams(UdpSocket);

/// A question and where it came from.
struct Question {
    length: usize,
    from: SockaddrIn,
    /// Whom it was asked of: the answer comes from there.
    asked: Option<in_pktinfo>,
}

impl Datagrams {
    /// Takes the descriptor for what it should be: a UDP socket. It came from inside a sandbox, so
    /// it is looked at first.
    ///
    /// # Errors
    ///
    /// [`Error::NotDatagrams`] when it is something else.
    pub(crate) fn adopt(descriptor: OwnedFd) -> Result<Self, Error> {
        let found = |found| Error::NotDatagrams { found };
        {
            let socket = SockRef::from(&descriptor);
            if socket.r#type().map_err(|_| found("not a socket"))? != Type::DGRAM {
                return Err(found("not a socket for datagrams"));
            }
            if socket.domain().map_err(Error::Listener)? != Domain::IPV4
                || socket.protocol().map_err(Error::Listener)? != Some(Protocol::UDP)
            {
                return Err(found("not UDP"));
            }
        }
        let socket = StdSocket::from(descriptor);
        socket.set_nonblocking(true).map_err(Error::Listener)?;
        Ok(Self(UdpSocket::from_std(socket).map_err(Error::Listener)?))
    }

    /// Answers, until the socket can't be read any more.
    ///
    /// # Errors
    ///
    /// [`Error::Listener`], then.
    pub(crate) async fn serve(&self, names: &Names) -> Result<(), Error> {
        let mut buffer = [0; QUESTION_MAX];
        loop {
            for _ in 0..AT_ONCE {
                let receive = || receive(&self.0, &mut buffer);
                let question = self.0.async_io(Interest::READABLE, receive).await;
                let Question { length, from, asked } = match question {
                    Ok(Some(question)) => question,
                    Ok(None) => continue,
                    Err(error) => return Err(Error::Listener(error)),
                };
                if let Some(answer) = answer(&buffer[..length], names) {
                    // A client that has gone, or does not read: it asks again, or it does not.
                    let _ = send(&self.0, &answer, &from, asked);
                }
            }
            tokio::task::yield_now().await;
        }
    }
}

/// The next datagram; none where it says nothing of where it came from.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<Question>> {
    let mut control = nix::cmsg_space!(in_pktinfo);
    let mut buffers = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let received =
        recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut buffers, Some(&mut control), flags)?;
    let asked = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(info),
        _ => None,
    });
    let length = received.bytes;
    Ok(received.address.map(|from| Question { length, from, asked }))
}

fn send(
    socket: &UdpSocket,
    answer: &[u8],
    to: &SockaddrIn,
    asked: Option<in_pktinfo>,
) -> io::Result<()> {
    let from = asked.map(|asked| in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: asked.ipi_addr,
        ipi_addr: asked.ipi_addr,
    });
    let control = from.as_ref().map(ControlMessage::Ipv4PacketInfo);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(answer)], control.as_slice(), flags, Some(to))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hickory_proto::{
        op::{Message, MessageType, OpCode, Query},
        rr::{Name, RecordType},
    };
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn only_a_udp_socket_is_taken() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(matches!(Datagrams::adopt(listener.into()), Err(Error::NotDatagrams { .. })));
        let file = tempfile::tempfile().unwrap();
        assert!(matches!(Datagrams::adopt(file.into()), Err(Error::NotDatagrams { .. })));
        let unix = std::os::unix::net::UnixDatagram::unbound().unwrap();
        assert!(matches!(Datagrams::adopt(unix.into()), Err(Error::NotDatagrams { .. })));
        let six = StdSocket::bind("[::1]:0").unwrap();
        assert!(matches!(Datagrams::adopt(six.into()), Err(Error::NotDatagrams { .. })));
    }

    #[tokio::test]
    async fn questions_are_answered_and_what_is_none_does_no_harm() {
        let socket = StdSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let datagrams = Datagrams::adopt(socket.into()).unwrap();
        let serving = tokio::spawn(async move { datagrams.serve(&Names::forgetful()).await });
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(address).await.unwrap();
        client.send(b"").await.unwrap();
        client.send(&[7; 1400]).await.unwrap();
        let mut asked = Message::new(9, MessageType::Query, OpCode::Query);
        asked.add_query(Query::query(Name::from_ascii("a.example.").unwrap(), RecordType::A));
        client.send(&asked.to_vec().unwrap()).await.unwrap();
        let mut buffer = [0; 512];
        loop {
            let received = timeout(Duration::from_secs(10), client.recv(&mut buffer)).await;
            let length = received.unwrap().unwrap();
            let said = Message::from_vec(&buffer[..length]).unwrap();
            if said.metadata.id == 9 {
                assert_eq!(said.answers[0].data.to_string(), "198.18.0.1");
                break;
            }
        }
        serving.abort();
    }
}
