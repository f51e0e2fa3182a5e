//! Registrations and referrals: what a newcomer's registration pays at once, what waits for their first order, and
//! what their referrer is paid.
//!
//! Referrals never go in a circle. The referrer of whom is paid had registered before the newcomer, or was referring
//! before ever registering; and who has referred somebody that registered before them is no newcomer. So along referrals
//! that pay, moments of registration only ever go back. That needs no look at other accounts.

use crate::account::Account;
use crate::entry::{Message, Why};
use crate::event::Event;
use crate::event::internal::{Internal, Referred};
use crate::programme::{After, Payee, Programme, Rule};
use crate::types::RuleId;

/// What becomes of what a rule pays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Course {
    /// The member has it now.
    Pay,
    /// The member's referrer is told now.
    Refer,
    /// It waits for the member's first order.
    Wait,
    /// Nobody has it.
    Decline(Why),
    /// The rule has nothing to do with this event.
    Pass,
}

/// What becomes of what a rule on the event's type pays.
pub(super) fn course(rule: &Rule, account: &Account, event: &Event) -> Course {
    let Some(update) = event.profile.as_ref().filter(|update| update.registered) else { return Course::Pay };
    let at = event.time.as_second();
    if account.profile.registered.is_some() {
        return Course::Decline(Why::RegisteredBefore);
    }
    if rule.is_about_referral() {
        match &update.referrer {
            None if rule.to == Payee::Referrer => return Course::Pass,
            None => {}
            Some(referrer) if *referrer == event.member => return Course::Decline(Why::SelfReferral),
            Some(_) if account.profile.refers_since.is_some_and(|since| since <= at) => {
                return Course::Decline(Why::NotANewcomer);
            }
            Some(_) => {}
        }
    }
    // Topics are read side by side: the order may have come first.
    let has_ordered = account.activity.last_order.is_some_and(|last| last >= at);
    match (rule.after, rule.to) {
        (After::FirstOrder, _) if !has_ordered => Course::Wait,
        (_, Payee::Referrer) => Course::Refer,
        (_, Payee::Member) => Course::Pay,
    }
}

/// The rules that waited for this event, the member's first order since they registered.
pub(super) fn waited<'a>(account: &'a Account, event: &Event) -> &'a [RuleId] {
    let profile = &account.profile;
    let is_first = event.order.is_some()
        && profile.registered.is_some_and(|registered| registered <= event.time.as_second());
    if is_first { &profile.waits } else { &[] }
}

/// The rules that pay a referrer for this event, each with why it does not, if it does not.
pub(super) fn rewards<'p>(
    programme: &'p Programme,
    account: &Account,
    event: &Event,
) -> Vec<(&'p Rule, Option<Why>)> {
    let Some(Internal::Referred(referred)) = event.internal.as_deref() else { return Vec::new() };
    let joined_later = account.profile.registered.is_some_and(|registered| registered >= referred.registered);
    let why = joined_later.then_some(Why::JoinedLater);
    let rules = referred.rules.iter().filter_map(|id| programme.rule(id));
    rules.filter(|rule| rule.to == Payee::Referrer).map(|rule| (rule, why)).collect()
}

/// Tells the referrer of a newcomer that these rules pay.
pub(super) fn refer(account: &Account, event: &Event, rules: Vec<RuleId>) -> Option<Message> {
    if rules.is_empty() {
        return None;
    }
    let update = event.profile.as_ref().filter(|update| update.registered);
    let (referrer, registered) = match update {
        Some(update) => (update.referrer.clone()?, event.time.as_second()),
        None => (account.profile.referrer.clone()?, account.profile.registered?),
    };
    Some(Message::Referred {
        referrer,
        referred: Referred { newcomer: event.member.clone(), registered, rules },
    })
}
