use super::*;

#[test]
fn a_time_far_in_the_future_is_not_believed_for_ever() {
    let day = |day: u64| UNIX_EPOCH + Duration::from_secs(day * 86_400);
    let (built, now) = (day(20_000), day(20_400));
    for (what, system, certificate_ends, heard, believed) in [
        ("everyday", now, day(20_401), day(20_400), true),
        ("away for months, and the clock is right", now, day(20_200), day(20_199), true),
        ("no clock", day(0), day(20_401), day(20_400), true),
        ("a clock that is a month behind", day(20_370), day(20_401), day(20_400), true),
        ("the hub was years ahead", now, day(20_401), day(30_000), false),
        ("the hub was a week ahead, and renewed nothing", now, day(20_401), day(20_408), false),
        ("the hub was decades ahead and renewed, no clock", day(0), day(40_001), day(40_000), false),
        ("the hub was years ahead and renewed", now, day(22_001), day(22_000), false),
    ] {
        assert_eq!(KnownTimes { system, built, certificate_ends }.may_be(heard), believed, "{what}");
    }
}
