//! Questions over TCP: each with its length before it.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use super::{Names, answer::answer};

/// The longest question in bytes; who sends a longer one is not asking for an address.
const QUESTION_MAX: usize = 4096;
/// How long a client may take for a question, and to read the answer.
const WITHIN: Duration = Duration::from_secs(10);
/// How many questions one connection may bring.
const QUESTIONS: usize = 256;

/// Answers until the client goes, is slow, or says what is no question.
pub(crate) async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, names: &Names) {
    for _ in 0..QUESTIONS {
        match timeout(WITHIN, one(&mut stream, names)).await {
            Ok(Some(())) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

/// One question; none when there is no other.
async fn one(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), names: &Names) -> Option<()> {
    let length = stream.read_u16().await.ok()?;
    let mut question = vec![0; usize::from(length)];
    if question.len() > QUESTION_MAX {
        return None;
    }
    stream.read_exact(&mut question).await.ok()?;
    let answer = answer(&question, names)?;
    let mut message = u16::try_from(answer.len()).ok()?.to_be_bytes().to_vec();
    message.extend_from_slice(&answer);
    stream.write_all(&message).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn questions_are_answered_one_after_another() {
        let (mut client, server) = tokio::io::duplex(1024);
        let serving = tokio::spawn(async move { serve(server, &Names::forgetful()).await });
        // The header says one question, the name is `a`.
        let question = [0, 5, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];
        for _ in 0..2 {
            client.write_u16(question.len() as u16).await.unwrap();
            client.write_all(&question).await.unwrap();
            let length = client.read_u16().await.unwrap();
            let mut answer = vec![0; length.into()];
            client.read_exact(&mut answer).await.unwrap();
            assert!(answer.ends_with(&[198, 18, 0, 1]), "{answer:?}");
        }
        // One that is too long ends it.
        client.write_u16(u16::MAX).await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        serving.await.unwrap();
        // So does one that never comes.
        let (mut client, server) = tokio::io::duplex(1024);
        let serving = tokio::spawn(async move { serve(server, &Names::forgetful()).await });
        client.write_u8(0).await.unwrap();
        serving.await.unwrap();
    }
}
