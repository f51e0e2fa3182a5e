//! A Kafka broker inside the process, for the demo: librdkafka's mock cluster. It speaks the real
//! protocol on loopback, so `kcat` can attach.
//!
//! It keeps no promise about transactions: what was aborted stays visible, and offsets sent within a
//! transaction are dropped. It proves nothing about exactly-once; `tests/log_contract.rs` runs on a real
//! broker.

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

/// A running mock broker. Stops when dropped.
pub struct MockBroker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

/// The mock broker could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("the in-process broker: {doing}: {cause}")]
pub struct MockError {
    doing: String,
    cause: KafkaError,
}

impl MockBroker {
    /// Starts one with these topics and numbers of partitions.
    pub fn start(topics: &[(&str, i32)]) -> Result<Self, MockError> {
        Self::start_of(1, topics)
    }

    /// The same with more brokers than one.
    pub(super) fn start_of(brokers: i32, topics: &[(&str, i32)]) -> Result<Self, MockError> {
        let cluster =
            MockCluster::new(brokers).map_err(|cause| MockError { doing: "starting".into(), cause })?;
        for (topic, partitions) in topics {
            cluster
                .create_topic(topic, *partitions, 1)
                .map_err(|cause| MockError { doing: format!("creating topic {topic}"), cause })?;
        }
        Ok(Self { cluster })
    }

    /// The cluster, to make it fail on purpose.
    #[cfg(test)]
    pub(super) fn cluster(&self) -> &MockCluster<'static, DefaultProducerContext> {
        &self.cluster
    }

    /// Where it listens, as `bootstrap.servers` wants it.
    pub fn bootstrap(&self) -> String {
        self.cluster.bootstrap_servers()
    }
}
