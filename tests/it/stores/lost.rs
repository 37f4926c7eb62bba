//! Real stores whose answers are lost: the request was carried out, its retry is refused (412 by S3, 409 by Azure), and reading back
//! settles what happened.

use etcdguardian::repository::RepositoryError;
use serde_json::json;

use super::{Place, azure, bytes, get, put, s3};
use crate::support::{Azurite, LostAnswers, Versitygw, block_on, location};

/// The same place, reached through what loses answers.
fn behind(place: Place, lossy: &LostAnswers) -> Place {
    let mut wanted = serde_json::to_value(&place.location).unwrap();
    let mut url: url::Url = wanted["endpoint"].as_str().unwrap().parse().unwrap();
    url.set_port(Some(lossy.port)).unwrap();
    wanted["endpoint"] = json!(url.as_str().trim_end_matches('/'));
    Place {
        location: location(wanted),
        ..place
    }
}

/// `refused` is the status that the retry of a create-only write gets, `ends` the request that ends an upload in parts.
fn settles_what_is_lost(place: &Place, lossy: &LostAnswers, refused: u16, ends: (&str, &str)) {
    let name = place.name;
    block_on(async {
        let repository = place.open().await.unwrap();
        // Of the data, then of the manifest.
        for (id, part) in [("data", "snapshot.db"), ("words", "manifest.json")] {
            lossy.lose("PUT", part);
            let made = put(&repository, id, 1, b"x").await.unwrap();
            let [done, again] = lossy.statuses()[..] else {
                panic!("{name}, {part}: {:?}", lossy.statuses());
            };
            assert_eq!((done / 100, again), (2, refused), "{name}, {part}");
            assert_eq!(get(&repository, &made.data_key).await, b"x");
        }
        // What somebody else wrote is not taken for one's own.
        lossy.lose("PUT", "nothing");
        let other = put(&repository, "data", 1, b"y").await.unwrap_err();
        assert!(matches!(other, RepositoryError::Conflict { .. }), "{other}");
        // The end of an upload in parts, which nothing makes create-only.
        let body = bytes((9 << 20) + 1);
        lossy.lose(ends.0, ends.1);
        let made = put(&repository, "parts", 2, &body).await.unwrap();
        assert_eq!(lossy.statuses()[0] / 100, 2, "{name}");
        assert!(lossy.statuses().len() > 1, "{name}: it was asked again");
        assert_eq!(get(&repository, &made.data_key).await, body);
        let catalog = repository.catalog(None).await.unwrap();
        assert_eq!(catalog.backups.len(), 3, "{name}");
        assert!(catalog.damaged.is_empty(), "{name}");
    });
}

#[test]
fn s3_settles_a_lost_answer_whose_retry_gets_412() {
    let place = s3();
    let lossy = LostAnswers::before(place.server::<Versitygw>().port);
    let place = behind(place, &lossy);
    settles_what_is_lost(&place, &lossy, 412, ("POST", "uploadId="));
}

#[test]
fn azure_settles_a_lost_answer_whose_retry_gets_409() {
    let place = azure();
    let lossy = LostAnswers::before(place.server::<Azurite>().port());
    let place = behind(place, &lossy);
    settles_what_is_lost(&place, &lossy, 409, ("PUT", "comp=blocklist"));
}
