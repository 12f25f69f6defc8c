//! A client that has a connection for each of its requests (RFC 9112), and says why one failed.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};

use crate::common::PATIENCE;

/// The body of the answer to a `GET /`: nothing but a whole answer with 200 is one.
pub(crate) fn ask(at: SocketAddr) -> Result<String> {
    let mut server = TcpStream::connect_timeout(&at, PATIENCE)?;
    server.set_read_timeout(Some(PATIENCE))?;
    server.write_all(format!("GET / HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut room = [0; 4096];
    loop {
        if let Some(body) = whole(&answer)? {
            return Ok(body);
        }
        match server.read(&mut room)? {
            0 => return Err(Error::new(ErrorKind::UnexpectedEof, format!("closed after {} bytes", answer.len()))),
            count => answer.extend_from_slice(&room[..count]),
        }
    }
}

/// The body, once all of it is there.
fn whole(answer: &[u8]) -> Result<Option<String>> {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Ok(None) };
    let strange = || Error::new(ErrorKind::InvalidData, head);
    if head.split(' ').nth(1) != Some("200") {
        return Err(strange());
    }
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length")).ok_or_else(strange)?.1;
    let length: usize = length.parse().map_err(|_| strange())?;
    Ok((body.len() >= length).then(|| body.trim().to_owned()))
}
