//! A server that gives one and the same answer to every request.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Starts the server in the background of the test's runtime, and gives its address.
pub async fn start(status: u16, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, status, body));
        }
    });
    endpoint
}

/// Reads one request to its end, and answers it.
async fn answer(mut stream: TcpStream, status: u16, body: &'static str) {
    let (mut request, mut part) = (Vec::new(), [0; 4096]);
    let end = loop {
        match stream.read(&mut part).await {
            Ok(read) if read > 0 => request.extend_from_slice(&part[..read]),
            _ => return,
        }
        if let Some(end) = request.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
    let is_head = head.starts_with("head ");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
    while request.len() < end + length {
        match stream.read(&mut part).await {
            Ok(read) if read > 0 => request.extend_from_slice(&part[..read]),
            _ => return,
        }
    }
    let head =
        format!("HTTP/1.1 {status} Words\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let body = if is_head { "" } else { body };
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}
