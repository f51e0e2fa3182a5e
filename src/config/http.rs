//! What the HTTP server is told: where it listens, who may ask, and how much.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::overlay::variable_of;
use super::read::{optional, path_from, section};
use super::tokens::{Kind, TokenFile};
use crate::types::TopicName;
use crate::yaml::{Map, Value};

/// The HTTP server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Http {
    /// The address it listens on; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Who may ask for accounts and redeem.
    pub access: Access,
    /// How often who has a service token, or none, may ask.
    pub rate: Rate,
    /// How often a member may ask.
    pub member_rate: Rate,
    /// How many requests for accounts and redemptions are under way at a time, at most.
    pub max_requests: usize,
    /// Where requests for redemptions go; none are taken where absent.
    pub redemptions: Option<Redemptions>,
}

impl Http {
    /// As where nothing but the address is set: for the demo and for tests. On another address than the loopback
    /// interface's nothing is told of members.
    pub fn open(listen: SocketAddr) -> Self {
        let access = if is_local(listen) { Access::Loopback } else { Access::Nobody };
        Self {
            listen,
            access,
            rate: RATE,
            member_rate: MEMBER_RATE,
            max_requests: MAX_REQUESTS,
            redemptions: None,
        }
    }
}

impl fmt::Display for Http {
    /// Where it is served and to whom: `127.0.0.1:9464, accounts for whoever reaches it`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, accounts for ", self.listen)?;
        match &self.access {
            Access::Nobody => f.write_str("nobody")?,
            Access::Loopback => f.write_str("whoever reaches it")?,
            Access::Tokens { service, member } => {
                let service = service.as_ref().map(|file| format!("{} services' tokens", file.held().len()));
                let member =
                    member.as_ref().map(|file| format!("members' tokens by {} secrets", file.held().len()));
                let both: Vec<String> = service.into_iter().chain(member).collect();
                f.write_str(&both.join(" and "))?;
            }
        }
        match &self.redemptions {
            Some(redemptions) => write!(f, ", redemptions to {}", redemptions.topic),
            None => Ok(()),
        }
    }
}

/// Who may ask for accounts and redeem.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// Nobody: only health, metrics and the description are served.
    Nobody,
    /// Whoever reaches the port, which is on the loopback interface.
    Loopback,
    /// Who has a token; at least one of the two files is there.
    Tokens {
        /// Tokens that open every account.
        service: Option<TokenFile>,
        /// Secrets that the tokens of members are signed with.
        member: Option<TokenFile>,
    },
}

/// How often somebody may ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// So often a second in the long run, at least 1.
    pub per_second: u32,
    /// So often at once, at least 1.
    pub burst: u32,
}

/// Redemptions that are asked for over HTTP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redemptions {
    /// The input topic that the requests are put on.
    pub topic: TopicName,
    /// How long the answer is waited for, at most.
    pub wait: Duration,
}

/// Below what most shops need of one backend, and far above what hurts the worker.
const RATE: Rate = Rate { per_second: 100, burst: 200 };

/// Enough for pages that members open, and too little to redeem by trial.
const MEMBER_RATE: Rate = Rate { per_second: 5, burst: 20 };

/// Each costs a little memory while it is under way; the store answers one at a time.
const MAX_REQUESTS: usize = 128;

/// Reads `http`. The topics of the inputs are known where they were right.
pub(super) fn read(settings: &Map<'_>, folder: &Path, inputs: Option<&[TopicName]>) -> Option<Http> {
    const KNOWN: [&str; 8] = [
        "listen",
        "accounts",
        "tokens",
        "member_tokens",
        "rate",
        "member_rate",
        "max_requests",
        "redemptions",
    ];
    let section = section(settings, "http", &KNOWN);
    let section = section.as_ref();
    let default = SocketAddr::from(([127, 0, 0, 1], 9464));
    let listen = optional(section, "listen", default, |value| {
        value.read("an address and a port such as 127.0.0.1:9464 or 0.0.0.0:9464", |text| text.parse().ok())
    });
    let access = access(section, listen, folder);
    let rate = optional(section, "rate", RATE, |value| rate(&value, RATE));
    let member_rate = optional(section, "member_rate", MEMBER_RATE, |value| self::rate(&value, MEMBER_RATE));
    let max_requests = optional(section, "max_requests", MAX_REQUESTS, |value| value.whole(2..=10_000));
    let redemptions = optional(section, "redemptions", None, |value| redemptions(&value, inputs).map(Some));
    Some(Http {
        listen: listen?,
        access: access?,
        rate: rate?,
        member_rate: member_rate?,
        max_requests: max_requests?,
        redemptions: redemptions?,
    })
}

fn access(section: Option<&Map<'_>>, listen: Option<SocketAddr>, folder: &Path) -> Option<Access> {
    let accounts = optional(section, "accounts", true, |value| value.boolean());
    let service = optional(section, "tokens", None, |value| tokens(&value, folder, Kind::Service));
    let member = optional(section, "member_tokens", None, |value| tokens(&value, folder, Kind::Member));
    let (accounts, service, member, listen) = (accounts?, service?, member?, listen?);
    if !accounts {
        return Some(Access::Nobody);
    }
    if service.is_some() || member.is_some() {
        return Some(Access::Tokens { service, member });
    }
    if is_local(listen) {
        return Some(Access::Loopback);
    }
    let message = format!(
        "`http.listen` is {listen}, where others reach it, and nothing says who may read accounts; give \
         `http.tokens: {{file: PATH}}` (or {}) or `http.member_tokens: {{file: PATH}}`, or `http.accounts: false` for \
         nothing but health and metrics, or listen on 127.0.0.1 behind a proxy that asks for certificates",
        variable_of("http.tokens_file"),
    );
    // The setting is there: its default is a loopback address.
    if let Some(value) = section.and_then(|section| section.get("listen")) {
        value.report(message);
    }
    None
}

/// Whether only this machine reaches the address.
fn is_local(listen: SocketAddr) -> bool {
    listen.ip().to_canonical().is_loopback()
}

/// `{file: PATH}`, whose content is read, so that a mistake in it is known before anything is served.
fn tokens(value: &Value<'_>, folder: &Path, kind: Kind) -> Option<Option<TokenFile>> {
    let label = value.label();
    if value.is_scalar() {
        // What stands there is likely the secret itself, and is not quoted.
        value.report(format!("{label} must be {{file: PATH}}, of a file with {}", kind.describe()));
        return None;
    }
    let file = value.map(&["file"])?.required("file")?;
    let path = path_from(&file, folder, file.text()?);
    match TokenFile::read(path, kind) {
        Ok(file) => Some(Some(file)),
        Err(why) => {
            file.report(why);
            None
        }
    }
}

fn rate(value: &Value<'_>, default: Rate) -> Option<Rate> {
    let section = value.map(&["per_second", "burst"])?;
    let given =
        optional(Some(&section), "per_second", default.per_second, |value| value.whole(1..=1_000_000));
    let per_second = given?;
    let twice = per_second.saturating_mul(2);
    let burst = optional(Some(&section), "burst", twice, |value| value.whole(1..=1_000_000));
    Some(Rate { per_second, burst: burst? })
}

fn redemptions(value: &Value<'_>, inputs: Option<&[TopicName]>) -> Option<Redemptions> {
    let section = value.map(&["topic", "wait"])?;
    let wait =
        optional(Some(&section), "wait", Duration::from_secs(5), |value| value.duration("10ms", "30s"));
    let topic = section.required("topic")?;
    let name = TopicName::from(topic.text()?);
    // Where the inputs are wrong, that is said already.
    if let Some(inputs) = inputs
        && !inputs.contains(&name)
    {
        let known: Vec<&str> = inputs.iter().map(TopicName::as_str).collect();
        topic.report(format!(
            "{} must be one of the inputs, which are {}: what is put there has to be read",
            topic.label(),
            known.join(", ")
        ));
        return None;
    }
    Some(Redemptions { topic: name, wait: wait? })
}
