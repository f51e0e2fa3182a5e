//! What follows from an error of librdkafka.

use rdkafka::error::{KafkaError, RDKafkaError, RDKafkaErrorCode as Code};

use super::context::Health;
use crate::log::LogError;

/// Whether waiting can help.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Severity {
    /// The cluster is away, busy or electing: it comes back by itself.
    Passing,
    /// Somebody has to change something.
    Refused,
}

/// Sorts an error that belongs to no transaction. `ever_connected`: a broker accepted this client
/// before, so that a refused handshake is a broker's trouble and not the settings'.
pub(super) fn severity(code: Code, ever_connected: bool) -> Severity {
    match code {
        Code::Authentication | Code::SSL | Code::SaslAuthenticationFailed if ever_connected => {
            Severity::Passing
        }
        // The settings, the permissions or the topics are wrong.
        Code::Authentication
        | Code::SSL
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::SecurityDisabled
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::InvalidTopic
        | Code::InvalidGroupId
        | Code::InvalidSessionTimeout
        | Code::InvalidTransactionTimeout
        | Code::InvalidConfig
        | Code::InconsistentGroupProtocol
        | Code::GroupMaxSizeReached
        | Code::PolicyViolation
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedCompressionType
        | Code::OffsetMetadataTooLarge
        | Code::CriticalSystemResource
        | Code::Fatal => Severity::Refused,
        // A record cannot be read or written as it is. Going on would lose it.
        Code::BadMessage
        | Code::BadCompression
        | Code::InvalidMessage
        | Code::InvalidMessageSize
        | Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::AutoOffsetReset => Severity::Refused,
        // Among them `UnknownPartition`: librdkafka says it where a partition has no leader at the moment.
        _ => Severity::Passing,
    }
}

/// What somebody has to change, with what would be right where that can be told.
pub(super) fn refused(code: Code, said: &str) -> LogError {
    LogError::Broken(format!("{said}{}", advice(code, said)))
}

/// Continues a sentence. docs/security.md has the permissions whole.
fn advice(code: Code, said: &str) -> &'static str {
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed => match said {
            // accrual's own words: it has said what is wrong with the token's file.
            said if said.contains("Failed to acquire") => "",
            // RFC 7628, 3.2.2; the broker does not name the mechanism.
            said if said.contains("invalid_token") => {
                "; the brokers do not accept the token of `sasl.oauthbearer.token`"
            }
            _ => "; check `sasl.username` and `sasl.password`",
        },
        Code::TopicAuthorizationFailed => {
            "; the Kafka user lacks a permission on this topic: Read for inputs, Write for outputs"
        }
        Code::GroupAuthorizationFailed => {
            "; the Kafka user lacks the permission Read on the group that `group.id` names"
        }
        Code::TransactionalIdAuthorizationFailed => {
            "; the Kafka user lacks the permission Write on its transactional ids, which begin with `group.id`"
        }
        _ => "",
    }
}

/// For a call outside of a transaction.
pub(super) fn of_call(error: &KafkaError, health: &Health, doing: &str) -> LogError {
    let code = error.rdkafka_error_code();
    let said = format!("{doing}: {error}");
    match code.map(|code| (code, severity(code, health.ever_connected()))) {
        Some((_, Severity::Passing)) => LogError::Retriable(away(said, health)),
        Some((code, Severity::Refused)) => refused(code, &said),
        // No code: the client could not be made, or an argument was wrong.
        None => LogError::Broken(said),
    }
}

/// A timeout alone says little; what the client reported meanwhile says why.
fn away(said: String, health: &Health) -> String {
    match health.last() {
        Some(last) if !health.connected() => format!("{said} ({})", last.reason),
        _ => said,
    }
}

/// A refused handshake or coordinator shows itself only as a timeout of whatever was called. For clients
/// that were just made: what an older one reported may be over.
pub(super) fn refused_meanwhile(health: &Health) -> Option<LogError> {
    let last = health.last()?;
    let is_refused = severity(last.code, health.ever_connected()) == Severity::Refused;
    is_refused.then(|| refused(last.code, &last.reason))
}

/// For a transactional call. `expired`: the transaction is older than the broker lets it be.
pub(super) fn of_transaction(error: &RDKafkaError, expired: bool, doing: &str) -> LogError {
    let said = format!("{doing}: {error}");
    if error.is_fatal() {
        return of_fatal(error.code(), expired, said);
    }
    // Asked for before retriable: librdkafka knows that the transaction cannot go on.
    if error.txn_requires_abort() {
        // A generation that is gone (ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID,
        // REBALANCE_IN_PROGRESS) comes here as well: this lane's partitions were given away, its producer
        // is as good as before.
        return match severity(error.code(), true) {
            Severity::Refused => refused(error.code(), &said),
            Severity::Passing => LogError::Abortable(said),
        };
    }
    if error.is_retriable() {
        return LogError::Retriable(said);
    }
    LogError::ProducerLost(said)
}

/// For an error that ended a producer.
pub(super) fn of_fatal(code: Code, expired: bool, said: String) -> LogError {
    match code {
        // The coordinator raises the epoch when another producer takes the id over, and also when it gives
        // up a transaction that took too long. Only the first can happen to a young transaction.
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => {
            if expired {
                LogError::ProducerLost(format!("the transaction took longer than it may: {said}"))
            } else {
                LogError::Fenced(format!("{said}; give each worker its own `instance`"))
            }
        }
        Code::TransactionalIdAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::InvalidTransactionTimeout => refused(code, &said),
        _ => LogError::ProducerLost(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_password_is_refused_at_first_and_waited_out_later() {
        assert_eq!(severity(Code::SaslAuthenticationFailed, false), Severity::Refused);
        assert_eq!(severity(Code::SaslAuthenticationFailed, true), Severity::Passing);
        assert_eq!(severity(Code::TopicAuthorizationFailed, true), Severity::Refused);
    }

    #[test]
    fn what_is_refused_says_what_would_be_right() {
        let cases = [
            (
                Code::Authentication,
                "invalid credentials with SASL mechanism SCRAM-SHA-512",
                "check `sasl.username`",
            ),
            (
                Code::Authentication,
                r#"SASL authentication error: {"status":"invalid_token"}"#,
                "do not accept the token",
            ),
            (Code::TopicAuthorizationFailed, "asking for topic a", "Read for inputs, Write for outputs"),
            (Code::GroupAuthorizationFailed, "joining", "Read on the group"),
            (Code::TransactionalIdAuthorizationFailed, "initialising", "Write on its transactional ids"),
        ];
        for (code, said, right) in cases {
            let refused = refused(code, said).to_string();
            assert!(refused.contains(said) && refused.contains(right), "{refused}");
        }
        let expired = "Failed to acquire SASL OAUTHBEARER token: the token in x expired";
        assert!(refused(Code::Authentication, expired).to_string().ends_with("expired"));
    }

    #[test]
    fn a_broker_that_is_away_is_waited_for() {
        for code in [
            Code::AllBrokersDown,
            Code::BrokerTransportFailure,
            Code::OperationTimedOut,
            Code::Resolve,
            Code::NotCoordinator,
            Code::CoordinatorLoadInProgress,
            Code::NotEnoughReplicas,
            Code::UnstableOffsetCommit,
            Code::UnknownPartition,
        ] {
            assert_eq!(severity(code, false), Severity::Passing, "{code:?}");
        }
    }

    #[test]
    fn an_epoch_that_moved_on_means_another_worker_unless_the_transaction_was_too_old() {
        assert!(matches!(of_fatal(Code::Fenced, false, String::new()), LogError::Fenced(_)));
        assert!(matches!(of_fatal(Code::Fenced, true, String::new()), LogError::ProducerLost(_)));
        assert!(matches!(
            of_fatal(Code::InvalidTransactionalState, false, String::new()),
            LogError::ProducerLost(_)
        ));
    }
}
