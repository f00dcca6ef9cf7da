//! `exec`, `file`, `git` and `blob` streams over a real link to a runner in this process.

mod common;

use std::time::Duration;

use boatyard_link::{
    ResetCode,
    message::{
        Done, ExecExit, ExecRequest, FailureCode, FileReply, FileRequest, GitReply, GitRequest,
        Header, MESSAGE_MAX, Reply, Request,
    },
};
use boatyard_model::BlobId;
use bytes::Bytes;
use common::{Place, Server, soon};
use tokio::io::AsyncReadExt;

fn sh(script: &str) -> ExecRequest {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).into();
    ExecRequest { command, ..ExecRequest::default() }
}

#[tokio::test]
async fn a_command_runs_in_a_clean_environment() {
    let place = Place::new();
    let runner = place.runner().await;
    let server = Server::connect(&runner).await;
    let ended = server.run(&["/bin/sh", "-c", "env; pwd; echo bad >&2; exit 3"]).await;
    let stdout = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(ended.stderr, b"bad\n");
    assert_eq!(ended.exit, ExecExit::Exited { code: 3 });
    for line in [
        "HTTPS_PROXY=http://127.0.0.1:3128",
        "NO_PROXY=localhost,127.0.0.1,::1",
        "LANG=C.UTF-8",
        "USER=agent",
        &format!("HOME={}", place.path("home/agent")),
        &place.path("work"),
    ] {
        assert!(stdout.lines().any(|l| l == line), "{line} in {stdout}");
    }
    assert!(!stdout.contains("CARGO"), "{stdout}");
}

#[tokio::test]
async fn input_and_large_output_go_through() {
    let place = Place::new();
    let runner = place.runner().await;
    let server = Server::connect(&runner).await;
    let command = vec!["wc".to_owned(), "-c".to_owned()];
    let request = ExecRequest { command, stdin: true, ..ExecRequest::default() };
    let mut exec = server.exec(request).await;
    for _ in 0..100 {
        exec.write(&[b'x'; 10_000]).await;
    }
    exec.write(b"").await;
    let ended = exec.ended().await;
    assert_eq!(String::from_utf8(ended.stdout).unwrap().trim(), "1000000");

    let ended = server.exec(sh("head -c 20000000 /dev/zero")).await.ended().await;
    assert_eq!((ended.stdout.len(), ended.exit), (20_000_000, ExecExit::Exited { code: 0 }));
}

#[tokio::test]
async fn what_cant_be_started_says_why() {
    let place = Place::new();
    let runner = place.runner().await;
    let server = Server::connect(&runner).await;
    for command in [&["no-such-program"][..], &[], &["/etc/passwd"]] {
        let ended = server.run(command).await;
        assert!(matches!(ended.exit, ExecExit::NotStarted { .. }), "{ended:?}");
    }
    let request = ExecRequest { cwd: Some("/etc".into()), ..sh("true") };
    let ended = server.exec(request).await.ended().await;
    assert!(matches!(ended.exit, ExecExit::NotStarted { .. }), "{ended:?}");
}

#[tokio::test]
async fn a_deadline_and_a_reset_kill() {
    let place = Place::new();
    let runner = place.runner().await;
    let mut server = Server::connect(&runner).await;
    let request = ExecRequest { deadline_millis: Some(50), ..sh("echo begun; sleep 1000") };
    let ended = server.exec(request).await.ended().await;
    assert_eq!((&ended.stdout[..], ended.exit), (&b"begun\n"[..], ExecExit::TimedOut));

    let marker = place.path("work/pid");
    let mut exec = server.exec(sh(&format!("echo $$ > {marker}; echo begun; sleep 1000"))).await;
    assert_eq!(exec.piece().await, (1, b"begun\n".to_vec()));
    exec.send.reset(ResetCode::CANCELLED, "");
    let pid = std::fs::read_to_string(marker).unwrap();
    soon(async {
        while std::path::Path::new(&format!("/proc/{}", pid.trim())).exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    soon(async {
        loop {
            match server.ask(Request::Status).await.unwrap() {
                Reply::Status(status) if status.execs == 0 => break,
                Reply::Status(_) => {}
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_background_process_does_not_hold_up_the_exit() {
    let place = Place::new();
    let runner = place.runner().await;
    let server = Server::connect(&runner).await;
    let ended = server.exec(sh("sleep 1000 & echo $!")).await.ended().await;
    assert_eq!(ended.exit, ExecExit::Exited { code: 0 });
    let pid = String::from_utf8(ended.stdout).unwrap();
    let proc = format!("/proc/{}", pid.trim());
    assert!(std::path::Path::new(&proc).exists());
    let kill = server.run(&["kill", "-9", pid.trim()]).await;
    assert_eq!(kill.exit, ExecExit::Exited { code: 0 });
}

#[tokio::test]
async fn files_are_written_read_and_listed() {
    let place = Place::new();
    let runner = place.runner().await;
    let server = Server::connect(&runner).await;
    let content = vec![7_u8; 1_500_000];
    let path = "new/deep/file".to_owned();
    let write = FileRequest::Write { path: path.clone(), executable: true };
    let mut stream = server.link.open(&Header::File(write)).unwrap();
    stream.send_half().send_bytes(Bytes::from(content.clone())).await.unwrap();
    stream.finish().unwrap();
    let reply: FileReply = soon(stream.recv_message(MESSAGE_MAX)).await.unwrap().unwrap();
    assert_eq!(reply, FileReply::Found { bytes: 1_500_000 });

    let read = FileRequest::Read { path: path.clone(), max: 2_000_000 };
    let mut stream = server.link.open(&Header::File(read)).unwrap();
    let reply: FileReply = soon(stream.recv_message(MESSAGE_MAX)).await.unwrap().unwrap();
    assert_eq!(reply, FileReply::Found { bytes: 1_500_000 });
    let mut bytes = Vec::new();
    soon(stream.read_to_end(&mut bytes)).await.unwrap();
    assert!(bytes == content);

    let list = FileRequest::List { path: "new".into() };
    let mut stream = server.link.open(&Header::File(list)).unwrap();
    let reply: FileReply = soon(stream.recv_message(MESSAGE_MAX)).await.unwrap().unwrap();
    let FileReply::Listing { entries, cut: false } = reply else { panic!("{reply:?}") };
    assert_eq!((entries[0].name.as_str(), entries[0].kind.as_str()), ("deep", "folder"));

    for (path, code) in [
        ("../../etc/passwd", FailureCode::Workspace),
        ("nothing", FailureCode::NotFound),
        ("new/deep/file", FailureCode::Workspace),
    ] {
        let read = FileRequest::Read { path: path.into(), max: 10 };
        let mut stream = server.link.open(&Header::File(read)).unwrap();
        let reply: FileReply = soon(stream.recv_message(MESSAGE_MAX)).await.unwrap().unwrap();
        assert!(matches!(&reply, FileReply::Failed(f) if f.code == code), "{path}: {reply:?}");
    }
}

#[tokio::test]
async fn a_write_that_breaks_off_leaves_nothing() {
    let place = Place::new();
    let runner = place.runner().await;
    let server = Server::connect(&runner).await;
    let write = FileRequest::Write { path: "half".into(), executable: false };
    let mut stream = server.link.open(&Header::File(write)).unwrap();
    stream.send_half().send_bytes(Bytes::from_static(b"half of it")).await.unwrap();
    let work = place.dir.path().join("work");
    let entries = || std::fs::read_dir(&work).unwrap().count();
    soon(async {
        while entries() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    stream.reset(ResetCode::CANCELLED, "");
    soon(async {
        while entries() > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(!work.join("half").exists());
}

#[tokio::test]
async fn a_diff_and_a_pack_come_over_the_link() {
    let place = Place::with_repository();
    let base = place.git(&["rev-parse", "HEAD"]);
    place.write("README", "one\n2\n");
    let runner = place.runner().await;
    let server = Server::connect(&runner).await;
    let folder = place.path("work/repo");
    let request = GitRequest::Diff {
        folder: folder.clone(),
        base: base.clone(),
        head: None,
        context: 3,
        max: 1 << 20,
    };
    let mut stream = server.link.open(&Header::Git(request)).unwrap();
    let reply: GitReply = soon(stream.recv_message(MESSAGE_MAX)).await.unwrap().unwrap();
    let GitReply::Diff { files, cut: false } = reply else { panic!("{reply:?}") };
    assert_eq!((files[0].path.as_str(), files[0].added), ("README", Some(1)));
    let mut patch = String::new();
    soon(stream.read_to_string(&mut patch)).await.unwrap();
    assert!(patch.contains("-two\n+2\n"), "{patch}");

    let request = GitRequest::Pack { folder: folder.clone(), want: base, have: vec![] };
    let mut stream = server.link.open(&Header::Git(request)).unwrap();
    let reply: GitReply = soon(stream.recv_message(MESSAGE_MAX)).await.unwrap().unwrap();
    assert_eq!(reply, GitReply::Done);
    let mut pack = Vec::new();
    soon(stream.read_to_end(&mut pack)).await.unwrap();
    assert!(pack.starts_with(b"PACK"));

    let request = GitRequest::Pack { folder, want: "0".repeat(40), have: vec![] };
    let mut stream = server.link.open(&Header::Git(request)).unwrap();
    let reply: GitReply = soon(stream.recv_message(MESSAGE_MAX)).await.unwrap().unwrap();
    assert!(matches!(reply, GitReply::Failed(f) if f.code == FailureCode::NotFound));
}

#[tokio::test]
async fn a_blob_is_taken_whole_or_not_at_all() {
    let place = Place::new();
    let runner = place.runner().await;
    let server = Server::connect(&runner).await;
    let header = |bytes| Header::Blob { blob: BlobId::new(), mime: "image/png".into(), bytes };
    let mut stream = server.link.open(&header(4)).unwrap();
    stream.send_half().send_bytes(Bytes::from_static(b"\x89PNG")).await.unwrap();
    stream.finish().unwrap();
    assert!(soon(stream.recv_message::<Done>(100)).await.unwrap().is_some());

    let mut stream = server.link.open(&header(9)).unwrap();
    stream.send_half().send_bytes(Bytes::from_static(b"\x89PNG")).await.unwrap();
    stream.finish().unwrap();
    assert!(soon(stream.recv_message::<Done>(100)).await.is_err());
}

#[tokio::test]
async fn an_unknown_stream_or_request_is_refused() {
    let place = Place::new();
    let runner = place.runner().await;
    let server = Server::connect(&runner).await;
    let mut stream = server.link.open(&serde_json::json!({"stream": "teleport"})).unwrap();
    assert!(soon(stream.recv_message::<Done>(100)).await.is_err());
    let mut stream = server.link.open(&Header::Control).unwrap();
    let request = serde_json::json!({"id": 9, "request": {"do": "dance"}});
    stream.send_message(&request).await.unwrap();
    let reply: serde_json::Value = soon(stream.recv_message(9999)).await.unwrap().unwrap();
    assert_eq!(reply["reply"]["id"], 9);
    assert_eq!(reply["reply"]["result"]["Err"]["code"], "unsupported");
}
