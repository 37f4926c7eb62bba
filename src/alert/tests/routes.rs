//! Who hears of what: routes, the channels a schedule names, and the last resort.

use super::*;

#[test]
fn routes_and_names_choose_who_hears() {
    use AlertSeverity::{Critical, Info, Warning};
    let critical = Kind::NotProtected;
    let warning = Kind::BackupFailed;
    type Case<'a> = (&'a str, Vec<AlertRoute>, Kind, &'a [&'a str], &'a [&'a str]);
    let table: [Case<'_>; 9] = [
        (
            "no routes: all",
            vec![],
            warning,
            &[],
            &["chat", "mail", "pager"],
        ),
        ("named channels only", vec![], warning, &["mail"], &["mail"]),
        (
            "severity",
            vec![
                route(&[], &[Critical], &["pager"]),
                route(&[], &[Warning, Info], &["chat"]),
            ],
            warning,
            &[],
            &["chat"],
        ),
        (
            "several routes add up",
            vec![
                route(&[], &[Critical], &["pager"]),
                route(&["x"], &[], &["chat"]),
            ],
            critical,
            &[],
            &["chat", "pager"],
        ),
        (
            "schedule by path",
            vec![route(&["etcd/x"], &[], &["mail"])],
            warning,
            &[],
            &["mail"],
        ),
        (
            "another schedule's route",
            vec![route(&["y"], &[], &["mail"])],
            warning,
            &[],
            &[],
        ),
        (
            "a critical alert that no route takes reaches all",
            vec![route(&["y"], &[], &["mail"])],
            critical,
            &[],
            &["chat", "mail", "pager"],
        ),
        (
            "route and name disagree: a critical alert reaches the named",
            vec![route(&[], &[], &["mail"])],
            critical,
            &["chat"],
            &["chat"],
        ),
        (
            "a name that does not exist must not silence",
            vec![],
            critical,
            &["chta"],
            &["chat", "mail", "pager"],
        ),
    ];
    for (case, routes, kind, named, expected) in table {
        let mut config = config(&["chat", "mail", "pager"]);
        config.routes = routes;
        let mut event = trouble(kind, "x", 0);
        event.subject.channels = named.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(hearers(&event, &config), expected, "{case}");
    }
}
