//! What would be right for each kind of dead letter, and whether putting it back can be.

use crate::event::Reason;
use crate::types::{Outputs, TopicName};

use super::letter::Letter;

/// Why a letter is not put back.
pub type Refusal = &'static str;

/// What to do about letters of this kind. Ends a sentence or stands alone.
pub fn right(reason: Reason) -> &'static str {
    match reason {
        Reason::NotJson => {
            "a CloudEvent in JSON, structured or binary; where another program writes to the topic, a topic of its own"
        }
        Reason::WrongKind => {
            "what schemas/ says of the type; replay helps once this worker takes what upstream sends"
        }
        Reason::NoId | Reason::NoSource | Reason::NoType | Reason::NoTime => {
            "the envelope of a CloudEvent: id, source, type and time"
        }
        Reason::NoMember => "data.member_id: whose points they are",
        Reason::MissingField => "all fields that schemas/ says the type must have",
        Reason::BadTime => "a time in RFC 3339 with its offset, such as 2026-11-22T10:00:00+08:00",
        Reason::BadAmount => "an amount of zero or more, no finer than the currency",
        Reason::WrongCurrency => {
            "an amount in the programme's currency; replay helps where the programme was wrong and is mended"
        }
        Reason::TooLarge => "a smaller record, or a larger limits.max_record_bytes and then a replay",
        Reason::TooLong => "shorter ids and lists; replay helps with a worker that takes longer ones",
        Reason::ConflictingDuplicate => {
            "an id of its own for each event: a correction is another event (order.refunded, points.adjusted)"
        }
        Reason::PointsOverflow => {
            "points within the range of a signed 64-bit number; look for an amount or a factor that is wrong"
        }
        Reason::UnknownOrder => {
            "the order within dedupe.window of its refund; send the refund anew, under another id and refund_id, once the \
             order is there, or take the points back by points.adjusted"
        }
        Reason::TooManyWaiting => {
            "orders before their refunds; replay helps once some of the member's refunds have found theirs"
        }
        Reason::ReservedType => "what happened, such as an order: accrual itself says what follows from it",
    }
}

/// Why a letter is not to be put back, if it is not: where that could not change anything, or would pay what must not be paid.
pub fn refusal(letter: &Letter, inputs: &[&TopicName], outputs: &Outputs) -> Option<Refusal> {
    match letter.kind {
        Some(Reason::ConflictingDuplicate) => {
            return Some(
                "its id has counted with another payload: put back it would be refused again, or, once that is forgotten, \
                 be paid a second time. If it is right, send it under an id of its own",
            );
        }
        Some(Reason::UnknownOrder) => {
            return Some(
                "it has counted as a refund that waited for its order, so that the same again is a repeat and dropped. Once \
                 the order is there, send it under another id and refund_id, or send points.adjusted",
            );
        }
        Some(Reason::ReservedType)
            if letter.source.as_ref().is_some_and(|source| source.topic != outputs.internal) =>
        {
            return Some(
                "only accrual itself says so, on its internal topic: put back it would be refused again",
            );
        }
        _ => {}
    }
    let Some(source) = &letter.source else {
        return Some("it does not say where it came from, so that there is no topic to put it back on");
    };
    if source.topic != outputs.internal && !inputs.contains(&&source.topic) {
        return Some("the topic that it came from is no input of this worker's: nobody would read it there");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::letter::tests::{letter, outputs};
    use super::*;

    #[test]
    fn a_letter_is_put_back_only_where_that_can_change_something() {
        let outputs = outputs();
        let shop = TopicName::from("shop");
        let is_put_back = |reason: &str, source: Option<&str>| {
            let letter = letter(&[], b"{}", reason, source.map(|topic| (topic, 0, 1)));
            refusal(&letter, &[&shop], &outputs).is_none()
        };
        for reason in Reason::ALL {
            let never =
                [Reason::ConflictingDuplicate, Reason::UnknownOrder, Reason::ReservedType].contains(&reason);
            assert_eq!(is_put_back(reason.as_str(), Some("shop")), !never, "{reason:?}");
            assert!(!is_put_back(reason.as_str(), None), "{reason:?} has no source");
            assert!(
                !is_put_back(reason.as_str(), Some("another")),
                "{reason:?} of a topic that nobody reads"
            );
        }
        assert!(is_put_back("points_overflow", Some("internal")), "what accrual told itself goes back there");
        assert!(is_put_back("reserved_type", Some("internal")));
        assert!(is_put_back("a_reason_of_a_newer_version", Some("shop")));
    }
}
