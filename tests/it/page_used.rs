//! The status page as it is used: by keyboard and mouse, on a phone, in the dark, on paper, while the status changes. The pictures
//! go to `target/page`, for a person to look at.

use std::path::PathBuf;
use std::sync::Arc;

use etcdguardian::serve::{self, DayTally, Metrics, Server, StatusSnapshot};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::page::protected;
use crate::serve::loopback;
use crate::support::{Page, repository};

struct Site {
    server: Server,
    status: watch::Sender<StatusSnapshot>,
    _ready: watch::Sender<bool>,
}

async fn site(status: StatusSnapshot) -> Site {
    let (status, ready) = (watch::Sender::new(status), watch::Sender::new(true));
    let server = serve::start(
        &loopback(),
        Arc::new(Metrics::new()),
        status.subscribe(),
        ready.subscribe(),
    )
    .await
    .unwrap();
    Site {
        server,
        status,
        _ready: ready,
    }
}

impl Site {
    async fn open(&self, width: u32) -> Page {
        let mut page = Page::open(&format!("http://{}/", self.server.address), width).await;
        page.wait("document.querySelector('article') && !document.getElementById('verdict').textContent.includes('Loading')").await;
        page
    }
}

fn picture(name: &str) -> PathBuf {
    let folder = repository("target/page");
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(format!("{name}.png"))
}

/// Several schedules, one in danger, with everything that a page can show.
fn several() -> StatusSnapshot {
    let sample = std::fs::read_to_string(repository("tests/samples/status.json")).unwrap();
    let whole: StatusSnapshot = serde_json::from_str(&sample).unwrap();
    let mut status = protected();
    let one = status.schedules[0].clone();
    status.schedules = (0..8)
        .map(|number| {
            let mut schedule = (*one).clone();
            schedule.name = format!("cluster-{number}");
            schedule.protected = number != 5;
            schedule.days = vec![DayTally {
                day: Timestamp::now().strftime("%Y-%m-%d").to_string(),
                levels: [("Consistent".to_owned(), 11), ("Stored".to_owned(), 1)].into(),
                failed: 2,
            }];
            Arc::new(schedule)
        })
        .collect();
    status.alerts = whole.alerts;
    status.past_alerts = whole.past_alerts;
    status.channels = whole.channels;
    status.stores = whole.stores;
    status
}

const FOCUSED: &str = "document.activeElement.tagName + '|' + (document.activeElement.closest('article')?.getAttribute('aria-label') ?? '')";

#[tokio::test(flavor = "multi_thread")]
async fn it_is_used_by_keyboard_alone_and_a_change_takes_nothing_out_of_ones_hands() {
    let site = site(several()).await;
    let mut page = site.open(1200).await;
    // The filter comes first, then the schedules in their order: the one in danger on top.
    let mut seen = Vec::new();
    for _ in 0..12 {
        page.press("Tab").await;
        seen.push(page.eval(FOCUSED).await.as_str().unwrap().to_owned());
        if seen.last().unwrap().starts_with("SUMMARY") {
            break;
        }
    }
    assert_eq!(seen.last().unwrap(), "SUMMARY|etcd/cluster-5", "{seen:?}");
    assert!(seen.iter().any(|one| one.starts_with("INPUT")), "{seen:?}");
    let ring = page
        .eval("getComputedStyle(document.activeElement).outlineStyle")
        .await;
    assert_ne!(ring, "none", "focus is seen");
    let open = "document.activeElement.closest('details').open";
    assert_eq!(page.eval(open).await, false);
    page.press("Enter").await;
    page.wait(open).await;
    page.wait("document.activeElement.closest('article').querySelector('svg')")
        .await;

    // The status changes under the reader: what was open stays open, the focus where it was, no reload.
    page.eval("window.mark = 'the same document'").await;
    site.status.send_modify(|status| {
        let schedule = Arc::make_mut(&mut status.schedules[5]);
        schedule.protected = true;
        schedule.protection = "a backup was proved a moment ago".to_owned();
    });
    page.wait("document.getElementById('verdict').textContent.startsWith('All 8')")
        .await;
    assert_eq!(page.eval("window.mark").await, "the same document");
    let focused = page.eval(FOCUSED).await;
    assert_eq!(focused, "SUMMARY|etcd/cluster-5");
    assert_eq!(page.eval(open).await, true);
    page.press("Enter").await;
    page.wait(&format!("!{open}")).await;
    site.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_filtered_by_typing_and_opened_by_clicks() {
    let site = site(several()).await;
    let mut page = site.open(1200).await;
    page.click("#filter").await;
    for letter in ["-", "3"] {
        page.press(letter).await;
    }
    page.wait("document.querySelectorAll('article').length === 1")
        .await;
    page.click("article summary").await;
    page.wait("document.querySelector('article details').open")
        .await;
    page.wait("document.querySelector('article table')").await;
    let text = page
        .eval("document.querySelector('article').innerText")
        .await;
    let text = text.as_str().unwrap();
    for words in ["cluster-3", "12 backups", "2 failed", "Last 7 days"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    page.picture(&picture("wide")).await;
    page.show("screen", "dark").await;
    page.picture(&picture("dark")).await;
    // An end of the filter shows all again.
    page.eval("document.getElementById('filter').value = ''")
        .await;
    page.eval("document.getElementById('filter').dispatchEvent(new Event('input'))")
        .await;
    page.wait("document.querySelectorAll('article').length === 8")
        .await;
    site.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fills_the_database_chains_drills_and_past_alerts_are_read() {
    let mut status = several();
    let schedule = Arc::make_mut(&mut status.schedules[3]);
    schedule.status.phase = Some("Suspended".to_owned());
    schedule.protection = "suspended: no backups are taken".to_owned();
    let site = site(status).await;
    let mut page = site.open(1200).await;
    // One sentence in the page, the terminal and the exit code.
    let verdict = "document.getElementById('verdict').textContent";
    assert_eq!(
        page.eval(verdict).await,
        "1 of 7 schedules is not protected, 1 suspended"
    );
    page.click("article[aria-label='etcd/cluster-0'] summary")
        .await;
    page.wait("document.querySelector('article[aria-label=\"etcd/cluster-0\"] .holes')")
        .await;
    let text = page
        .eval("document.querySelector('article[aria-label=\"etcd/cluster-0\"]').innerText")
        .await;
    let text = text.as_str().unwrap();
    for words in [
        "What fills the database",
        "/registry/events/",
        "43.2 %",
        "all others",
        "20261124T204000Z-6901203",
        "3 increments cut off",
        "Hole of 2h 23m",
        "revisions 6950011 to 6990000 are in no backup",
        "boot: etcd did not answer within 300 s",
        "The next drill is due",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(
        !text.contains("/registry/serviceaccounts/"),
        "the smallest are one sum: {text}"
    );
    assert!(
        !text.contains("NaN") && !text.contains("undefined"),
        "{text}"
    );
    // What was opened stays open while the status goes on.
    page.click("#past summary").await;
    page.wait("document.querySelector('#past details').open")
        .await;
    let past = page.eval("document.getElementById('past').innerText").await;
    let past = past.as_str().unwrap();
    for words in ["BackupFailed · etcd/prod", "5h 1m", "nobody told"] {
        assert!(past.contains(words), "{words}: {past}");
    }
    page.picture(&picture("parts")).await;
    site.status.send_modify(|status| {
        let mut newer = status.past_alerts[0].clone();
        newer.kind = "StoreUnavailable".to_owned();
        status.past_alerts.insert(0, newer);
    });
    page.wait("document.getElementById('past').innerText.includes('StoreUnavailable')")
        .await;
    assert_eq!(
        page.eval("document.querySelector('#past details').open")
            .await,
        true
    );
    site.server.stop().await;
}

/// The contrast of every text with what is behind it, as WCAG 2 defines it: the lowest, and whose it is.
const CONTRAST: &str = "(() => {
  const parts = (colour) => (colour.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = (colour) => { const [r, g, b] = parts(colour).map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (node) => { for (; node; node = node.parentElement) { const c = getComputedStyle(node).backgroundColor; const p = parts(c); if (p.length < 4 || p[3] > 0) return c; } return 'rgb(255,255,255)'; };
  let worst = [99, ''];
  for (const node of document.querySelectorAll('p, span, h1, h2, h3, td, th, a, b, code, summary, button, time')) {
    if (!node.textContent.trim() || !node.getClientRects().length) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(ground(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < worst[0]) worst = [ratio, node.outerHTML.slice(0, 200)];
  }
  return worst;
})()";

#[tokio::test(flavor = "multi_thread")]
async fn it_fits_a_phone_is_read_in_the_dark_and_goes_on_paper() {
    let site = site(several()).await;
    let mut page = site.open(360).await;
    page.click("article summary").await;
    page.wait("document.querySelector('article svg')").await;
    let widths = page
        .eval("[document.documentElement.scrollWidth, window.innerWidth]")
        .await;
    assert!(
        widths[0].as_u64().unwrap() <= widths[1].as_u64().unwrap(),
        "nothing is wider than the phone: {widths}"
    );
    let finger = page
        .eval("document.querySelector('article summary').getBoundingClientRect().height")
        .await;
    assert!(finger.as_f64().unwrap() >= 24.0, "{finger}");
    page.picture(&picture("phone")).await;
    for scheme in ["light", "dark"] {
        page.show("screen", scheme).await;
        let worst = page.eval(CONTRAST).await;
        assert!(worst[0].as_f64().unwrap() >= 4.5, "{scheme}: {worst}");
    }
    page.resize(1000, 900).await;
    page.show("print", "dark").await;
    let ground = page
        .eval("getComputedStyle(document.body).backgroundColor")
        .await;
    assert_eq!(ground, "rgb(255, 255, 255)", "paper is white");
    assert_eq!(
        page.eval("getComputedStyle(document.getElementById('filter-box')).display")
            .await,
        "none"
    );
    let worst = page.eval(CONTRAST).await;
    assert!(worst[0].as_f64().unwrap() >= 4.5, "on paper: {worst}");
    page.picture(&picture("print")).await;
    site.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_schedules_are_filtered_and_unfolded() {
    let mut status = several();
    let mut one = (*status.schedules[0]).clone();
    // As much as a schedule that has run for weeks has to show.
    let (backups, rates) = (one.backups.clone(), one.rates.clone());
    one.backups = backups.into_iter().cycle().take(50).collect();
    one.rates = rates.iter().flat_map(|rate| [*rate; 3]).take(288).collect();
    status.schedules = (0..1000)
        .map(|number| {
            let mut schedule = one.clone();
            schedule.name = format!("cluster-{number:03}");
            Arc::new(schedule)
        })
        .collect();
    let site = site(status).await;
    let mut page = site.open(1200).await;
    let drawn = page
        .eval("performance.getEntriesByType('resource').map((one) => Math.round(one.responseEnd)).concat(Math.round(performance.now()))")
        .await;
    eprintln!("1000 schedules: the JSON was there and the page drawn by {drawn} ms");
    assert_eq!(
        page.eval("document.querySelectorAll('article').length")
            .await,
        200
    );
    page.click("#schedules button").await;
    page.wait("document.querySelectorAll('article').length === 1000")
        .await;
    page.click("#filter").await;
    for letter in ["9", "9", "9"] {
        page.press(letter).await;
    }
    page.wait("document.querySelectorAll('article').length === 1")
        .await;
    // What is above the fold of a card is there at once, the rest comes when somebody opens it.
    let body = "document.querySelector('article details > div').childElementCount";
    assert_eq!(page.eval(body).await, 0);
    page.click("article summary").await;
    page.wait("document.querySelectorAll('article tbody tr').length > 50")
        .await;
    let asked = "performance.getEntriesByType('resource').map((one) => new URL(one.name).search)";
    let asked = page.eval(asked).await.to_string();
    assert!(
        asked.contains("?schedules=brief") && asked.contains("name=cluster-999"),
        "{asked}"
    );
    assert!(!asked.contains("cluster-001"), "{asked}");
    site.server.stop().await;
}
