//! Mail against a mail server on loopback.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    task::JoinHandle,
};

use super::*;

/// A mail server on loopback that takes one message, or answers `RCPT` with `refusal`.
async fn server(refusal: Option<&'static str>) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        write.write_all(b"220 mail.example.com ESMTP\r\n").await.unwrap();
        let (mut heard, mut is_data) = (Vec::new(), false);
        while let Ok(Some(line)) = lines.next_line().await {
            let answer = match (is_data, line.split(' ').next().unwrap_or_default()) {
                (true, ".") => {
                    is_data = false;
                    "250 taken\r\n"
                }
                (true, _) => "",
                (false, "EHLO") => "250-mail.example.com\r\n250 AUTH PLAIN\r\n",
                (false, "AUTH") => "235 you are in\r\n",
                (false, "RCPT") => refusal.unwrap_or("250 good\r\n"),
                (false, "DATA") => {
                    is_data = true;
                    "354 go on\r\n"
                }
                (false, "QUIT") => "221 bye\r\n",
                (false, _) => "250 good\r\n",
            };
            heard.push(line);
            if write.write_all(answer.as_bytes()).await.is_err() {
                break;
            }
        }
        heard
    });
    (address, heard)
}

fn settings(address: SocketAddr) -> settings::Mail {
    settings::Mail {
        host: Some(address.ip().to_string()),
        port: Some(u32::from(address.port())),
        encryption: Encryption::None,
        from: Some("Boatyard <boatyard@example.com>".to_owned()),
        ..settings::Mail::default()
    }
}

#[tokio::test]
async fn a_mail_arrives_as_it_was_written() {
    let (address, heard) = server(None).await;
    let mail = Mail::new(&settings(address)).unwrap().unwrap();
    let text = "Hello,\n\nhttps://boat.example.com/invite?code=inv_1\n.\nGrüße\n";
    mail.send("ann@example.com", "An invitation", text.to_owned()).await.unwrap();
    drop(mail);
    let heard = heard.await.unwrap().join("\n");
    assert!(heard.contains("MAIL FROM:<boatyard@example.com>"), "{heard}");
    assert!(heard.contains("RCPT TO:<ann@example.com>"), "{heard}");
    assert!(heard.contains("Subject: An invitation"), "{heard}");
    assert!(heard.contains("Auto-Submitted: auto-generated"), "{heard}");
    assert!(heard.contains("invite?code"), "{heard}");
}

#[tokio::test]
async fn why_a_mail_server_does_not_take_it_is_told() {
    let (address, heard) = server(Some("550 no such mailbox here\r\n")).await;
    let mail = Mail::new(&settings(address)).unwrap().unwrap();
    let error = mail.send("ann@example.com", "s", "t".to_owned()).await.unwrap_err();
    assert!(crate::chain(&error).contains("no such mailbox here"), "{}", crate::chain(&error));
    heard.abort();
    // One that insists on encryption gets none here.
    let (address, heard) = server(None).await;
    let strict = settings::Mail { encryption: Encryption::StartTls, ..settings(address) };
    let mail = Mail::new(&strict).unwrap().unwrap();
    assert!(mail.send("ann@example.com", "s", "t".to_owned()).await.is_err());
    heard.abort();
    // Nobody is there.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mail = Mail::new(&settings(gone)).unwrap().unwrap();
    let error = mail.check().await.unwrap_err();
    assert!(error.to_string().contains(&gone.to_string()), "{error}");
}

#[tokio::test]
async fn an_address_that_would_add_lines_is_none() {
    let (address, heard) = server(None).await;
    let mail = Mail::new(&settings(address)).unwrap().unwrap();
    for bad in ["ann@example.com\r\nBcc: eve@example.com", "ann", "", "a b@example.com"] {
        let error = mail.send(bad, "s", "t".to_owned()).await.unwrap_err();
        assert!(matches!(error, MailError::Address(_)), "{bad}");
    }
    heard.abort();
}

#[test]
fn without_a_mail_server_there_is_no_mail() {
    assert!(Mail::new(&settings::Mail::default()).unwrap().is_none());
}
