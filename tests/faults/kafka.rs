//! Kafka brokers of the test's own, each a process that is broker and controller, and what is asked of them from
//! the outside.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::metadata::MetadataTopic;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::PATIENCE;
use super::redis_server::free_port;

/// Where a record lies.
pub type At = (String, i32, i64);

/// A record as a reader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub key: Vec<u8>,
    pub payload: Vec<u8>,
    pub headers: BTreeMap<String, String>,
}

/// One broker, or three that replicate each other.
pub struct Kafka {
    folder: PathBuf,
    brokers: Vec<Broker>,
}

struct Broker {
    port: u16,
    properties: PathBuf,
    log: PathBuf,
    process: Option<Child>,
}

impl Kafka {
    /// Starts so many brokers, of which the first ones are controllers too. Of three, two must have what is acknowledged.
    pub fn start(folder: &Path, number: usize, controllers: usize) -> Self {
        let folder = folder.join("kafka");
        std::fs::create_dir_all(&folder).unwrap();
        let ports: Vec<(u16, u16)> = (0..number).map(|_| (free_port(), free_port())).collect();
        let voters = ports.iter().zip(1..).take(controllers);
        let voters: Vec<String> = voters.map(|((_, port), id)| format!("{id}@127.0.0.1:{port}")).collect();
        let in_sync = if number > 2 { 2 } else { 1 };
        let brokers = ports.iter().zip(1..).map(|((port, controller), id)| {
            let properties = folder.join(format!("{id}.properties"));
            let data = folder.join(id.to_string());
            let (roles, controller) = if id <= controllers {
                ("broker,controller", format!(",CONTROLLER://127.0.0.1:{controller}"))
            } else {
                ("broker", String::new())
            };
            let settings = format!(
                "node.id={id}
process.roles={roles}
listeners=PLAINTEXT://127.0.0.1:{port}{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.voters={voters}
log.dirs={data}
default.replication.factor={number}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={number}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={number}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
",
                voters = voters.join(","),
                data = data.display(),
            );
            std::fs::write(&properties, settings).unwrap();
            let formatted = java(&["-Xmx256m"], "kafka.tools.StorageTool")
                .args(["format", "-t", "5L6g3nShT-eMCtK--X86sw", "-c"])
                .arg(&properties)
                .stderr(Stdio::null())
                .output()
                .unwrap();
            assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stdout));
            Broker { port: *port, properties, log: folder.join(format!("{id}.log")), process: None }
        });
        let brokers = brokers.collect();
        let mut kafka = Self { folder, brokers };
        kafka.brokers.iter_mut().for_each(Broker::start);
        kafka.wait_until_up();
        kafka
    }

    /// Where clients find them.
    pub fn bootstrap(&self) -> String {
        let all: Vec<String> =
            self.brokers.iter().map(|broker| format!("127.0.0.1:{}", broker.port)).collect();
        all.join(",")
    }

    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap()).set("reconnect.backoff.max.ms", "500");
        config
    }

    /// Ends a broker at once, as a crash would.
    pub fn kill(&mut self, broker: usize) {
        let mut process = self.brokers[broker].process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Ends a broker as an operator does, who waits until it has handed over what it leads.
    pub fn stop(&mut self, broker: usize) {
        let mut process = self.brokers[broker].process.take().unwrap();
        let told = Command::new("kill").arg(process.id().to_string()).status().unwrap();
        assert!(told.success());
        process.wait().unwrap();
    }

    /// Starts a broker that was ended.
    pub fn start_again(&mut self, broker: usize) {
        self.brokers[broker].start();
        self.wait_until_up();
    }

    /// Waits until every partition of every topic, Kafka's own among them, has all of its replicas in sync.
    pub fn wait_until_in_sync(&self) {
        let number = self.brokers.len();
        let reader: BaseConsumer = self.config().create().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metadata = reader.fetch_metadata(None, PATIENCE).unwrap();
            let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
            let lagging = partitions.filter(|partition| partition.isr().len() < number).count();
            if lagging == 0 {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{lagging} partitions have replicas out of sync\n{}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn wait_until_up(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.brokers.iter().all(Broker::is_up) {
            assert!(Instant::now() < deadline, "Kafka does not start\n{}", self.said());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The last that the brokers said.
    pub fn said(&self) -> String {
        let tail = |broker: &Broker| {
            let text = std::fs::read_to_string(&broker.log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(20)..].join("\n")
        };
        self.brokers.iter().map(tail).collect::<Vec<_>>().join("\n--- the next broker:\n")
    }

    pub fn create_topic(&self, name: &str, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().unwrap();
        let replicas = i32::try_from(self.brokers.len()).unwrap();
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let created = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new()));
            match created.map(|mut topics| topics.remove(0)) {
                Ok(Ok(_)) => return,
                // Not all brokers may know each other yet.
                failed => assert!(Instant::now() < deadline, "{name}: {failed:?}"),
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// A reader of all partitions of these topics, each from its start.
    pub fn reader(&self, topics: &[String]) -> BaseConsumer {
        let reader: BaseConsumer = self
            .config()
            .set("group.id", "reader-of-the-test")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        for topic in topics {
            for partition in 0..self.partitions(&reader, topic) {
                list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
            }
        }
        reader.assign(&list).unwrap();
        reader
    }

    fn partitions(&self, reader: &BaseConsumer, topic: &str) -> i32 {
        let metadata = reader.fetch_metadata(Some(topic), PATIENCE).unwrap();
        i32::try_from(metadata.topics()[0].partitions().len()).unwrap()
    }

    /// For each partition the offset behind the last that a `read_committed` reader may see, once no transaction
    /// is open there any more: a worker that was killed leaves one behind.
    pub fn ends(&self, topics: &[String]) -> BTreeMap<(String, i32), i64> {
        let committed: BaseConsumer =
            self.config().set("isolation.level", "read_committed").create().unwrap();
        let sees_all: BaseConsumer =
            self.config().set("isolation.level", "read_uncommitted").create().unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut ends = BTreeMap::new();
        for topic in topics {
            for partition in 0..self.partitions(&sees_all, topic) {
                let end =
                    |reader: &BaseConsumer| reader.fetch_watermarks(topic, partition, PATIENCE).unwrap().1;
                while end(&committed) < end(&sees_all) {
                    assert!(Instant::now() < deadline, "{topic} {partition}: a transaction stays open");
                    std::thread::sleep(Duration::from_millis(50));
                }
                ends.insert((topic.clone(), partition), end(&committed));
            }
        }
        ends
    }

    /// Reads these topics from the start to their end.
    pub fn read(&self, topics: &[String]) -> BTreeMap<At, Record> {
        let ends = self.ends(topics);
        let reader = self.reader(topics);
        let mut records = BTreeMap::new();
        let deadline = Instant::now() + PATIENCE;
        while !has_reached(&reader, &ends) {
            assert!(Instant::now() < deadline, "{topics:?} were not read to their end");
            if let Some(message) = reader.poll(Duration::from_millis(100)) {
                let (at, record) = taken(&message.unwrap());
                records.insert(at, record);
            }
        }
        records
    }

    /// What a group has committed, by partition.
    pub fn committed(
        &self,
        group: &str,
        ends: &BTreeMap<(String, i32), i64>,
    ) -> BTreeMap<(String, i32), i64> {
        let consumer: BaseConsumer = self.config().set("group.id", group).create().unwrap();
        let mut list = TopicPartitionList::new();
        for (topic, partition) in ends.keys() {
            list.add_partition(topic, *partition);
        }
        // Answers nothing while a transaction that holds offsets is open.
        let Ok(committed) = consumer.committed_offsets(list, Duration::from_secs(5)) else {
            return BTreeMap::new();
        };
        let known = committed.elements().into_iter().filter_map(|element| {
            let Offset::Offset(offset) = element.offset() else { return None };
            Some(((element.topic().to_owned(), element.partition()), offset))
        });
        known.collect()
    }
}

/// Whether a reader stands at these ends, or behind them.
pub fn has_reached(reader: &BaseConsumer, ends: &BTreeMap<(String, i32), i64>) -> bool {
    let positions = reader.position().unwrap();
    ends.iter().all(|((topic, partition), end)| {
        let position = positions.find_partition(topic, *partition).map(|element| element.offset());
        *end == 0 || matches!(position, Some(Offset::Offset(offset)) if offset >= *end)
    })
}

/// A message that was read.
pub fn taken(message: &impl Message) -> (At, Record) {
    let headers = message.headers().map_or_else(BTreeMap::new, |headers| {
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect()
    });
    let record = Record {
        key: message.key().unwrap_or_default().to_vec(),
        payload: message.payload().unwrap_or_default().to_vec(),
        headers,
    };
    ((message.topic().to_owned(), message.partition(), message.offset()), record)
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if std::thread::panicking() {
            writeln!(std::io::stderr(), "--- Kafka said:\n{}", self.said()).ok();
        }
        for process in self.brokers.iter_mut().filter_map(|broker| broker.process.as_mut()) {
            process.kill().ok();
            process.wait().ok();
        }
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

impl Broker {
    fn start(&mut self) {
        // A log of this start alone, in which to see that it is up.
        let log = File::create(&self.log).unwrap();
        let process = java(&["-Xmx512m"], "kafka.Kafka")
            .arg(&self.properties)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
    }

    /// One that was ended on purpose is not waited for.
    fn is_up(&self) -> bool {
        let said = || std::fs::read_to_string(&self.log).unwrap_or_default();
        self.process.is_none() || said().contains("Kafka Server started")
    }
}

/// A program of Kafka's. It is compiled but once, for it is started often and runs for minutes.
fn java(options: &[&str], program: &str) -> Command {
    let jars = std::env::var("KAFKA_CLASSPATH")
        .expect("KAFKA_CLASSPATH is not set: run ./test, or tests/services/with cargo test");
    let mut command = Command::new("java");
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]).args(options);
    command.args(["-cp", &jars, program]).stdin(Stdio::null());
    command
}
