//! Authenticated messages between nodes.
//!
//! A frame is its length, an HMAC-SHA256 and the payload. Both nodes derive the keys of a
//! connection from a key of the cluster and from a nonce of each, with a key for each direction,
//! and count the frames: so a frame can be neither forged nor sent again. Nothing is encrypted.
//!
//! The handshake: the connecting node sends [`GREETING`] and its nonce, and gets the other nonce.
//! Then each sends an empty frame, which proves that it has the key, before any other.

use std::io::{Error, ErrorKind, Result};

use hmac::{Hmac, KeyInit, Mac, digest::Key};
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::store::forwarding::ClusterKey;

/// The protocol and its version. Nodes of another version refuse the connection, and commits are
/// not forwarded between them. Must change with the form of any message.
const GREETING: &[u8; 16] = b"souk forward 1\r\n";

const NONCE_BYTES: usize = 16;
const TAG_BYTES: usize = 32;

/// The longest payload.
const MAX_PAYLOAD_BYTES: u32 = 32 * 1024 * 1024;

type Nonce = [u8; NONCE_BYTES];

/// Which of the two nodes sends a frame.
#[derive(Clone, Copy)]
enum Sender {
    Connecting,
    Accepting,
}

/// A key for one direction of a connection, and the number of the next frame.
#[derive(Clone)]
struct FrameAuthenticator {
    mac: Hmac<Sha256>,
    next_frame: u64,
}

impl FrameAuthenticator {
    fn new(key: &ClusterKey, nonces: [Nonce; 2], sender: Sender) -> Self {
        let direction: &[u8] = match sender {
            Sender::Connecting => b"connecting",
            Sender::Accepting => b"accepting",
        };
        let derived = new_mac(key)
            .chain_update(GREETING)
            .chain_update(nonces.as_flattened())
            .chain_update(direction)
            .finalize()
            .into_bytes();
        Self { mac: new_mac(&derived), next_frame: 0 }
    }

    fn next_mac(&mut self, payload: &[u8]) -> Hmac<Sha256> {
        let number = self.next_frame.to_be_bytes();
        self.next_frame += 1;
        self.mac.clone().chain_update(number).chain_update(payload)
    }
}

fn new_mac(bytes: &[u8]) -> Hmac<Sha256> {
    let mut key = Key::<Hmac<Sha256>>::default();
    key.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    Hmac::new(&key)
}

/// The sending half of a connection.
pub(super) struct FrameWriter<W> {
    stream: W,
    authenticator: FrameAuthenticator,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Sends a frame.
    pub(super) async fn write(&mut self, payload: &[u8]) -> Result<()> {
        let length = u32::try_from(payload.len())
            .ok()
            .filter(|length| *length <= MAX_PAYLOAD_BYTES)
            .ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the message is too long"))?;
        let tag = self.authenticator.next_mac(payload).finalize().into_bytes();
        let frame = [&length.to_be_bytes(), &*tag, payload].concat();
        self.stream.write_all(&frame).await
    }

    /// Tells the other node that nothing follows.
    pub(super) async fn finish(&mut self) -> Result<()> {
        self.stream.shutdown().await
    }
}

/// The receiving half of a connection.
pub(super) struct FrameReader<R> {
    stream: R,
    authenticator: FrameAuthenticator,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Receives a frame. `None` when the other node has finished.
    ///
    /// # Errors
    /// The connection broke, or the frame is not genuine.
    pub(super) async fn read(&mut self) -> Result<Option<Vec<u8>>> {
        let Some((tag, payload)) = read_frame(&mut self.stream, MAX_PAYLOAD_BYTES).await? else {
            return Ok(None);
        };
        match self.authenticator.next_mac(&payload).verify_slice(&tag) {
            Ok(()) => Ok(Some(payload)),
            Err(_) => Err(not_genuine()),
        }
    }
}

fn not_genuine() -> Error {
    Error::new(ErrorKind::PermissionDenied, "a message is not from a node of this cluster")
}

async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
    max_bytes: u32,
) -> Result<Option<([u8; TAG_BYTES], Vec<u8>)>> {
    let length = match stream.read_u32().await {
        Ok(length) if length <= max_bytes => u64::from(length),
        Ok(_) => return Err(Error::new(ErrorKind::InvalidData, "a message is too long")),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut tag = [0; TAG_BYTES];
    stream.read_exact(&mut tag).await?;
    // The buffer grows with what arrives: a length alone takes no memory.
    let mut payload = Vec::new();
    if stream.take(length).read_to_end(&mut payload).await? as u64 != length {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((tag, payload)))
}

/// The handshake of the node that connects.
///
/// # Errors
/// The other node is none of this cluster, has another version, or is gone.
pub(super) async fn connect<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    mut input: R,
    mut output: W,
    key: &ClusterKey,
) -> Result<(FrameReader<R>, FrameWriter<W>)> {
    let own_nonce: Nonce = rand::random();
    output.write_all(&[&GREETING[..], &own_nonce].concat()).await?;
    let mut nonce = Nonce::default();
    input.read_exact(&mut nonce).await?;
    let authenticator = |sender| FrameAuthenticator::new(key, [own_nonce, nonce], sender);
    let mut writer =
        FrameWriter { stream: output, authenticator: authenticator(Sender::Connecting) };
    writer.write(&[]).await?;
    let mut reader = FrameReader { stream: input, authenticator: authenticator(Sender::Accepting) };
    match reader.read().await? {
        Some(payload) if payload.is_empty() => Ok((reader, writer)),
        _ => Err(not_genuine()),
    }
}

/// The handshake of the node that is connected to.
///
/// # Errors
/// The other node is none of this cluster, has another version, or is gone.
pub(super) async fn accept<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    mut input: R,
    mut output: W,
    keys: &[ClusterKey],
) -> Result<(FrameReader<R>, FrameWriter<W>)> {
    let (mut greeting, mut nonce) = ([0; GREETING.len()], Nonce::default());
    input.read_exact(&mut greeting).await?;
    if greeting != *GREETING {
        return Err(Error::new(ErrorKind::InvalidData, "the other side has another protocol"));
    }
    input.read_exact(&mut nonce).await?;
    let own_nonce: Nonce = rand::random();
    output.write_all(&own_nonce).await?;
    let Some((tag, payload)) = read_frame(&mut input, 0).await? else {
        return Err(ErrorKind::UnexpectedEof.into());
    };
    for key in keys {
        let authenticator = |sender| FrameAuthenticator::new(key, [nonce, own_nonce], sender);
        let mut receiving = authenticator(Sender::Connecting);
        if receiving.next_mac(&payload).verify_slice(&tag).is_err() {
            continue;
        }
        let reader = FrameReader { stream: input, authenticator: receiving };
        let mut writer =
            FrameWriter { stream: output, authenticator: authenticator(Sender::Accepting) };
        writer.write(&[]).await?;
        return Ok((reader, writer));
    }
    Err(not_genuine())
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, ReadHalf, WriteHalf, duplex, split};

    use super::*;

    const KEY: ClusterKey = [7; 32];
    const OTHER_KEY: ClusterKey = [8; 32];

    type Connection = (FrameReader<ReadHalf<DuplexStream>>, FrameWriter<WriteHalf<DuplexStream>>);

    async fn handshake(
        key: ClusterKey,
        accepted: &[ClusterKey],
    ) -> (Result<Connection>, Result<Connection>) {
        let (here, there) = duplex(1024);
        let connecting = async {
            let (input, output) = split(here);
            connect(input, output, &key).await
        };
        let accepting = async {
            let (input, output) = split(there);
            accept(input, output, accepted).await
        };
        tokio::join!(connecting, accepting)
    }

    #[tokio::test]
    async fn frames_arrive_in_both_directions_until_the_end() {
        let (here, there) = handshake(KEY, &[OTHER_KEY, KEY]).await;
        let ((mut from_there, mut to_there), (mut from_here, mut to_here)) =
            (here.unwrap(), there.unwrap());
        for payload in [&b"one"[..], b"", b"two"] {
            to_there.write(payload).await.unwrap();
            assert_eq!(from_here.read().await.unwrap().unwrap(), payload);
            to_here.write(payload).await.unwrap();
            assert_eq!(from_there.read().await.unwrap().unwrap(), payload);
        }
        to_there.finish().await.unwrap();
        assert!(from_here.read().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn node_with_another_key_is_refused() {
        let (here, there) = handshake(OTHER_KEY, &[KEY]).await;
        assert!(here.is_err());
        assert_eq!(there.err().unwrap().kind(), ErrorKind::PermissionDenied);
    }

    #[tokio::test]
    async fn other_protocol_is_refused() {
        let (mut here, there) = duplex(1024);
        here.write_all(b"GET /api/products HTTP/1.1\r\n\r\n").await.unwrap();
        let (input, output) = split(there);
        let error = accept(input, output, &[KEY]).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn frame_that_was_changed_or_sent_again_is_refused() {
        let nonces = [[1; NONCE_BYTES], [2; NONCE_BYTES]];
        let authenticator = FrameAuthenticator::new(&KEY, nonces, Sender::Connecting);
        let mut written = Vec::new();
        let mut writer = FrameWriter { stream: &mut written, authenticator: authenticator.clone() };
        writer.write(b"take 1").await.unwrap();
        let read = async |bytes: &[u8]| {
            let mut reader = FrameReader { stream: bytes, authenticator: authenticator.clone() };
            let first = reader.read().await;
            (first, reader.read().await)
        };
        let (first, second) = read(&[&*written, &*written].concat()).await;
        assert_eq!(first.unwrap().unwrap(), b"take 1");
        assert_eq!(second.unwrap_err().kind(), ErrorKind::PermissionDenied);
        for index in 4..written.len() {
            let mut changed = written.clone();
            changed[index] ^= 1;
            let (first, _) = read(&changed).await;
            assert_eq!(first.unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
        let (cut, _) = read(&written[..written.len() - 1]).await;
        assert_eq!(cut.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
}
