//! Making the topics that are written to, and checking from outside whether a worker could run.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::consumer::is_unknown_topic;
use super::context::{self, ConsumerNotes, Health};
use super::offsets;
use super::producer::Writer;
use super::settings::KafkaSettings;
use super::triage;
use crate::log::LogError;
use crate::types::{TopicName, TopicPartition};

/// A topic that the worker writes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WantedTopic {
    /// Its name.
    pub name: TopicName,
    /// Whether only the newest record of each key is to be kept.
    pub compacted: bool,
    /// Whether records of the inputs go there as they came, so that it must take what those take.
    pub takes_inputs: bool,
    /// How many partitions to make it with; nothing leaves it to the broker.
    pub partitions: Option<i32>,
    /// More topic settings to make it with, by Kafka's names, such as `min.insync.replicas`.
    pub config: BTreeMap<String, String>,
}

/// The topics that [`ensure_topics`] had to make.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Created(pub Vec<TopicName>);

/// What is wrong with one topic, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("topic {topic} {problem}")]
pub struct TopicProblem {
    /// The topic.
    pub topic: TopicName,
    /// What is wrong, and what to do.
    pub problem: String,
}

/// Everything that stands in the way of writing, all topics at once.
#[derive(Debug, thiserror::Error)]
pub enum TopicProblems {
    /// Kafka could not be asked.
    #[error(transparent)]
    Log(#[from] LogError),
    /// These topics are not as they must be.
    #[error("{}", join(.0))]
    Topics(Vec<TopicProblem>),
}

fn join(problems: &[TopicProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

const ASK_FOR: Duration = Duration::from_secs(10);
/// How many events are looked through for the reason of a failure.
const EVENTS_AT_MOST: usize = 100;
/// The setting of a topic that bounds its records.
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
/// What headers add that say why a record is a dead letter, and more.
const ROOM_FOR_WHY: u64 = 64 << 10;
/// No topic takes more.
const MOST_BYTES: u64 = i32::MAX as u64;
/// A topic that was made has leaders within a moment; its writers and readers would stumble before.
const LEADERS_WITHIN: Duration = Duration::from_secs(15);

/// Makes sure that every wanted topic exists and is compacted where it must be. Missing ones are made
/// where `create` says so, else named, all in one error.
pub fn ensure_topics(
    settings: &KafkaSettings,
    wanted: &[WantedTopic],
    create: bool,
) -> Result<Created, TopicProblems> {
    let cluster = Cluster::connect(settings)?;
    let mut missing = Vec::new();
    for topic in wanted {
        if cluster.partitions(&topic.name)?.is_none() {
            missing.push(topic);
        }
    }
    let mut problems = Vec::new();
    if create {
        // Inputs first: they say how large a record may be that comes back among the dead letters.
        let (last, first): (Vec<&WantedTopic>, Vec<&WantedTopic>) =
            missing.iter().partition(|topic| topic.takes_inputs);
        problems.extend(cluster.create(&first, None)?);
        problems.extend(cluster.create(&last, cluster.largest_input(settings)?)?);
    } else {
        problems.extend(missing.iter().map(|topic| TopicProblem {
            topic: topic.name.clone(),
            problem: format!(
                "does not exist: set create_topics: true, or make it{}",
                if topic.compacted { " with cleanup.policy=compact" } else { "" }
            ),
        }));
    }
    let existing: Vec<&WantedTopic> = wanted.iter().filter(|topic| !missing.contains(topic)).collect();
    problems.extend(cluster.not_compacted(&existing)?);
    problems.extend(cluster.too_small(settings, &existing)?);
    if problems.is_empty() {
        Ok(Created(missing.into_iter().map(|topic| topic.name.clone()).collect()))
    } else {
        Err(TopicProblems::Topics(problems))
    }
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// What was looked at.
    pub what: String,
    /// What was found, or what is wrong and what to do.
    pub result: Result<String, String>,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.result {
            Ok(found) => write!(f, "ok    {}: {found}", self.what),
            Err(problem) => write!(f, "WRONG {}: {problem}", self.what),
        }
    }
}

/// Logs in to a broker and leaves again.
///
/// # Errors
/// `Retriable` where no broker answers, else why they refuse.
pub fn log_in(settings: &KafkaSettings) -> Result<(), LogError> {
    let client = client(&settings.plain()?, settings)?;
    match client.fetch_metadata(None, ASK_FOR) {
        Ok(_) => Ok(()),
        Err(error) => Err(of_call(&client, &error, "logging in")),
    }
}

/// Looks at everything that can be looked at without consuming or producing: brokers, topics, the
/// group's and the transactional id's permissions. A permission to write to a topic shows only when
/// it is written to.
pub fn check(settings: &KafkaSettings, wanted: &[WantedTopic]) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut add = |what: String, result: Result<String, String>| checks.push(Check { what, result });
    let cluster = match Cluster::connect(settings).and_then(|cluster| Ok((cluster.brokers()?, cluster))) {
        Ok((brokers, cluster)) => {
            add("brokers".into(), Ok(format!("{brokers} reachable")));
            cluster
        }
        Err(error) => {
            add("brokers".into(), Err(error.to_string()));
            return checks;
        }
    };
    let mut inputs = Vec::new();
    for topic in settings.topics.iter().filter(|topic| !topic.starts_with('^')) {
        let topic = TopicName::from(topic.as_str());
        // The internal topic is read and written; it is looked at as an output.
        let is_output = wanted.iter().any(|wanted| wanted.name == topic);
        let found = cluster.partitions(&topic);
        if let Ok(Some(partitions)) = found {
            inputs
                .extend((0..partitions).map(|partition| TopicPartition { topic: topic.clone(), partition }));
        }
        if !is_output {
            add(format!("input topic {topic}"), exists(found, "create it, or correct `inputs`"));
        }
    }
    for topic in wanted {
        let found = cluster.partitions(&topic.name);
        let there = matches!(found, Ok(Some(_)));
        add(format!("output topic {}", topic.name), exists(found, "set create_topics: true, or make it"));
        if there && topic.compacted {
            let result = match cluster.not_compacted(&[topic]) {
                Ok(_) if cluster.admin.is_none() => {
                    Ok("not asked for over SASL/OAUTHBEARER; it must be compact".into())
                }
                Ok(problems) if problems.is_empty() => Ok("is compacted".into()),
                Ok(problems) => Err(join(&problems)),
                Err(error) => Err(error.to_string()),
            };
            add(format!("cleanup.policy of {}", topic.name), result);
        }
        if there && topic.takes_inputs {
            let result = match cluster.too_small(settings, &[topic]) {
                Ok(problems) if problems.is_empty() => Ok("as large as those of the inputs".into()),
                Ok(problems) => Err(join(&problems)),
                Err(error) => Err(error.to_string()),
            };
            add(format!("records of {}", topic.name), result);
        }
    }
    add(format!("group {}", settings.group), group(settings, &inputs));
    // Not the lane's own id: taking that up would fence a worker that runs.
    let mut probe = settings.clone();
    probe.transactional_id.push_str("-check");
    let transactional = Writer::new(&probe).and_then(|mut writer| writer.replace());
    add(
        format!("transactional id {}", probe.transactional_id),
        transactional.map(|()| "may be used".into()).map_err(|error| error.to_string()),
    );
    checks
}

fn exists(found: Result<Option<i32>, LogError>, otherwise: &str) -> Result<String, String> {
    match found {
        Ok(Some(partitions)) => Ok(format!("{partitions} partitions")),
        Ok(None) => Err(format!("does not exist: {otherwise}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Reading the group's offsets needs its coordinator, and the permission that its members need.
fn group(settings: &KafkaSettings, inputs: &[TopicPartition]) -> Result<String, String> {
    let asked = settings.consumer().and_then(|config| {
        let member = client(&config, settings)?;
        let committed = member.committed_offsets(offsets::list(inputs), ASK_FOR);
        committed.map_err(|error| of_call(&member, &error, "asking its coordinator"))
    });
    let committed = asked.map_err(|error| error.to_string())?;
    let mut begun = 0;
    for partition in committed.elements() {
        partition.error().map_err(|error| error.to_string())?;
        begun += usize::from(matches!(partition.offset(), rdkafka::Offset::Offset(_)));
    }
    Ok(format!("has offsets for {begun} of {} input partitions", inputs.len()))
}

/// A consumer that reads nothing, with callbacks that note why it gets no answer.
pub(super) fn client(
    config: &ClientConfig,
    settings: &KafkaSettings,
) -> Result<BaseConsumer<ConsumerNotes>, LogError> {
    context::consumer(config, settings.credentials.token())
        .map_err(|error| triage::of_call(&error, &Health::default(), "making a client"))
}

/// A refused handshake shows itself as a timeout; why it was refused waits among the client's events.
pub(super) fn of_call(client: &BaseConsumer<ConsumerNotes>, error: &KafkaError, doing: &str) -> LogError {
    for _ in 0..EVENTS_AT_MOST {
        client.poll(Duration::ZERO);
    }
    let health = client.context().health();
    triage::refused_meanwhile(health).unwrap_or_else(|| triage::of_call(error, health, doing))
}

/// A connection that belongs to no group and no transaction.
struct Cluster {
    client: BaseConsumer<ConsumerNotes>,
    /// Not there with SASL/OAUTHBEARER: rdkafka's admin client never asks for a token.
    admin: Option<AdminClient<ConsumerNotes>>,
}

impl Cluster {
    fn connect(settings: &KafkaSettings) -> Result<Self, LogError> {
        let config = settings.plain()?;
        let admin = if settings.credentials.token().is_given() {
            None
        } else {
            let made = config.create_with_context(ConsumerNotes::default());
            Some(made.map_err(|error| triage::of_call(&error, &Health::default(), "making a client"))?)
        };
        Ok(Self { client: client(&config, settings)?, admin })
    }

    fn triaged<T>(&self, result: Result<T, KafkaError>, doing: &str) -> Result<T, LogError> {
        result.map_err(|error| of_call(&self.client, &error, doing))
    }

    fn brokers(&self) -> Result<usize, LogError> {
        let found = self.client.fetch_metadata(None, ASK_FOR);
        Ok(self.triaged(found, "asking the brokers")?.brokers().len())
    }

    /// How many partitions a topic has, if it exists.
    fn partitions(&self, topic: &TopicName) -> Result<Option<i32>, LogError> {
        let doing = format!("asking for topic {topic}");
        let found = self.triaged(self.client.fetch_metadata(Some(topic.as_str()), ASK_FOR), &doing)?;
        let Some(described) = found.topics().first() else {
            return Ok(None);
        };
        match described.error().map(RDKafkaErrorCode::from) {
            Some(code) if is_unknown_topic(code) => Ok(None),
            // A topic without a leader for the moment exists.
            Some(RDKafkaErrorCode::LeaderNotAvailable) | None => {
                Ok(Some(i32::try_from(described.partitions().len()).unwrap_or(i32::MAX)))
            }
            Some(code) => Err(triage::refused(code, &format!("{doing}: {code}"))),
        }
    }

    /// Makes topics; what `takes_inputs` so that it takes records of `largest` bytes and what is said of them.
    fn create(&self, missing: &[&WantedTopic], largest: Option<u64>) -> Result<Vec<TopicProblem>, LogError> {
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let Some(admin) = &self.admin else {
            let problem = |topic: &&WantedTopic| TopicProblem {
                topic: topic.name.clone(),
                problem: format!(
                    "does not exist, and over SASL/OAUTHBEARER accrual makes no topics: make it{}",
                    if topic.compacted { " with cleanup.policy=compact" } else { "" }
                ),
            };
            return Ok(missing.iter().map(problem).collect());
        };
        let large = largest.map(|bytes| (bytes + ROOM_FOR_WHY).min(MOST_BYTES).to_string());
        let new: Vec<NewTopic<'_>> = missing
            .iter()
            .map(|topic| {
                // -1: as many as the broker's own settings say.
                let partitions = topic.partitions.unwrap_or(-1);
                let mut new = NewTopic::new(topic.name.as_str(), partitions, TopicReplication::Fixed(-1));
                if topic.compacted {
                    new = new.set("cleanup.policy", "compact");
                }
                if let Some(bytes) = large.as_deref().filter(|_| topic.takes_inputs) {
                    new = new.set(MAX_MESSAGE_BYTES, bytes);
                }
                topic.config.iter().fold(new, |new, (name, value)| new.set(name, value))
            })
            .collect();
        let options = AdminOptions::new().operation_timeout(Some(ASK_FOR)).request_timeout(Some(ASK_FOR));
        let results = self.triaged(wait(admin.create_topics(&new, &options)), "creating topics")?;
        let problems: Vec<TopicProblem> = results
            .into_iter()
            .filter_map(Result::err)
            // Another worker was faster.
            .filter(|(_, code)| *code != RDKafkaErrorCode::TopicAlreadyExists)
            .map(|(topic, code)| TopicProblem {
                topic: TopicName::from(topic),
                problem: format!("could not be created: {code}"),
            })
            .collect();
        let refused = |topic: &WantedTopic| problems.iter().any(|problem| problem.topic == topic.name);
        for topic in missing.iter().filter(|topic| !refused(topic)) {
            self.await_leaders(&topic.name)?;
        }
        Ok(problems)
    }

    fn await_leaders(&self, topic: &TopicName) -> Result<(), LogError> {
        let doing = format!("waiting for topic {topic} to appear");
        let deadline = Instant::now() + LEADERS_WITHIN;
        loop {
            let found = self.triaged(self.client.fetch_metadata(Some(topic.as_str()), ASK_FOR), &doing)?;
            let led = found.topics().first().is_some_and(|topic| {
                topic.error().is_none()
                    && !topic.partitions().is_empty()
                    && topic.partitions().iter().all(|partition| partition.leader() >= 0)
            });
            if led {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(LogError::Retriable(doing));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Topics that must be compacted and are not.
    fn not_compacted(&self, topics: &[&WantedTopic]) -> Result<Vec<TopicProblem>, LogError> {
        let compacted: Vec<&&WantedTopic> = topics.iter().filter(|topic| topic.compacted).collect();
        if compacted.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<&TopicName> = compacted.iter().map(|topic| &topic.name).collect();
        let mut problems = Vec::new();
        for (topic, policy) in compacted.iter().zip(self.setting_of(&names, "cleanup.policy")?) {
            let problem = match policy {
                Ok(policy) => {
                    let policy = policy.unwrap_or_default();
                    if policy.split(',').any(|policy| policy.trim() == "compact") {
                        continue;
                    }
                    format!(
                        "is not compacted (cleanup.policy={policy}), so it would grow for ever or lose accounts: \
                         kafka-configs.sh --alter --entity-type topics --entity-name {} \
                         --add-config cleanup.policy=compact",
                        topic.name
                    )
                }
                Err(why) => why,
            };
            problems.push(TopicProblem { topic: topic.name.clone(), problem });
        }
        Ok(problems)
    }

    /// A setting of each of these topics, or why it could not be told. Nothing where the brokers do not know the
    /// question, as the mock one, and over SASL/OAUTHBEARER.
    fn setting_of(
        &self,
        topics: &[&TopicName],
        setting: &str,
    ) -> Result<Vec<Result<Option<String>, String>>, LogError> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let Some(admin) = &self.admin else {
            tracing::debug!("over SASL/OAUTHBEARER the settings of topics are not asked for");
            return Ok(Vec::new());
        };
        let wanted: Vec<ResourceSpecifier<'_>> =
            topics.iter().map(|topic| ResourceSpecifier::Topic(topic.as_str())).collect();
        let options = AdminOptions::new().request_timeout(Some(ASK_FOR));
        let described = match wait(admin.describe_configs(&wanted, &options)) {
            Err(KafkaError::AdminOp(RDKafkaErrorCode::UnsupportedFeature)) => return Ok(Vec::new()),
            described => self.triaged(described, "asking for topic settings")?,
        };
        let value = |described: Result<ConfigResource, RDKafkaErrorCode>| {
            let resource = described.map_err(|code| format!("could not be described: {code}"))?;
            // rdkafka answers with nothing where the broker refuses.
            if resource.entries.is_empty() {
                return Err(
                    "shows nobody its settings: the Kafka user lacks the permission DescribeConfigs on \
                            this topic"
                        .to_owned(),
                );
            }
            Ok(resource.get(setting).and_then(|entry| entry.value.clone()))
        };
        Ok(described.into_iter().map(value).collect())
    }

    /// How large a record of the inputs may be at most, where the brokers say so.
    fn largest_input(&self, settings: &KafkaSettings) -> Result<Option<u64>, LogError> {
        let named = settings.topics.iter().filter(|topic| !topic.starts_with('^'));
        let names: Vec<TopicName> = named.map(|topic| TopicName::from(topic.as_str())).collect();
        let sizes = self.setting_of(&names.iter().collect::<Vec<_>>(), MAX_MESSAGE_BYTES)?;
        Ok(sizes.into_iter().filter_map(|size| size.ok().flatten()?.parse().ok()).max())
    }

    /// Topics that do not take every record that the inputs take, where they must.
    fn too_small(
        &self,
        settings: &KafkaSettings,
        topics: &[&WantedTopic],
    ) -> Result<Vec<TopicProblem>, LogError> {
        let names: Vec<&TopicName> =
            topics.iter().filter(|topic| topic.takes_inputs).map(|topic| &topic.name).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let Some(largest) = self.largest_input(settings)? else { return Ok(Vec::new()) };
        let sizes = self.setting_of(&names, MAX_MESSAGE_BYTES)?;
        let mut problems = Vec::new();
        for (name, size) in names.into_iter().zip(sizes) {
            let Some(size) = size.ok().flatten().and_then(|size| size.parse::<u64>().ok()) else { continue };
            if size < largest {
                let problem = format!(
                    "takes records of {size} bytes and an input of {largest}, so that a dead letter may be too large \
                     for it and stop the worker: kafka-configs.sh --alter --entity-type topics --entity-name {name} \
                     --add-config {MAX_MESSAGE_BYTES}={}",
                    (largest + ROOM_FOR_WHY).min(MOST_BYTES)
                );
                problems.push(TopicProblem { topic: name.clone(), problem });
            }
        }
        Ok(problems)
    }
}

/// Waits for one of rdkafka's futures, which its own thread completes and which ends by its own timeout.
/// Not a runtime: this is called from threads that may or may not run inside one.
fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => std::thread::park(),
        }
    }
}
