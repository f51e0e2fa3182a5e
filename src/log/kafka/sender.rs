//! Single records onto a topic, each acknowledged by itself: for requests that come in over HTTP. A producer of its own,
//! idempotent and outside of any transaction, so that it depends on no lane and no lane on it.

use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use super::context::Health;
use super::oauth::OauthSource;
use super::settings::KafkaSettings;
use super::{producer, triage};
use crate::log::{Delivery, LogError, OutRecord, Sender};

/// Sends over a producer that is made when it is needed, and again where it has broken or logs in otherwise now.
pub struct KafkaSender {
    settings: KafkaSettings,
    made: Mutex<Option<Made>>,
}

struct Made {
    producer: ThreadedProducer<Deliveries>,
    /// The number of the credentials that it was made with.
    number: u64,
}

/// A little longer than a record may be under way.
const ENDS_WITHIN: Duration = Duration::from_secs(6);

impl Made {
    /// Ends it, where records are under way once they have arrived. Waits for its threads.
    fn end(self) {
        let deadline = Instant::now() + ENDS_WITHIN;
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl KafkaSender {
    /// Reaches Kafka as a lane of these settings does. Connects when it is used.
    ///
    /// # Errors
    /// `Broken` where the settings are wrong.
    pub fn new(settings: &KafkaSettings) -> Result<Self, LogError> {
        settings.sender()?;
        Ok(Self { settings: settings.clone(), made: Mutex::new(None) })
    }

    fn enqueue(&self, record: &OutRecord) -> Result<oneshot::Receiver<Result<(), LogError>>, LogError> {
        let mut held = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.settings.credentials.number();
        let is_over =
            |made: &mut Made| made.number != number || made.producer.client().fatal_error().is_some();
        if let Some(old) = held.take_if(is_over) {
            // Nobody here waits for that.
            std::thread::spawn(move || old.end());
        }
        let producer = match &mut *held {
            Some(made) => &made.producer,
            none => {
                let token = self.settings.credentials.token().clone();
                let context = Deliveries { token, ..Deliveries::default() };
                let producer = self.settings.sender()?.create_with_context(context);
                let producer = producer
                    .map_err(|error| LogError::Broken(format!("a producer cannot be made: {error}")))?;
                &none.insert(Made { producer, number }).producer
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
    token: OauthSource,
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.token.token()
    }

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
