//! How often somebody may ask: a bucket of tokens each, kept as the one moment at which it is full again (GCRA).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use crate::config::Rate;
use crate::types::MemberId;

/// So many are told apart at a time. Where more ask, those beyond share one allowance.
const MOST: usize = 10_000;

/// Who is full again is forgotten; where the room is short, it is looked for so often.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// Who asks, for the count.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Who {
    /// A service, by its token's place in the file.
    Service(usize),
    /// A member, with any of their tokens.
    Member(MemberId),
    /// Somebody without a token that counts.
    Address(IpAddr),
    /// All for whom there was no room.
    Others,
}

impl Who {
    /// An address: of version 6 its network of 64 bits, because whoever has one of those addresses has all.
    pub(super) fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// Counts what everybody asks.
#[derive(Debug)]
pub(super) struct Limiter {
    full_at: HashMap<Who, Instant, RandomState>,
    most: usize,
    tidied: Option<Instant>,
}

impl Limiter {
    pub(super) fn new() -> Self {
        Self { full_at: HashMap::default(), most: MOST, tidied: None }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// In how long the next one is allowed, where this one is too many.
    pub(super) fn take(&mut self, who: Who, rate: Rate, now: Instant) -> Result<(), Duration> {
        let who = if self.has_room_for(&who, now) { who } else { Who::Others };
        let each = Duration::from_secs(1) / rate.per_second.max(1);
        let full_at = self.full_at.get(&who).copied().map_or(now, |full_at| full_at.max(now));
        let full_at = full_at + each;
        let too_far = full_at.duration_since(now).checked_sub(each.saturating_mul(rate.burst.max(1)));
        if let Some(wait) = too_far.filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        self.full_at.insert(who, full_at);
        Ok(())
    }

    fn has_room_for(&mut self, who: &Who, now: Instant) -> bool {
        if self.full_at.len() < self.most || self.full_at.contains_key(who) {
            return true;
        }
        if self.tidied.is_none_or(|tidied| now.duration_since(tidied) >= TIDY_EVERY) {
            self.tidied = Some(now);
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        self.full_at.len() < self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 10, burst: 3 };

    fn member(name: &str) -> Who {
        Who::Member(name.into())
    }

    #[test]
    fn a_burst_is_allowed_and_then_the_rate_and_each_has_their_own() {
        let (mut limiter, start) = (Limiter::new(), Instant::now());
        for _ in 0..3 {
            assert_eq!(limiter.take(member("a"), RATE, start), Ok(()));
        }
        assert_eq!(limiter.take(member("a"), RATE, start), Err(Duration::from_millis(100)));
        assert_eq!(limiter.take(member("b"), RATE, start), Ok(()));
        let later = start + Duration::from_millis(100);
        assert_eq!(limiter.take(member("a"), RATE, later), Ok(()));
        assert_eq!(limiter.take(member("a"), RATE, later), Err(Duration::from_millis(100)));
        // Refused requests cost nothing, and no more than the burst is saved up.
        let rested = start + Duration::from_mins(1);
        let allowed = (0..10).filter(|_| limiter.take(member("a"), RATE, rested).is_ok()).count();
        assert_eq!(allowed, 3);
    }

    #[test]
    fn the_state_stays_within_its_bound_and_those_beyond_share() {
        let (mut limiter, start) = (Limiter { most: 4, ..Limiter::new() }, Instant::now());
        for number in 0..100 {
            limiter.take(member(&number.to_string()), RATE, start).ok();
        }
        assert_eq!(limiter.full_at.len(), 5, "four and all others");
        assert!(limiter.take(member("200"), RATE, start).is_err(), "the others have had their share");
        assert!(limiter.take(member("0"), RATE, start).is_ok(), "who was there before is not disturbed");
        assert!(limiter.take(member("200"), RATE, start + Duration::from_mins(1)).is_ok());
        assert!(limiter.full_at.len() <= 5);
    }

    #[test]
    fn addresses_of_one_network_of_version_6_count_together() {
        let at = |text: &str| Who::at(text.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:2"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
        assert_ne!(at("10.0.0.1"), at("10.0.0.2"));
    }
}
