//! Where generated records go: Kafka, or a file with one a line.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};
use rdkafka::ClientConfig;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use crate::config::SecretFile;
use crate::log::kafka::{
    Credentials, KafkaSettings, OAUTH_TOKEN, OauthSource, TopicProblems, WantedTopic, ensure_topics,
};
use crate::traffic::{Sent, ShopTopic};
use crate::types::TopicName;

/// A property of librdkafka as `name=value`, or as `name=@FILE`, so that a password need not stand on the command
/// line, where whoever is on this machine sees it.
#[derive(Clone, PartialEq, Eq)]
pub struct Property {
    name: String,
    value: String,
}

impl FromStr for Property {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').ok_or("expected name=value or name=@FILE")?;
        let name = name.trim().to_owned();
        match value.strip_prefix('@') {
            // The file is read whenever a client needs the token.
            Some(path) if name == OAUTH_TOKEN => Ok(Self { name, value: path.to_owned() }),
            None if name == OAUTH_TOKEN => Err(format!("{name} must be @FILE")),
            Some(path) => Ok(Self { name, value: SecretFile::read(path.into())?.held().reveal().to_owned() }),
            None => Ok(Self { name, value: value.to_owned() }),
        }
    }
}

impl fmt::Debug for Property {
    /// Leaves out the value, which may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=…", self.name)
    }
}

/// Which brokers and topics to send to.
#[derive(Clone, Debug)]
pub struct Target {
    /// `bootstrap.servers`.
    pub brokers: String,
    /// More properties.
    pub properties: Vec<Property>,
    /// The one topic for everything; without it each kind has its own.
    pub topic: Option<String>,
    /// How long a record may wait for others to be sent with.
    pub linger_ms: u32,
}

impl Target {
    fn topic_of(&self, kind: ShopTopic) -> &str {
        self.topic.as_deref().unwrap_or(kind.name())
    }

    /// Makes sure that the topics are there. Missing ones are made where a number of partitions is given.
    ///
    /// # Errors
    /// Where the brokers cannot be reached, or topics are missing.
    pub fn ensure_topics(&self, kinds: &[ShopTopic], partitions: Option<i32>) -> anyhow::Result<()> {
        let mut names: Vec<&str> = kinds.iter().map(|kind| self.topic_of(*kind)).collect();
        names.dedup();
        let wanted: Vec<WantedTopic> = names
            .iter()
            .map(|name| WantedTopic {
                name: TopicName::from(*name),
                compacted: false,
                takes_inputs: false,
                partitions,
                config: BTreeMap::new(),
            })
            .collect();
        match ensure_topics(&self.settings(), &wanted, partitions.is_some()) {
            Ok(_) => Ok(()),
            Err(TopicProblems::Topics(problems)) if partitions.is_none() => {
                let missing: Vec<&str> = problems.iter().map(|problem| problem.topic.as_str()).collect();
                bail!(
                    "there is no topic {} at {}; --create-topics makes it",
                    missing.join(", "),
                    self.brokers
                )
            }
            Err(error) => Err(error).with_context(|| format!("the topics at {}", self.brokers)),
        }
    }

    /// The properties that librdkafka knows.
    fn known(&self) -> impl Iterator<Item = &Property> {
        self.properties.iter().filter(|given| given.name != OAUTH_TOKEN)
    }

    fn token(&self) -> OauthSource {
        let given = self.properties.iter().find(|given| given.name == OAUTH_TOKEN);
        given.map(|given| OauthSource::file(PathBuf::from(&given.value))).unwrap_or_default()
    }

    fn settings(&self) -> KafkaSettings {
        let mut properties = BTreeMap::from([("bootstrap.servers".to_owned(), self.brokers.clone())]);
        properties.extend(self.known().map(|given| (given.name.clone(), given.value.clone())));
        KafkaSettings {
            properties,
            credentials: Credentials::new(BTreeMap::new(), self.token()),
            topics: Vec::new(),
            group: "accrual-generate".to_owned(),
            transactional_id: "accrual-generate".to_owned(),
            client_id: "accrual-generate".to_owned(),
            max_poll_bytes: crate::log::kafka::DEFAULT_MAX_POLL_BYTES,
        }
    }
}

/// Keeps why the first record could not be delivered.
#[derive(Clone, Default, Debug)]
struct Failure {
    first: Arc<Mutex<Option<String>>>,
    token: OauthSource,
}

impl Failure {
    fn check(&self) -> anyhow::Result<()> {
        match self.first.lock().map(|why| why.clone()) {
            Ok(Some(why)) => bail!("a record could not be delivered: {why}"),
            _ => Ok(()),
        }
    }
}

impl ClientContext for Failure {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.token.token()
    }
}

impl ProducerContext for Failure {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, record)) = result
            && let Ok(mut why) = self.first.lock()
        {
            why.get_or_insert_with(|| format!("{error} (topic {})", record.topic()));
        }
    }
}

/// A producer of plain records: an upstream system as one should be, idempotent and with acks from all.
pub struct KafkaSink {
    target: Target,
    producer: BaseProducer<Failure>,
    failure: Failure,
    /// Records since deliveries were last looked at.
    unseen: u32,
}

/// The broker is given so long to take what was sent.
const DELIVERY: Duration = Duration::from_mins(1);

/// A look at deliveries costs more than a record; their errors can wait for so many.
const LOOK_EVERY: u32 = 256;

impl KafkaSink {
    /// A producer. Connects when the first record is sent.
    ///
    /// # Errors
    /// Where a property is wrong.
    pub fn open(target: &Target) -> anyhow::Result<Self> {
        let failure = Failure { token: target.token(), ..Failure::default() };
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &target.brokers)
            .set("client.id", "accrual-generate")
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", "lz4")
            // As Java clients partition, and as accrual itself does.
            .set("partitioner", "murmur2_random")
            .set("linger.ms", target.linger_ms.to_string())
            .set("batch.num.messages", "10000")
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", "65536")
            .set("message.timeout.ms", DELIVERY.as_millis().to_string())
            .set("delivery.report.only.error", "true")
            .set("allow.auto.create.topics", "false");
        for property in target.known() {
            config.set(&property.name, &property.value);
        }
        let producer = config.create_with_context(failure.clone()).context("making a producer")?;
        Ok(Self { target: target.clone(), producer, failure, unseen: 0 })
    }

    /// Sends a record; waits while the queue is full.
    ///
    /// # Errors
    /// Where it cannot be sent, or an earlier one could not be delivered.
    pub fn send(&mut self, sent: &Sent<'_>) -> anyhow::Result<()> {
        self.unseen += 1;
        if self.unseen >= LOOK_EVERY {
            self.idle()?;
        }
        let topic = self.target.topic_of(sent.topic);
        let mut record = BaseRecord::to(topic).key(sent.key).payload(sent.payload);
        loop {
            record = match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => again,
                Err((error, _)) => return Err(error).with_context(|| format!("sending to topic {topic}")),
            };
            self.producer.poll(Duration::from_millis(10));
            self.failure.check()?;
        }
    }

    /// Looks at what became of records that were sent.
    ///
    /// # Errors
    /// Where one could not be delivered.
    pub fn idle(&mut self) -> anyhow::Result<()> {
        self.unseen = 0;
        self.producer.poll(Duration::ZERO);
        self.failure.check()
    }

    /// Waits until all is delivered.
    ///
    /// # Errors
    /// Where something could not be.
    pub fn finish(self) -> anyhow::Result<()> {
        self.producer.flush(DELIVERY).context("waiting for the last records to be delivered")?;
        self.failure.check()
    }
}

/// Where records go.
pub enum Sink {
    /// To Kafka.
    Kafka(KafkaSink),
    /// To a file or the standard output, one a line.
    Lines {
        /// The file's name, for people.
        name: String,
        /// Where it is written.
        out: BufWriter<Box<dyn Write + Send>>,
    },
}

impl Sink {
    /// A new file, or the standard output for `-`.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn file(path: &Path) -> anyhow::Result<Self> {
        let out: Box<dyn Write + Send> = if path.as_os_str() == "-" {
            Box::new(std::io::stdout())
        } else {
            Box::new(File::create(path).with_context(|| format!("{} cannot be written", path.display()))?)
        };
        Ok(Sink::Lines { name: path.display().to_string(), out: BufWriter::with_capacity(1 << 20, out) })
    }

    #[cfg(test)]
    pub(super) fn none() -> Self {
        Sink::Lines { name: String::new(), out: BufWriter::new(Box::new(std::io::sink())) }
    }

    /// Takes a record. False where nobody reads any more.
    ///
    /// # Errors
    /// Where it cannot be taken.
    pub fn send(&mut self, sent: &Sent<'_>) -> anyhow::Result<bool> {
        match self {
            Sink::Kafka(kafka) => kafka.send(sent).map(|()| true),
            Sink::Lines { name, out } => {
                let written = out.write_all(sent.payload).and_then(|()| out.write_all(b"\n"));
                is_read(written, name)
            }
        }
    }

    /// Does what there is to do between records.
    ///
    /// # Errors
    /// Where an earlier record could not be taken after all.
    pub fn idle(&mut self) -> anyhow::Result<()> {
        match self {
            Sink::Kafka(kafka) => kafka.idle(),
            Sink::Lines { name, out } => {
                let written = out.flush();
                is_read(written, name).map(|_| ())
            }
        }
    }

    /// Waits until all is where it should be.
    ///
    /// # Errors
    /// Where something is not.
    pub fn finish(self) -> anyhow::Result<()> {
        match self {
            Sink::Kafka(kafka) => kafka.finish(),
            Sink::Lines { name, mut out } => is_read(out.flush(), &name).map(|_| ()),
        }
    }
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sink::Kafka(kafka) => match &kafka.target.topic {
                Some(topic) => write!(f, "{topic} at {}", kafka.target.brokers),
                None => write!(f, "shop.* at {}", kafka.target.brokers),
            },
            Sink::Lines { name, .. } if name == "-" => f.write_str("the standard output"),
            Sink::Lines { name, .. } => f.write_str(name),
        }
    }
}

fn is_read(written: std::io::Result<()>, name: &str) -> anyhow::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).with_context(|| format!("writing to {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::kafka::MockBroker;
    use crate::traffic::{Traffic, TrafficSettings};
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use std::time::Instant;

    #[test]
    fn a_record_arrives_in_the_topic_of_its_kind_with_its_member_as_key() {
        let topics = ShopTopic::ALL.map(|kind| (kind.name(), 2));
        let broker = MockBroker::start(&topics).unwrap();
        let target =
            Target { brokers: broker.bootstrap(), properties: Vec::new(), topic: None, linger_ms: 1 };
        target.ensure_topics(&ShopTopic::ALL, None).unwrap();
        let mut sink = KafkaSink::open(&target).unwrap();
        let mut traffic = Traffic::new(TrafficSettings::default());
        let mut sent: BTreeMap<(String, String), u32> = BTreeMap::new();
        for number in 0..1_000 {
            let record = traffic.next(number);
            sink.send(&record).unwrap();
            *sent.entry((record.topic.name().to_owned(), record.key.to_owned())).or_default() += 1;
        }
        sink.finish().unwrap();

        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", broker.bootstrap())
            .set("group.id", "test")
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        consumer.subscribe(&ShopTopic::ALL.map(ShopTopic::name)).unwrap();
        let (mut arrived, began): (BTreeMap<(String, String), u32>, _) = (BTreeMap::new(), Instant::now());
        while arrived != sent && began.elapsed() < Duration::from_secs(20) {
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                let key = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
                *arrived.entry((message.topic().to_owned(), key)).or_default() += 1;
            }
        }
        assert_eq!(arrived, sent);
    }

    #[test]
    fn a_property_that_is_none_is_named_and_no_value_is_printed() {
        assert!("no equals sign".parse::<Property>().is_err());
        let secret: Property = "sasl.password=s3cret".parse().unwrap();
        assert_eq!(format!("{secret:?}"), "sasl.password=…");
    }
}
