//! When a workspace is measured, and what follows.

use super::*;

const LIMIT: u64 = 1000 << 20;
const MIB: u64 = 1 << 20;

fn watched(bytes: u64) -> (Watched, Instant) {
    let now = Instant::now();
    (Watched::new(LIMIT, bytes, 0, now), now)
}

#[test]
fn it_is_measured_only_when_it_could_be_at_its_limit() {
    let (mut one, now) = watched(0);
    assert!(!one.is_due(900 * MIB, now));
    assert!(one.is_due(951 * MIB, now), "nearly full");
    let quick = Duration::from_millis(10);
    // It was another one that wrote.
    assert_eq!(one.measured(100 * MIB, 951 * MIB, now, quick), Step::None);
    let later = now + MEASURE_PAUSE;
    assert!(!one.is_due(951 * MIB, later));
    assert!(!one.is_due(1800 * MIB, later));
    assert!(one.is_due(1810 * MIB, later));
    assert!(!one.is_due(1810 * MIB, now), "not at once again");
}

#[test]
fn measuring_takes_a_small_part_of_the_time() {
    let (mut one, now) = watched(990 * MIB);
    let slow = Duration::from_secs(3);
    one.measured(990 * MIB, 0, now, slow);
    assert!(!one.is_due(LIMIT, now + Duration::from_secs(59)));
    assert!(one.is_due(LIMIT, now + Duration::from_secs(60)));
}

#[test]
fn what_hides_behind_deletions_is_found_the_sooner_the_nearer_the_limit() {
    for (bytes, seconds) in [(0, 600), (600 * MIB, 60), (920 * MIB, 15)] {
        let (one, now) = watched(bytes);
        assert!(!one.is_due(0, now + Duration::from_secs(seconds - 1)));
        assert!(one.is_due(0, now + Duration::from_secs(seconds)));
    }
}

#[test]
fn the_limit_is_told_before_it_is_reached_and_then_kept() {
    let (mut one, now) = watched(0);
    let mut measure = |mib: u64| one.measured(mib * MIB, 0, now, Duration::ZERO);
    assert_eq!(measure(940), Step::None);
    assert_eq!(measure(960), Step::Tell);
    assert_eq!(measure(970), Step::None, "told once");
    assert_eq!(measure(1001), Step::Stop(Passed::Once));
    assert_eq!(measure(1040), Step::None, "room to clear up in");
    assert_eq!(measure(1066), Step::Stop(Passed::Again), "no more than that");
    assert_eq!(measure(500), Step::None);
    assert_eq!(measure(1001), Step::Stop(Passed::Once), "as at first");
}

#[test]
fn one_that_was_above_its_limit_may_be_woken_to_clear_up() {
    let (mut one, now) = watched(1010 * MIB);
    assert_eq!(one.measured(1020 * MIB, 0, now, Duration::ZERO), Step::Tell);
    assert_eq!(one.measured(1075 * MIB, 0, now, Duration::ZERO), Step::Stop(Passed::Again));
}

#[test]
fn growth_is_what_was_written_and_no_deletion_takes_from_it() {
    let mut disk = Disk::default();
    for used in [500, 600, 100, 350] {
        disk.note(Space { used, percent: 1 });
    }
    assert_eq!(disk.grown, 350);
}

#[test]
fn one_that_is_new_may_have_written_all_that_came_since_the_last_list() {
    let mut disk = Disk::default();
    let now = Instant::now();
    disk.note(Space { used: 0, percent: 1 });
    disk.list(&[], now);
    assert!(!disk.is_due(now));
    disk.note(Space { used: LIST_GROWTH, percent: 1 });
    assert!(disk.is_due(now), "somebody writes who is not known");
    assert!(disk.is_due(now + LIST));
}
