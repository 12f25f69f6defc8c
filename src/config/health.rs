//! `[apps.health]`: how to see whether an app is well. Its keys are rows of `schema` as all others; here is what they mean
//! together, and what a probe may be aimed at. Names of hosts are not taken: nobody would look them up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::schema;
use super::value::{Refused, Scalar, Val, Value, Wrongs};
use super::words::{self, Dollars};
use super::{Facts, app};
use crate::supervisor::spec::{Health, Probe};
use crate::supervisor::texts::Texts;

/// The values of the keys, as far as they do not have a place already.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) health: Health,
    pub(super) http: Option<Http>,
    pub(super) tcp: Option<Tcp>,
    pub(super) exec: Option<Command>,
    pub(super) port: Option<u16>,
}

impl Value for Health {
    fn expects() -> String {
        "a table with one of http, tcp or exec, as { http = \"/healthz\", interval = \"10s\" }".into()
    }

    fn read(val: &Val<'_>) -> Result<Health, Wrongs> {
        let draft = schema::below(schema::HEALTH, val)?;
        finish(draft).map_err(|why| val.wrong(Refused::Because(why.into())))
    }
}

fn finish(draft: Draft) -> Result<Health, &'static str> {
    let Draft { health, http, tcp, exec, port } = draft;
    let at = |at: Box<str>| match port {
        Some(_) if !at.is_empty() => Err("it names a port, and so does port; one of them says which"),
        Some(port) => Ok(format!(":{port}").into()),
        None => Ok(at),
    };
    let probe = match (http, tcp, exec) {
        (Some(Http { at: given, path }), None, None) => Probe::Http { at: at(given)?, path },
        (None, Some(Tcp(given)), None) => Probe::Tcp { at: at(given)? },
        (None, None, Some(Command(words))) if port.is_none() => Probe::Exec(words),
        (None, None, Some(_)) => return Err("port is for http and tcp; a command has its own words"),
        _ => return Err("expected exactly one of http, tcp and exec"),
    };
    Ok(Health { probe, ..health })
}

/// What is asked for: a path, or a whole address.
pub(super) struct Http {
    at: Box<str>,
    path: Box<str>,
}

impl Scalar for Http {
    fn expects() -> String {
        "a path, as \"/healthz\", or \"http://127.0.0.1:3000/healthz\"".into()
    }

    fn parse(text: &str, _: &Facts) -> Result<Http, Refused> {
        let is_plain = text.chars().all(|letter| letter.is_ascii_graphic());
        if text.starts_with("https:") {
            return Err(Refused::Because("probes speak plain http; for https set exec, with curl for example".into()));
        }
        let (at, path) = match text.strip_prefix("http://") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", text),
        };
        let is_path = path.starts_with('/') || path.is_empty() && !at.is_empty();
        if !is_plain || !is_path {
            return Err(Refused::Expected);
        }
        let at = if at.is_empty() { Box::default() } else { address(at, Some(80))? };
        Ok(Http { at, path: if path.is_empty() { "/" } else { path }.into() })
    }
}

/// What is connected to.
pub(super) struct Tcp(Box<str>);

impl Scalar for Tcp {
    fn expects() -> String {
        "a port, \"127.0.0.1:3000\", or true: where it listens".into()
    }

    fn parse(text: &str, _: &Facts) -> Result<Tcp, Refused> {
        match (text, text.parse::<u16>()) {
            ("true", _) => Ok(Tcp(Box::default())),
            (_, Ok(port)) if port > 0 => Ok(Tcp(format!(":{port}").into())),
            _ => address(text, None).map(Tcp),
        }
    }
}

/// An address as it is connected to.
fn address(text: &str, usual: Option<u16>) -> Result<Box<str>, Refused> {
    let (host, port) = match text.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
        Some((host, port)) => (host, port.parse().ok()),
        None => (text, usual),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let ip = match host {
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ => bare.unwrap_or(host).parse().ok().filter(|ip: &IpAddr| ip.is_ipv6() == bare.is_some()),
    };
    match (ip, port.filter(|port| *port > 0)) {
        (Some(ip), Some(port)) => Ok(SocketAddr::new(ip, port).to_string().into()),
        (None, Some(_)) => {
            let known = "an address, as 127.0.0.1, [::1] or localhost: names are not looked up";
            Err(Refused::Because(format!("expected {known}, not {host:?}")))
        }
        (_, None) => Err(Refused::Expected),
    }
}

/// What is run.
pub(super) struct Command(Texts);

impl Value for Command {
    fn expects() -> String {
        "a command line, or an array of its words".into()
    }

    fn read(val: &Val<'_>) -> Result<Command, Wrongs> {
        let words: Vec<String> = match val.node.list() {
            Some(_) => val.each("a text", |item| item.text())?,
            None => {
                let line = val.raw()?;
                // As of other command lines: only what no program could understand is for a shell.
                if line.contains(app::SHELL) {
                    vec!["/bin/sh".into(), "-c".into(), line.to_owned()]
                } else {
                    let split = words::split(line, Dollars::Kept, &|_| None);
                    split.map_err(|why| val.wrong(Refused::Because(why)))?
                }
            }
        };
        if words.is_empty() {
            return Err(val.wrong(Refused::Because("it is empty; nothing would run".into())));
        }
        Ok(Command(words.into_iter().collect()))
    }
}
