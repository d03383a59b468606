use std::net::IpAddr;

use ipsec::{
    AllocateSpi, Command, Direction, Mark, Mode, PolicyKey, Protocol, Sa, SaDirection, SaId,
    Selector,
};
use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn key(number: u8) -> PolicyKey {
    let selector = Selector::new(
        format!("10.{number}.0.1/16").parse().unwrap(),
        "2001:db8::/32".parse().unwrap(),
    );
    PolicyKey {
        mark: Mark {
            value: 0xff,
            mask: 0x0f,
        },
        if_id: 3,
        ..PolicyKey::new(Direction::Fwd, selector)
    }
}

fn sa(spi: u32, reqid: u32) -> Sa {
    Sa {
        id: SaId {
            dst: ip("192.0.2.1"),
            spi,
            protocol: Protocol::Esp,
            mark: Mark::ANY,
        },
        src: ip("192.0.2.2"),
        direction: SaDirection::In,
        mode: Mode::Tunnel,
        reqid,
        if_id: 0,
        set_mark: None,
        encryption: Some(ipsec::CipherKey {
            transform: 20,
            key: vec![0x5a; 20].into(),
        }),
        integrity: None,
        encap: None,
        replay_window: 32,
        esn: false,
        selector: None,
        lifetime: ipsec::Lifetime::UNLIMITED,
        flags: ipsec::SaFlags::default(),
        acquire_seq: 0,
        tfc_pad: 0,
        compression: None,
        iptfs: None,
        cpu: None,
        label: None,
    }
}

fn in_table(sa: Sa, state: SaState) -> SaReport {
    SaReport {
        sa,
        state,
        counters: ipsec::SaCounters::default(),
    }
}

fn spi_request(min: u32, max: u32) -> AllocateSpi {
    AllocateSpi {
        src: ip("192.0.2.2"),
        dst: ip("192.0.2.1"),
        protocol: Protocol::Esp,
        mode: Mode::Tunnel,
        reqid: 5,
        if_id: 0,
        mark: Mark::ANY,
        min,
        max,
        acquire_seq: 0,
    }
}

fn directory() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("xfrm.ledger");
    (dir, path)
}

#[test]
fn an_entry_is_in_the_file_before_the_request_and_nothing_is_written_at_the_end() {
    let (_dir, path) = directory();
    let mut ledger = Ledger::open(&path).unwrap();
    let sa = sa(0xc000_0001, 5);
    ledger.begin([Claim::sa(&sa)].into_iter()).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.contains(r#"{"begin":{"object":{"sa":{"dst":"192.0.2.1","spi":3221225473"#),
        "{text}"
    );
    assert!(!text.contains("90,90"), "keys do not belong there");
    drop(ledger);
    let text_after = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, text_after);
}

#[test]
fn what_a_full_disk_kept_out_of_the_file_is_not_claimed_and_its_losses_are_made_good() {
    let (_dir, path) = directory();
    let (kept, gone, refused) = (key(1), key(2), key(3));
    let mut ledger = Ledger::open(&path).unwrap();
    for key in [&kept, &gone] {
        ledger.apply([Change::Confirm(Claim::policy(key))]).unwrap();
    }

    ledger.file = OpenOptions::new().append(true).open("/dev/full").unwrap();
    // Removed from the kernel, which the file could not be told.
    ledger
        .apply([Change::End(Claim::policy(&gone).object)])
        .unwrap_err();
    ledger.file = OpenOptions::new().append(true).open("/dev/full").unwrap();
    ledger.behind = false;
    let error = ledger
        .begin([Claim::policy(&refused), Claim::policy(&kept)].into_iter())
        .unwrap_err();
    assert_eq!(error.errno(), libc::ENOSPC);
    assert!(
        !ledger.claims(&Claim::policy(&refused).object),
        "the request was not sent: such a policy would be somebody else's"
    );
    assert!(ledger.claims(&Claim::policy(&kept).object));

    // There is room again.
    let later = key(4);
    ledger.begin([Claim::policy(&later)].into_iter()).unwrap();
    drop(ledger);
    let ledger = Ledger::open(&path).unwrap();
    let has = |key| ledger.entries.contains_key(&Claim::policy(key).object);
    assert!(has(&kept) && has(&later));
    assert!(!has(&gone), "somebody else's by now, perhaps");
}

#[test]
fn confirmed_leftovers_are_ours_whatever_their_age_and_unconfirmed_only_if_not_older() {
    let (_dir, path) = directory();
    let (done, begun) = (sa(1000, 5), sa(1001, 5));
    let mut ledger = Ledger::open(&path).unwrap();
    ledger
        .begin([Claim::sa(&done), Claim::sa(&begun)].into_iter())
        .unwrap();
    ledger.apply([Change::Confirm(Claim::sa(&done))]).unwrap();
    drop(ledger);

    let ledger = Ledger::open(&path).unwrap();
    let now = now();
    assert!(ledger.owns_sa(&in_table(done.clone(), SaState::Valid), 0));
    assert!(ledger.owns_sa(&in_table(begun.clone(), SaState::Valid), now));
    // There before the entry: somebody else's, and our request was refused.
    assert!(!ledger.owns_sa(&in_table(begun.clone(), SaState::Valid), now - 60));
    // The same SPI, but another reqid: ours is gone, this came later.
    let other = Sa {
        reqid: 6,
        ..done.clone()
    };
    assert!(!ledger.owns_sa(&in_table(other, SaState::Valid), now));
    // Another source: it was being moved. Nobody knows that of one that may never have been ours.
    let elsewhere = |sa: &Sa| Sa {
        src: ip("192.0.2.3"),
        ..sa.clone()
    };
    assert!(ledger.owns_sa(&in_table(elsewhere(&done), SaState::Valid), now));
    assert!(!ledger.owns_sa(&in_table(elsewhere(&begun), SaState::Valid), now));
    // In no entry.
    assert!(!ledger.owns_sa(&in_table(sa(1002, 5), SaState::Valid), now));
}

#[test]
fn a_larval_state_of_an_unanswered_request_is_found_by_its_range() {
    let (_dir, path) = directory();
    let mut ledger = Ledger::open(&path).unwrap();
    ledger
        .begin([Claim::spi(&spi_request(1000, 1999))].into_iter())
        .unwrap();
    drop(ledger);
    let ledger = Ledger::open(&path).unwrap();
    let now = now();
    assert!(ledger.owns_sa(&in_table(sa(1500, 5), SaState::Larval), now));
    assert!(!ledger.owns_sa(&in_table(sa(1500, 5), SaState::Valid), now));
    assert!(!ledger.owns_sa(&in_table(sa(2000, 5), SaState::Larval), now));
    assert!(!ledger.owns_sa(&in_table(sa(1500, 6), SaState::Larval), now));
    assert!(!ledger.owns_sa(&in_table(sa(1500, 5), SaState::Larval), now - 60));
}

#[test]
fn policies_are_adopted_and_stay_until_claimed_or_removed() {
    let (_dir, path) = directory();
    let mut ledger = Ledger::open(&path).unwrap();
    ledger
        .begin([1, 2, 3].iter().map(|n| Claim::policy(&key(*n))))
        .unwrap();
    ledger
        .apply([1, 2].map(|n| Change::Confirm(Claim::policy(&key(n)))))
        .unwrap();
    drop(ledger);

    let mut ledger = Ledger::open(&path).unwrap();
    assert!(!ledger.is_unclaimed(&key(1)), "not before it was found");
    assert!(ledger.adopt_policy(&key(1), 0));
    assert!(ledger.adopt_policy(&key(2), 0));
    assert!(
        !ledger.adopt_policy(&key(3), 0),
        "older than its unconfirmed entry"
    );
    assert!(!ledger.adopt_policy(&key(4), 0), "foreign");
    assert_eq!(ledger.finish_reconciliation(0).unwrap(), 1);

    let claim = Claim::policy(&key(1));
    ledger.begin([claim].into_iter()).unwrap();
    ledger.apply([Change::Confirm(claim)]).unwrap();
    assert!(!ledger.is_unclaimed(&key(1)));
    assert_eq!(ledger.unclaimed_policies(), [key(2).normalized()]);
    // A crash now: both are known to the next life.
    drop(ledger);
    assert_eq!(Ledger::open(&path).unwrap().len(), 2);
}

#[test]
fn a_refusal_removes_what_was_begun_but_not_what_was_ours() {
    let (_dir, path) = directory();
    let mut ledger = Ledger::open(&path).unwrap();
    let claim = Claim::policy(&key(1));
    ledger.begin([claim].into_iter()).unwrap();
    ledger.apply([Change::Refuse(claim.object)]).unwrap();
    assert!(ledger.is_empty());
    ledger.apply([Change::Confirm(claim)]).unwrap();
    // Installed once more: EEXIST. It is still ours.
    ledger.begin([claim].into_iter()).unwrap();
    ledger.apply([Change::Refuse(claim.object)]).unwrap();
    assert!(ledger.has(&claim.object));
}

#[test]
fn removals_come_with_the_sas_first() {
    let (_dir, path) = directory();
    let mut ledger = Ledger::open(&path).unwrap();
    ledger
        .apply([
            Change::Confirm(Claim::policy(&key(1))),
            Change::Confirm(Claim::sa(&sa(1000, 1))),
        ])
        .unwrap();
    assert_eq!(
        ledger.removals(),
        [
            Command::RemoveSa(sa(1000, 1).id),
            Command::RemovePolicy(key(1).normalized())
        ]
    );
}

#[test]
fn two_processes_cannot_share_it() {
    let (dir, path) = directory();
    let first = Ledger::open(dir.path()).unwrap();
    assert!(matches!(Ledger::open(&path), Err(LedgerError::InUse(_))));
    drop(first);
    Ledger::open(&path).unwrap();
}

#[test]
fn entries_of_another_boot_or_namespace_are_void() {
    let (_dir, path) = directory();
    let mut ledger = Ledger::open(&path).unwrap();
    ledger
        .apply([Change::Confirm(Claim::policy(&key(1)))])
        .unwrap();
    drop(ledger);
    let text = std::fs::read_to_string(&path).unwrap();
    let place = Place::here().unwrap();
    std::fs::write(&path, text.replace(&place.boot, "another boot")).unwrap();
    assert!(Ledger::open(&path).unwrap().is_empty());
    std::fs::write(&path, text.replace(&place.netns.1.to_string(), "1")).unwrap();
    assert!(Ledger::open(&path).unwrap().is_empty());
}

#[test]
fn it_is_written_anew_before_it_grows_without_bound() {
    let (_dir, path) = directory();
    let mut ledger = Ledger::open(&path).unwrap();
    ledger
        .apply([Change::Confirm(Claim::policy(&key(9)))])
        .unwrap();
    for n in 0..5000 {
        let claim = Claim::sa(&sa(1000 + n, 1));
        ledger.begin([claim].into_iter()).unwrap();
        ledger.apply([Change::Confirm(claim)]).unwrap();
        ledger.apply([Change::End(claim.object)]).unwrap();
    }
    assert!(ledger.lines < 2 * SLACK, "{} lines", ledger.lines);
    drop(ledger);
    let ledger = Ledger::open(&path).unwrap();
    assert_eq!(ledger.len(), 1);
    assert!(ledger.has(&Claim::policy(&key(9)).object));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The file cut at any octet: what was settled before the cut is read as it was.
    #[test]
    fn a_torn_file_gives_the_entries_of_its_whole_lines(steps in prop::collection::vec((0..6_u32, 0..3_u8), 1..40), cut in 0.0..1.0) {
        let (_dir, path) = directory();
        let mut ledger = Ledger::open(&path).unwrap();
        for (spi, what) in &steps {
            let claim = Claim::sa(&sa(1000 + spi, 1));
            match what {
                0 => ledger.begin([claim].into_iter()).unwrap(),
                1 => ledger.apply([Change::Confirm(claim)]).unwrap(),
                _ => ledger.apply([Change::End(claim.object)]).unwrap(),
            }
        }
        let place = ledger.place.clone();
        let entries = ledger.entries.clone();
        drop(ledger);
        let text = std::fs::read(&path).unwrap();
        // Whole: the same entries, all of them from before.
        let (read_entries, _) = read(&text, &place);
        prop_assert_eq!(read_entries.len(), entries.len());
        for (object, entry) in &entries {
            prop_assert_eq!(read_entries[object].confirmed, entry.confirmed);
        }
        // Cut: as if the torn line had never been begun.
        let at = (text.len() as f64 * cut) as usize;
        let whole = text[..at].iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
        let (torn, _) = read(&text[..at], &place);
        let (clean, _) = read(&text[..whole], &place);
        // (A line that lacks only its newline is whole.)
        if text.get(at) != Some(&b'\n') {
            prop_assert_eq!(torn, clean);
        }
    }
}
