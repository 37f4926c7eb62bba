//! The status page in a real browser: what a person would see of a given status, on a wide screen and on a phone.

use std::process::Command;
use std::sync::Arc;

use etcdguardian::serve::{self, Metrics, RatePoint, StatusSnapshot};
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::serve::loopback;
use crate::support::{chromium, repository};

/// The document as it stands once its script has drawn the status.
async fn drawn(status: &StatusSnapshot, width: u32) -> String {
    let (sender, ready) = (watch::Sender::new(status.clone()), watch::Sender::new(true));
    let server = serve::start(
        &loopback(),
        Arc::new(Metrics::new()),
        sender.subscribe(),
        ready.subscribe(),
    )
    .await
    .unwrap();
    let profile = TempDir::new().unwrap();
    let mut command = Command::new(chromium());
    command
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .args([
            "--no-proxy-server",
            "--virtual-time-budget=3000",
            "--dump-dom",
            "--lang=en",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--window-size={width},1000"))
        .arg(format!("http://{}/", server.address))
        .env("TZ", "UTC")
        .env("LANGUAGE", "en");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    server.stop().await;
    let page = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        page.contains("id=\"verdict\""),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Its own script and style would answer to the words that are looked for.
    let body = page.split("<script").next().unwrap_or_default();
    body.split("</style>").last().unwrap_or_default().to_owned()
}

/// The sample's good schedule alone, with its history moved to now: two days of rates, a forecast, the cron each six hours.
pub(crate) fn protected() -> StatusSnapshot {
    let sample = std::fs::read_to_string(repository("tests/samples/status.json")).unwrap();
    let mut status: StatusSnapshot = serde_json::from_str(&sample).unwrap();
    let now = Timestamp::now();
    let shift = now.duration_since(status.now.unwrap());
    let moved = |at: Timestamp| at.checked_add(shift).unwrap();
    let later = |minutes: i64| now + SignedDuration::from_mins(minutes);
    status.schedules.retain(|schedule| schedule.name == "prod");
    status.alerts.clear();
    status.problems.clear();
    status.now = Some(now);
    let schedule = Arc::make_mut(&mut status.schedules[0]);
    for backup in &mut schedule.backups {
        backup.time = backup.time.map(moved);
    }
    schedule.status.recoverable_from = schedule.status.recoverable_from.map(moved);
    schedule.status.recoverable_to = schedule.status.recoverable_to.map(moved);
    schedule.status.next_backup_time = Some(later(90));
    schedule.protected_until = Some(later(360));
    let rate = |minute: i64| 4.0 + 3.0 * (minute as f64 / 200.0).sin();
    let points = |from: i64, to: i64| {
        (from..=to)
            .step_by(30)
            .map(|minute| RatePoint {
                at: later(minute),
                rate: rate(minute),
            })
            .collect()
    };
    schedule.rates = points(-2880, 0);
    schedule.forecast = points(0, 720);
    schedule.cron_slots = (-8..=2).map(|slot| later(360 * slot)).collect();
    for chain in &mut schedule.chains {
        (chain.from, chain.to) = (moved(chain.from), moved(chain.to));
    }
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn one_schedule_is_told_in_a_sentence_and_drawn_at_once() {
    let status = protected();
    for width in [1200, 500] {
        let page = drawn(&status, width).await;
        assert!(page.contains(">Protected</h1>"), "{page}");
        for words in [
            "Recoverable from",
            "Next backup",
            "decided by the model: the forecast rate falls",
            "18,250, 41,000 are worth a backup",
        ] {
            assert!(page.contains(words), "{words}");
        }
        let count = |what: &str| page.matches(what).count();
        assert_eq!(
            count("<path class=\"rate\""),
            2,
            "the change rate, and the changes at risk"
        );
        assert_eq!(count("<path class=\"forecast\""), 1);
        assert_eq!(count("<path class=\"bycron\""), 1);
        assert_eq!(count("<line class=\"budget\""), 1);
        // Eight slots before now, one now, one or two after it in sight.
        assert!(
            (9..=11).contains(&count("<line class=\"slot\"")),
            "{}",
            count("<line class=\"slot\"")
        );
        let marks = count("<circle class=")
            + count("<path class=\"Drilled\"")
            + count("<path class=\"Failed\"");
        let inside = status.schedules[0]
            .backups
            .iter()
            .filter(|b| b.time >= Some(status.schedules[0].rates[0].at))
            .count();
        assert_eq!(marks, inside);
        assert!(
            count("<line class=\"gap\"") >= 1,
            "between Stored and Verified lie more hours than are allowed"
        );
        assert_eq!(
            count("<rect class=\"stored\""),
            5,
            "the sizes of the good backups"
        );
        assert!(
            !page.contains("NaN") && !page.contains("undefined"),
            "{page}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_comes_first_and_markup_stays_text() {
    let mut status = protected();
    let schedule = Arc::make_mut(&mut status.schedules[0]);
    schedule.protected = false;
    schedule.protected_until = None;
    schedule.name = "<img src=x onerror=alert(1)>".to_owned();
    schedule.status.next_backup_time = Some(Timestamp::now() - SignedDuration::from_mins(5));
    let sample = std::fs::read_to_string(repository("tests/samples/status.json")).unwrap();
    let whole: StatusSnapshot = serde_json::from_str(&sample).unwrap();
    status.alerts = whole.alerts;
    let page = drawn(&status, 1200).await;
    assert!(page.contains(">Not protected</h1>"));
    assert!(
        page.contains("etcdguardian doctor"),
        "the alert's next step"
    );
    assert!(page.contains("due now"));
    assert!(!page.contains("<img") && page.contains("&lt;img src=x onerror=alert(1)&gt;"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_schedules_are_drawn_in_part() {
    let mut status = protected();
    let one = status.schedules[0].clone();
    status.schedules = (0..1000)
        .map(|number| {
            let mut schedule = (*one).clone();
            schedule.name = format!("cluster-{number:03}");
            schedule.protected = number != 777;
            Arc::new(schedule)
        })
        .collect();
    let page = drawn(&status, 1200).await;
    assert!(page.contains("1 of 1000 schedules is not protected"));
    assert_eq!(page.matches("<article ").count(), 200);
    assert!(page.contains("Show 800 more"));
    let (bad, good) = (
        page.find("cluster-777").unwrap(),
        page.find("cluster-000").unwrap(),
    );
    assert!(bad < good, "the one in danger is on top");
    assert_eq!(
        page.matches("<svg").count(),
        0,
        "nothing is drawn that nobody opened"
    );
}
