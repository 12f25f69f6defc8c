//! A server of the standard library alone, one client after the other; linked statically. It handles no signal.

use std::io::{BufRead, BufReader, Result, Write};
use std::net::{TcpListener, TcpStream};

fn main() -> Result<()> {
    let who = std::env::var("NODE_APP_INSTANCE").unwrap_or_default();
    let address = std::env::var("ADDRESS").map_err(std::io::Error::other)?;
    for client in TcpListener::bind(address)?.incoming() {
        // A client that has gone is no reason to end.
        let _ = client.and_then(|client| answer(client, &who));
    }
    Ok(())
}

fn answer(mut client: TcpStream, who: &str) -> Result<()> {
    for line in BufReader::new(client.try_clone()?).lines() {
        if line?.is_empty() {
            break;
        }
    }
    write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{who}", who.len())
}
