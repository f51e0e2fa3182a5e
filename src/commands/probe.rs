//! `accrual probe URL`: asks a worker how it is, for healthchecks in images without curl.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

/// What `accrual probe` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct ProbeArgs {
    /// Where to ask, such as <http://127.0.0.1:9464/readyz>.
    url: String,
}

/// Prints the answer and succeeds where its status is 200.
///
/// # Errors
/// Where nobody answers.
pub fn probe(args: &ProbeArgs) -> anyhow::Result<ExitCode> {
    let Some(rest) = args.url.strip_prefix("http://") else {
        bail!("expected a URL that begins with http://")
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = host.to_socket_addrs().with_context(|| format!("{host} is no host:port"))?.next();
    let address = address.with_context(|| format!("{host} has no address"))?;
    let wait = Duration::from_secs(5);
    let mut stream =
        TcpStream::connect_timeout(&address, wait).with_context(|| format!("{host} does not answer"))?;
    stream.set_read_timeout(Some(wait))?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer).context("reading the answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    println!("{}", body.trim());
    let ok = head.split_whitespace().nth(1) == Some("200");
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
