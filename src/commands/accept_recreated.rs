//! `accrual accept-recreated TOPIC`: says that an input was deleted and made anew, and that the worker is to read the new one
//! from its beginning. Until then it refuses to, because what it knows of the old one's offsets says nothing of the new one's.
//!
//! 1. What the old topic left in the outbox, applied and not published, is published: its records do not come again.
//! 2. The group begins at the topic's first record.
//! 3. What is known to be processed of the topic is forgotten.
//!
//! Each step may be done again, so that an end in the middle costs nothing; and before the last is done the worker refuses as before.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, bail};
use jiff::Timestamp;

use super::confirm;
use super::progress::grouped;
use super::setup::{SettingsArgs, Setup};
use crate::entry::Renderer;
use crate::lane::leftovers::leftovers;
use crate::lane::metadata;
use crate::lane::recreated::known_end;
use crate::log::kafka::{KafkaGroup, KafkaPublisher, Placed};
use crate::log::{Assigned, LogError};
use crate::store::{OffsetRange, Store};
use crate::types::{TopicName, TopicPartition};

/// What `accrual accept-recreated` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct AcceptRecreatedArgs {
    /// The topic: an input, or `outputs.internal`.
    topic: String,
    /// It was made anew although nothing shows it: it has grown past what was processed of the old one. Where that is not
    /// so, every record is read again, and those from before `dedupe.window` are paid again.
    #[arg(long)]
    grown: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Ranges by partition.
type Processed = BTreeMap<TopicPartition, Vec<OffsetRange>>;

/// Accepts a topic that was made anew, and fails where nothing shows that it was.
///
/// # Errors
/// Where Kafka or the store does not answer, or workers run.
pub fn accept_recreated(args: &AcceptRecreatedArgs) -> anyhow::Result<ExitCode> {
    let Some(setup) = Setup::load_or_say(&args.settings, Timestamp::now()) else {
        return Ok(ExitCode::from(2));
    };
    let topic = TopicName::from(args.topic.as_str());
    if topic != setup.config.outputs.internal && setup.inputs().all(|input| *input != topic) {
        eprintln!("{topic} is no input of this worker's; nothing is known of it");
        return Ok(ExitCode::from(2));
    }
    if setup.config.store.url().is_none() {
        bail!("the store is `memory`: what it knows ends with its worker");
    }
    if !args.yes && confirm::nobody_is_there() {
        eprintln!("nobody can be asked here whether to go on: add --yes");
        return Ok(ExitCode::from(2));
    }
    let mut store = setup.stores().open()?;
    setup.check_deployment(store.as_mut()).context("the store")?;
    let settings = setup.kafka_settings("accept-recreated", 0);
    let group = KafkaGroup::open(&settings, &topic)?;
    let members = group.members()?;
    if members > 0 {
        bail!("group {} has {members} members: stop all workers first", settings.group);
    }
    let places = group.places()?;
    let processed = processed(store.as_mut(), &topic, &places)?;
    let look = Look::at(&places, &processed);
    print!("{}", look.told(&topic));
    if look.known.values().all(|(known, _)| *known == 0) {
        return Ok(ExitCode::SUCCESS);
    }
    if !look.is_shorter() && !args.grown {
        eprintln!(
            "nothing shows that {topic} was made anew: none of its partitions ends before what was processed. If it was, and has \
             grown since, say so by --grown; where it was not, every record would be read again, and those from before \
             dedupe.window be paid again"
        );
        return Ok(ExitCode::FAILURE);
    }
    if !args.yes && !confirm::go_on()? {
        println!("nothing was changed");
        return Ok(ExitCode::FAILURE);
    }
    let renderer = Renderer::new(&setup.versions.first().name);
    let mut publisher = KafkaPublisher::open(&settings)?;
    let mut publish = |records: &[Placed]| publisher.publish(records);
    let published = publish_leftovers(store.as_mut(), &setup, &renderer, &processed, &mut publish)?;
    group.begin_anew()?;
    store.forget_processed(&processed.keys().cloned().collect::<Vec<_>>())?;
    if published > 0 {
        println!("published {} records that the old topic had left unpublished", grouped(published));
    }
    println!("{topic} is read from its beginning when the worker starts");
    Ok(ExitCode::SUCCESS)
}

/// What is known to be processed of every partition that there is or was; what only the group's offsets knew is written
/// down with it.
fn processed(store: &mut dyn Store, topic: &TopicName, places: &[Assigned]) -> anyhow::Result<Processed> {
    store.add_processed(&metadata::processed_of_all(places))?;
    let mut processed: Processed = places.iter().map(|place| (place.partition.clone(), Vec::new())).collect();
    processed.extend(store.sources(topic)?);
    Ok(processed)
}

/// Publishes what is left of these partitions, a transaction after the other. How many records.
fn publish_leftovers(
    store: &mut dyn Store,
    setup: &Setup,
    renderer: &Renderer,
    processed: &Processed,
    publish: &mut dyn FnMut(&[Placed]) -> Result<(), LogError>,
) -> anyhow::Result<u64> {
    let mut published = 0;
    loop {
        let left = leftovers(store, &setup.config.outputs, renderer, processed)?;
        if left.entries.is_empty() {
            return Ok(published);
        }
        let records: Vec<Placed> =
            left.records.into_iter().map(|record| Placed { record, partition: None }).collect();
        if !records.is_empty() {
            publish(&records)?;
            published += u64::try_from(records.len()).unwrap_or_default();
        }
        store.clear_outbox(&left.entries)?;
    }
}

/// What is known of partitions beside what there is.
struct Look {
    /// Up to which offset each was processed, and where it ends; nothing for one that is no more.
    known: BTreeMap<i32, (i64, Option<i64>)>,
}

impl Look {
    fn at(places: &[Assigned], processed: &Processed) -> Self {
        let known = processed.iter().map(|(partition, ranges)| {
            let place = places.iter().find(|place| place.partition == *partition);
            let known = place.map_or_else(
                || ranges.iter().map(|range| range.until).max().unwrap_or_default(),
                |place| known_end(place, ranges),
            );
            (partition.partition, (known, place.map(|place| place.end)))
        });
        Self { known: known.collect() }
    }

    fn is_shorter(&self) -> bool {
        self.known.values().any(|(known, end)| end.is_none_or(|end| end < *known))
    }

    fn told(&self, topic: &TopicName) -> String {
        let line = |(partition, (known, end)): (&i32, &(i64, Option<i64>))| {
            let end =
                end.map_or_else(|| "is not there any more".to_owned(), |end| format!("ends at offset {end}"));
            match known {
                0 => format!("{topic}/{partition} {end}, nothing of it was processed\n"),
                known => format!("{topic}/{partition} {end}, offsets up to {known} were processed\n"),
            }
        };
        self.known.iter().map(line).collect()
    }
}
