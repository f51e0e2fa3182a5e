//! An input that is deleted and made anew under its old name.

use super::broker;
use super::shop::{Shop, order};
use super::worker::Exit;
use super::{PLAIN, ledger};

impl Shop {
    fn pay(&self, ids: std::ops::Range<u32>) {
        let record = |id| ("k".to_owned(), order(&format!("o{id}"), &self.member("ann"), "1.00"));
        self.produce_keyed(&ids.map(record).collect::<Vec<_>>());
    }

    fn points(&self) -> i64 {
        ledger(&self.awards())[&self.member("ann")]
    }

    fn accept(&self, flags: &[&str]) -> (Option<i32>, String) {
        let input = self.input();
        let output = self.accrual(&[&["accept-recreated", input.as_str()], flags].concat());
        let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }
}

#[test]
fn a_topic_that_was_made_anew_stops_the_worker_and_is_read_from_its_beginning_once_accepted() {
    let shop = Shop::open("recreated", PLAIN, 1);
    assert_eq!(shop.accept(&["--yes"]).0, Some(0), "nothing is known of it yet");
    shop.pay(0..10);
    shop.work_off();
    assert_eq!(shop.points(), 10);
    let (code, said) = shop.accept(&["--yes"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nothing shows that"), "{said}");

    broker::recreate_topic(&shop.input(), 1);
    // Three new ones, and one that upstream sends again.
    shop.pay(9..13);
    let (exit, log) = shop.start(&["--until-idle"]).wait();
    assert_eq!(exit, Exit::Code(1), "{log}");
    for part in ["ends at offset 4", "up to 10", &format!("accrual accept-recreated {}", shop.input())] {
        assert!(log.contains(part), "{part} is not in {log}");
    }
    assert_eq!(shop.points(), 10);

    assert_eq!(shop.accept(&[]).0, Some(2), "nobody can be asked");
    let (code, said) = shop.accept(&["--yes"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("ends at offset 4, offsets up to 10 were processed"), "{said}");
    shop.work_off();
    assert_eq!(shop.points(), 13, "what is new counts, and what is not does not");
    shop.rewind();
    shop.work_off();
    assert_eq!(shop.points(), 13);
}

#[test]
fn a_topic_that_is_made_anew_while_the_worker_runs_stops_it_also_once_it_has_grown_past_the_old_one() {
    let shop = Shop::open("recreated-running", PLAIN, 1);
    shop.pay(0..10);
    let worker = shop.start(&[]);
    worker.wait_for_metric(r#"accrual_points_total{by="rule",kind="earned",rule="purchase"} 10"#);
    let (code, said) = shop.accept(&["--yes"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("stop all workers first"), "{said}");
    broker::recreate_topic(&shop.input(), 1);
    shop.pay(10..12);
    let (exit, log) = worker.wait();
    assert_eq!(exit, Exit::Code(1), "{log}");
    assert!(log.contains("accept-recreated") || log.contains("do not exist"), "{log}");
    assert_eq!(shop.points(), 10);

    // Longer than the old one, so that its offsets say nothing: of what lies at the old offsets nothing has counted.
    shop.pay(12..30);
    for _ in 0..2 {
        let (exit, log) = shop.start(&["--until-idle"]).wait();
        assert_eq!(exit, Exit::Code(1), "{log}");
        for part in
            ["of 10 events at offsets that were processed none has counted", "--grown", "--reset-offsets"]
        {
            assert!(log.contains(part), "{part} is not in {log}");
        }
    }
    assert_eq!(shop.points(), 10);
    assert_eq!(shop.accept(&["--yes"]).0, Some(1));
    assert_eq!(shop.accept(&["--yes", "--grown"]).0, Some(0));
    shop.work_off();
    assert_eq!(shop.points(), 30);
}

#[test]
fn a_group_whose_offsets_are_lost_pays_nothing_twice_and_goes_on() {
    let shop = Shop::open("lost-offsets", PLAIN, 1);
    // With repeats, which have no receipt of their own place.
    shop.pay(0..20);
    shop.pay(0..20);
    shop.work_off();
    assert_eq!(shop.points(), 20);
    broker::forget_group(&shop.name);
    shop.pay(20..25);
    shop.work_off();
    assert_eq!(shop.points(), 25);
}
