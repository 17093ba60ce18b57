//! A front before a server: looks at the head of each request, and passes it on, changed or not, or refuses it.
//!
//! One request a connection, so that nothing but heads has to be understood.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};

/// A request without its body.
#[derive(Clone)]
pub struct Head {
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    pub headers: Vec<(String, String)>,
}

impl Head {
    fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        let mut first = lines.next().expect("a first line").split(' ').map(str::to_owned);
        let (method, target) = (first.next().expect("a method"), first.next().expect("a target"));
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        Self { method, target, headers }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(found, _)| found != name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    fn write(&self) -> String {
        let headers: String =
            self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{} {} HTTP/1.1\r\n{headers}\r\n", self.method, self.target)
    }
}

/// What becomes of a request.
pub enum Way {
    /// It goes on with this head; the answer gets these lines of header more.
    On(Head, &'static str),
    /// It is answered with 403.
    Refused,
}

/// Starts a front before the server at that port, in the background of the test's runtime; gives its address.
pub async fn start(port: u16, way: impl Fn(Head) -> Way + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let way = Arc::new(way);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let way = Arc::clone(&way);
            tokio::spawn(async move { pass(stream, port, &*way).await });
        }
    });
    address
}

/// A connection that breaks is the client's to notice.
async fn pass(mut client: TcpStream, port: u16, way: &(impl Fn(Head) -> Way + Send + Sync)) -> Option<()> {
    let (mut read, mut part) = (Vec::new(), vec![0; 16 << 10]);
    let end = loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        match client.read(&mut part).await.ok()? {
            0 => return None,
            count => read.extend_from_slice(&part[..count]),
        }
    };
    let head = Head::parse(&String::from_utf8_lossy(&read[..end]));
    let length: usize = head.header("content-length").map_or(0, |length| length.parse().expect("a number"));
    let mut body = read.split_off(end);
    body.reserve(length - body.len());
    while body.len() < length {
        match client.read(&mut part).await.ok()? {
            0 => return None,
            count => body.extend_from_slice(&part[..count]),
        }
    }
    let Way::On(mut head, more) = way(head) else {
        let body = "<Error><Code>AccessDenied</Code><Message>by the front</Message></Error>";
        let answer = format!(
            "HTTP/1.1 403 Forbidden\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        return client.write_all(answer.as_bytes()).await.ok();
    };
    head.set("connection", "close");
    let mut server = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    server.write_all(head.write().as_bytes()).await.ok()?;
    server.write_all(&body).await.ok()?;
    answer(&mut server, &mut client, more).await
}

/// Passes the answer on, with more lines behind its first.
async fn answer(server: &mut TcpStream, client: &mut TcpStream, more: &str) -> Option<()> {
    let mut first = Vec::new();
    while !first.ends_with(b"\r\n") {
        first.push(server.read_u8().await.ok()?);
    }
    client.write_all(&first).await.ok()?;
    client.write_all(more.as_bytes()).await.ok()?;
    copy(server, client).await.ok().map(drop)
}
