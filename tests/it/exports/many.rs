//! Exports of what changed where there is much of it, and where a server has forgotten a part of it.

use std::fs::File;
use std::io::BufReader;

use etcd_client::{Txn, TxnOp};
use etcdguardian::export::bundle::{self, About};
use serde_json::{Value, json};

use super::Taken;
use crate::proxy::many::{config_map, put_config_maps, watched};
use crate::support::{Kubernetes, guardian_process};

impl Taken {
    /// What a bundle says of itself.
    fn about(&self, backup: &Value) -> About {
        let location = backup["location"].as_str().unwrap();
        let file = File::open(location.strip_prefix("file://").unwrap()).unwrap();
        let plain = zstd::Decoder::new(BufReader::new(file)).unwrap();
        bundle::read(plain, |_| Ok(())).unwrap()
    }
}

#[test]
fn a_kind_whose_changes_are_forgotten_is_listed_anew_and_the_chain_goes_on() {
    let taken = Taken::of(Kubernetes::start());
    let fern = |name: &str| json!({"apiVersion": "example.com/v1", "kind": "Fern", "metadata": {"name": name, "namespace": "shop"}, "spec": {"of": "F"}});
    taken.cluster.create(&fern("two"));
    let (first, _) = taken.create("first", "full");

    // With a new form of its definition the server begins its cache of the kind anew, and knows nothing of what was before.
    let column = json!({"name": "Of", "type": "string", "jsonPath": ".spec.of"});
    let patch = json!([{"op": "add", "path": "/spec/versions/0/additionalPrinterColumns", "value": [column]}]);
    let patch = patch.to_string();
    let words = ["patch", "crd", "ferns.example.com", "--type=json", "-p"];
    taken
        .cluster
        .kubectl(&[&words[..], &[patch.as_str()]].concat());
    taken.delete("fern", "two");
    taken.cluster.create(&fern("three"));
    taken.set("c1", "new");
    taken.delete("configmap", "c2");
    let (second, said) = taken.create("second", "incremental");
    assert_eq!(second["base"], first["id"], "{said}");
    assert!(!said.contains("BackupPromotedToFull"), "{said}");
    let about = taken.about(&second);
    let ferns = &about.kinds["ferns.example.com"];
    assert_eq!((ferns.whole, ferns.objects), (true, 2), "{about:?}");
    let others = &about.kinds["configmaps"];
    assert_eq!((others.whole, others.objects), (false, 1), "{about:?}");

    // And it goes on from there.
    taken.delete("fern", "three");
    let (third, said) = taken.create("third", "incremental");
    assert_eq!(third["base"], first["id"], "{said}");
    let about = taken.about(&third);
    assert!(!about.kinds["ferns.example.com"].whole, "{about:?}");
    taken.create("everything", "full");
    assert_eq!(taken.differs("third", "everything"), Vec::<Value>::new());
    let changed = taken.differs("first", "second");
    for (change, name) in [
        ("deleted", "two"),
        ("created", "three"),
        ("changed", "c1"),
        ("deleted", "c2"),
    ] {
        let is = |one: &Value| one["change"] == change && one["name"] == name;
        assert!(changed.iter().any(is), "{change} {name}: {changed:?}");
    }
}

/// `ETCDGUARDIAN_EXPORT_OBJECTS=100000` measures what the documentation says; see docs/performance.md.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_changes_among_many_objects_are_exported_alone() {
    let count = std::env::var("ETCDGUARDIAN_EXPORT_OBJECTS");
    let count: usize = count.map_or(5_000, |text| text.parse().unwrap());
    let taken = Taken::of(Kubernetes::start());
    put_config_maps(&taken.cluster, count).await;
    let url = taken.url();
    let take = |name: &str, mode: &str| {
        let words = taken.words(name, mode);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let log = taken.store.path().join(format!("{name}.log"));
        let mut process = guardian_process(&words, &log);
        let (peak, seconds) = watched(&mut process);
        assert!(peak < 128 << 20, "{} MiB", peak >> 20);
        let words = ["backup", "show", name, "--from", &url, "-o", "json"];
        let shown = crate::support::guardian(&words).json();
        let size = shown["storedSize"].as_u64().unwrap();
        eprintln!(
            "{name} of {count}: {seconds} s, {} MiB, {size} bytes stored",
            peak >> 20
        );
        assert!(
            !process.log_text().contains("BackupPromotedToFull: the s"),
            "{}",
            process.log_text()
        );
        shown
    };
    let first = take("first", "full");

    // One in ten is changed, and one in twenty goes.
    let mut client = taken.cluster.etcd.client().await;
    let touched: Vec<usize> = (0..count).step_by(10).collect();
    for chunk in touched.chunks(50) {
        let operations = chunk.iter().flat_map(|index| {
            let (key, mut object) = config_map(*index);
            object["data"]["text"] = "y".repeat(1000).into();
            let gone = config_map(index + 5).0;
            let deleted = (index % 20 == 0).then(|| TxnOp::delete(gone, None));
            [Some(TxnOp::put(key, object.to_string(), None)), deleted]
        });
        let operations: Vec<TxnOp> = operations.flatten().collect();
        let done = client.txn(Txn::new().and_then(operations)).await;
        assert!(done.unwrap().succeeded());
    }
    let second = take("second", "incremental");
    assert_eq!(second["base"], first["id"]);
    let about = taken.about(&second);
    let changes = &about.kinds["configmaps"];
    assert_eq!(
        (changes.whole, changes.objects),
        (false, touched.len() as u64)
    );
    assert_eq!(about.deleted["configmaps"].len(), touched.len().div_ceil(2));
    let third = take("third", "incremental");
    assert_eq!(third["base"], first["id"]);
    take("everything", "full");
    assert_eq!(taken.differs("third", "everything"), Vec::<Value>::new());
}
