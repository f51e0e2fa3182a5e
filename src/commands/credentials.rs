//! What the worker logs in to Kafka with, where it comes from files: passwords and certificates are exchanged while
//! it runs. Changed files are tried on a connection of their own first, so that what the brokers refuse leaves the
//! ones from before going on.
//!
//! A token for OAUTHBEARER is no concern of this: each client reads its file whenever it needs one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::reload::{LOOK_EVERY, Seen, look_at};
use super::setup::Setup;
use crate::config::{Kafka, SecretFile, Secretable};
use crate::log::LogError;
use crate::log::kafka::{Credentials, KafkaSettings, OAUTH_TOKEN, OauthSource, log_in};
use crate::metrics::Metrics;

/// Properties that name a file which librdkafka itself reads when a client is made.
const READ_BY_LIBRDKAFKA: &[&str] = &[
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.crl.location",
    "ssl.key.location",
    "ssl.keystore.location",
];

/// How soon it is tried again what was refused: the brokers may be told later than the files.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// What files say, as they were when the settings were read.
pub(super) fn of(kafka: &Kafka) -> Credentials {
    let token = kafka.properties.get(OAUTH_TOKEN);
    let token = match token {
        Some(Secretable::File(file)) => OauthSource::file(file.path().to_owned()),
        _ => OauthSource::default(),
    };
    Credentials::new(revealed(&files(kafka)), token)
}

fn files(kafka: &Kafka) -> BTreeMap<String, SecretFile> {
    let file = |(name, value): (&String, &Secretable)| match value {
        Secretable::File(file) if name != OAUTH_TOKEN => Some((name.clone(), file.clone())),
        _ => None,
    };
    kafka.properties.iter().filter_map(file).collect()
}

fn revealed(files: &BTreeMap<String, SecretFile>) -> BTreeMap<String, String> {
    files.iter().map(|(name, file)| (name.clone(), file.held().reveal().to_owned())).collect()
}

/// Watches the files.
pub(super) struct Watch {
    files: BTreeMap<String, SecretFile>,
    /// Beside these, the ones that librdkafka reads.
    paths: Vec<PathBuf>,
    settings: KafkaSettings,
    metrics: Metrics,
    looked: Option<Instant>,
    seen: Vec<Option<Seen>>,
    trial: Option<Trial>,
    /// What was refused is tried again then.
    again: Option<Instant>,
}

/// A login that is under way on a thread of its own: it may take as long as the brokers like.
struct Trial {
    files: BTreeMap<String, SecretFile>,
    login: JoinHandle<Result<(), LogError>>,
}

impl Watch {
    /// Begins with what the settings were read as.
    pub(super) fn new(setup: &Setup, instance: &str, metrics: Metrics) -> Self {
        let files = files(&setup.config.kafka);
        let properties = &setup.config.kafka.properties;
        let by_librdkafka = READ_BY_LIBRDKAFKA.iter().filter_map(|name| properties.get(*name));
        let paths: Vec<PathBuf> = files
            .values()
            .map(|file| file.path().to_owned())
            .chain(by_librdkafka.map(|path| PathBuf::from(path.reveal())))
            .collect();
        let seen = paths.iter().map(|path| look_at(path)).collect();
        let mut settings = setup.kafka_settings(instance, 0);
        settings.client_id.push_str("-login");
        // A file may have changed since the settings were read: so the first look reads all of them.
        let again = (!files.is_empty()).then(Instant::now);
        Self { files, paths, settings, metrics, looked: None, seen, trial: None, again }
    }

    /// Takes up changed files. To be called often; looks once a second, and waits for nothing.
    pub(super) fn take_up(&mut self) {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked = Some(Instant::now());
        if let Some(trial) = self.trial.take_if(|trial| trial.login.is_finished()) {
            self.end(trial);
        }
        let seen: Vec<Option<Seen>> = self.paths.iter().map(|path| look_at(path)).collect();
        let is_due = self.again.is_some_and(|again| Instant::now() >= again);
        let has_changed = seen != self.seen;
        // A file that is away for a moment is being exchanged.
        if self.trial.is_some() || seen.contains(&None) || !(has_changed || is_due) {
            return;
        }
        self.again = None;
        let again = |(name, file): (&String, &SecretFile)| Ok((name.clone(), file.read_again()?));
        let read: Result<BTreeMap<_, _>, String> = self.files.iter().map(again).collect();
        match read {
            Ok(files) if files == self.files && !has_changed && !self.is_wrong() => {}
            Ok(files) => self.trial = Some(self.attempt(files)),
            Err(why) => self.refuse(&why),
        }
        self.seen = seen;
    }

    fn attempt(&self, files: BTreeMap<String, SecretFile>) -> Trial {
        let mut settings = self.settings.clone();
        settings.credentials = Credentials::new(revealed(&files), settings.credentials.token().clone());
        Trial { files, login: std::thread::spawn(move || log_in(&settings)) }
    }

    fn end(&mut self, trial: Trial) {
        match trial.login.join() {
            Ok(Ok(())) => {
                self.settings.credentials.replace(revealed(&trial.files));
                self.files = trial.files;
                self.metrics.kafka_credentials_wrong.set(0);
                tracing::info!("the credentials for Kafka are other ones now");
            }
            Ok(Err(error)) => self.refuse(&error.to_string()),
            Err(_) => self.refuse("trying to log in panicked; this is a bug in accrual"),
        }
    }

    fn refuse(&mut self, why: &str) {
        self.metrics.kafka_credentials_wrong.set(1);
        self.again = Some(Instant::now() + AGAIN_AFTER);
        tracing::error!(why, "the changed credentials for Kafka do not log in; those from before go on");
    }

    fn is_wrong(&self) -> bool {
        self.metrics.kafka_credentials_wrong.get() == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::setup::SettingsArgs;
    use crate::log::kafka::MockBroker;

    const WAIT: Duration = Duration::from_mins(1);

    /// A worker's settings in a folder of the test's own, with passwords for Kafka and Redis in files.
    struct Secured(PathBuf);

    impl Secured {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("accrual-secured-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            let secured = Self(folder);
            secured.write("kafka", "hunter2-of-kafka");
            secured.write("store", "redis://me:hunter2-of-redis@localhost");
            let programme = "programme: p\ntimezone: UTC\ncurrency: EUR\n\
                             rules: [{id: a, on: order.paid, earn: {points: 1}}]\n";
            secured.write("programme.yaml", programme);
            secured
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.0.join(name), text).unwrap();
        }

        fn load(&self, brokers: &str) -> Setup {
            self.write(
                "accrual.yaml",
                &format!(
                    "kafka: {{bootstrap.servers: '{brokers}', group.id: g, sasl.password: {{file: kafka}}}}\n\
                     inputs: [{{topics: [in]}}]\nstore: {{file: store}}\nprogramme: programme.yaml\n"
                ),
            );
            let config = Some(self.0.join("accrual.yaml"));
            let args = SettingsArgs { config, ..SettingsArgs::default() };
            let with_flag = SettingsArgs { store: Some("hunter2".to_owned().into()), ..args.clone() };
            assert!(!format!("{with_flag:?}").contains("hunter2"));
            Setup::load(&args, jiff::Timestamp::UNIX_EPOCH).unwrap()
        }
    }

    impl Drop for Secured {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }

    fn password(setup: &Setup) -> String {
        setup.credentials.properties()["sasl.password"].clone()
    }

    #[test]
    fn nothing_that_is_made_of_the_settings_shows_a_secret() {
        let secured = Secured::new("debug");
        let setup = secured.load("localhost:1");
        assert_eq!(password(&setup), "hunter2-of-kafka");
        let kafka = setup.kafka_settings("i", 0);
        let shown = format!("{setup:?} {kafka:?} {:?} {:?}", setup.stores(), setup.config);
        assert!(shown.contains("sasl.password") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_changed_password_is_taken_up_once_it_logs_in_and_a_file_that_is_wrong_leaves_the_one_before() {
        let secured = Secured::new("exchange");
        let broker = MockBroker::start(&[("in", 1)]).unwrap();
        let setup = secured.load(&broker.bootstrap());
        let metrics = Metrics::new(&setup.versions).unwrap();
        // Changed between the reading of the settings and the first look.
        secured.write("kafka", "another-one");
        let mut watch = Watch::new(&setup, "i", metrics.clone());
        let mut look_until = |holds: &dyn Fn() -> bool| {
            let deadline = Instant::now() + WAIT;
            while !holds() {
                assert!(Instant::now() < deadline, "{:?}", setup.credentials);
                watch.looked = None;
                watch.take_up();
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        look_until(&|| password(&setup) == "another-one");
        secured.write("kafka", "");
        look_until(&|| metrics.kafka_credentials_wrong.get() == 1);
        assert_eq!(password(&setup), "another-one");
        secured.write("kafka", "the-third");
        look_until(&|| password(&setup) == "the-third");
        assert_eq!(metrics.kafka_credentials_wrong.get(), 0);
    }
}
