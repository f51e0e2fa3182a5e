//! Single records onto a topic, each acknowledged by itself: for requests that come in over HTTP. A producer of its own,
//! idempotent and outside of any transaction, so that it depends on no lane and no lane on it.

use std::sync::{Mutex, PoisonError};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use super::context::Health;
use super::settings::KafkaSettings;
use super::{producer, triage};
use crate::log::{Delivery, LogError, OutRecord, Sender};

/// Sends over a producer that is made when it is needed, and again where it has broken.
pub struct KafkaSender {
    config: ClientConfig,
    producer: Mutex<Option<ThreadedProducer<Deliveries>>>,
}

impl KafkaSender {
    /// Reaches Kafka as a lane of these settings does. Connects when it is used.
    ///
    /// # Errors
    /// `Broken` where the settings are wrong.
    pub fn new(settings: &KafkaSettings) -> Result<Self, LogError> {
        Ok(Self { config: settings.sender()?, producer: Mutex::new(None) })
    }

    fn enqueue(&self, record: &OutRecord) -> Result<oneshot::Receiver<Result<(), LogError>>, LogError> {
        let mut held = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(broken) = held.take_if(|producer| producer.client().fatal_error().is_some()) {
            // Ending it waits for its threads, which nobody here does.
            std::thread::spawn(move || drop(broken));
        }
        let producer = match &mut *held {
            Some(producer) => producer,
            none => {
                let made = self.config.create_with_context(Deliveries::default());
                none.insert(
                    made.map_err(|error| LogError::Broken(format!("a producer cannot be made: {error}")))?,
                )
            }
        };
        let (told, delivered) = oneshot::channel();
        let mut sent = BaseRecord::with_opaque_to(record.topic.as_str(), Box::new(told));
        sent.key = record.key.as_deref();
        sent.payload = record.payload.as_deref();
        sent.headers = producer::headers(record);
        match producer.send(sent) {
            Ok(()) => Ok(delivered),
            Err((error, _)) => {
                let health = &producer.client().context().health;
                Err(triage::of_call(&error, health, &format!("sending to {}", record.topic)))
            }
        }
    }
}

impl Sender for KafkaSender {
    fn send(&self, record: &OutRecord) -> Delivery {
        let sent = self.enqueue(record);
        Box::pin(async move {
            let lost = || LogError::Retriable("whether the record arrived is not known".to_owned());
            sent?.await.unwrap_or_else(|_| Err(lost()))
        })
    }
}

/// Tells who sent a record what became of it.
#[derive(Default)]
struct Deliveries {
    health: Health,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        self.health.log("sender", level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.health.report("sender", &error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<oneshot::Sender<Result<(), LogError>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, told: Self::DeliveryOpaque) {
        let delivered = match result {
            Ok(_) => {
                self.health.set_connected(true);
                Ok(())
            }
            Err((error, _)) => Err(triage::of_call(error, &self.health, "sending a record")),
        };
        // Who asked may have given up meanwhile.
        told.send(delivered).ok();
    }
}
