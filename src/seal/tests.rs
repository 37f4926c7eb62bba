//! Round trips, the standard formats, wrong keys and damaged bytes.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use age::secrecy::ExposeSecret;
use async_trait::async_trait;
use proptest::prelude::*;
use ring::rand::SecureRandom;

use super::*;
use crate::api::ErrorClass;
use crate::secrets::SecretError;

struct One(BTreeMap<String, Vec<u8>>);

#[async_trait]
impl Secrets for One {
    async fn read(&self, _: &str, name: &str) -> Result<Secret, SecretError> {
        Ok(Secret::new(name, self.0.clone()))
    }
}

fn secret(pairs: &[(&str, &str)]) -> One {
    One(pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
        .collect())
}

fn encryption() -> Encryption {
    Encryption {
        enabled: true,
        kms_key_id: None,
        encryption_secret: Some("backup-key".to_owned()),
    }
}

async fn sealer(pairs: &[(&str, &str)], compression: Compression) -> Result<Sealer, SealError> {
    Sealer::resolve(Some(&encryption()), compression, "ns", &secret(pairs)).await
}

async fn unsealer(pairs: &[(&str, &str)]) -> Result<Unsealer, SealError> {
    Unsealer::resolve(Some(&encryption()), "ns", &secret(pairs)).await
}

fn sealed(sealer: &Sealer, plain: &[u8]) -> Vec<u8> {
    let mut stored = Vec::new();
    sealer.seal(&mut &*plain, &mut stored).unwrap();
    stored
}

fn unsealed(unsealer: &Unsealer, sealer: &Sealer, stored: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut plain = Vec::new();
    unsealer.unseal(
        &sealer.describe(),
        sealer.compression(),
        &mut &*stored,
        &mut plain,
    )?;
    Ok(plain)
}

fn text() -> Vec<u8> {
    (0..60_000_u32)
        .flat_map(|n| format!("/registry/pods/{}", n % 977).into_bytes())
        .collect()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn the_bytes_are_those_of_the_standard_tools() {
    block_on(async {
        let plain = text();
        let one = age::x25519::Identity::generate();
        let two = age::x25519::Identity::generate();
        let recipients = format!(
            "# offline key\n{}\n\n{}\n",
            one.to_public(),
            two.to_public()
        );
        let sealer = sealer(&[("recipients", &recipients)], Compression::Zstd)
            .await
            .unwrap();
        let stored = sealed(&sealer, &plain);
        assert!(stored.starts_with(b"age-encryption.org/v1\n"));
        assert!(stored.len() * 3 < plain.len());
        for identity in [&one, &two] {
            let compressed = age::decrypt(identity, &stored).unwrap();
            assert_eq!(zstd::decode_all(&compressed[..]).unwrap(), plain);
        }
        let open = Sealer::open(Compression::Zstd);
        assert_eq!(zstd::decode_all(&sealed(&open, &plain)[..]).unwrap(), plain);
        assert_eq!(sealed(&Sealer::open(Compression::None), &plain), plain);
        assert_eq!(sealer.describe().recipients.len(), 2);
    });
}

#[test]
fn a_passphrase_seals_and_another_does_not_open() {
    block_on(async {
        let sealer = sealer(&[("passphrase", "correct horse\n")], Compression::Zstd)
            .await
            .unwrap();
        let stored = sealed(&sealer, b"hello");
        let right = unsealer(&[("passphrase", "correct horse")]).await.unwrap();
        assert!(right.opens(&sealer.describe()));
        assert_eq!(unsealed(&right, &sealer, &stored).unwrap(), b"hello");
        let wrong = unsealer(&[("passphrase", "battery staple")]).await.unwrap();
        let error = unsealed(&wrong, &sealer, &stored).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Credentials);
        assert!(
            error.to_string().contains("its passphrase opens it"),
            "{error}"
        );
        assert!(!format!("{error:?}").contains("battery"));
    });
}

#[test]
fn a_wrong_or_missing_key_names_the_one_that_is_wanted() {
    block_on(async {
        let key = generate();
        let other = generate();
        let identities = key.identity_file.expose_secret();
        // A Secret with identities alone seals to their public keys.
        let sealer = sealer(&[("identities", identities)], Compression::Zstd)
            .await
            .unwrap();
        assert_eq!(
            sealer.describe().recipients,
            std::slice::from_ref(&key.public)
        );
        let stored = sealed(&sealer, b"hello");
        let mine = unsealer(&[("identities", identities)]).await.unwrap();
        assert_eq!(unsealed(&mine, &sealer, &stored).unwrap(), b"hello");

        let theirs = unsealer(&[("identities", other.identity_file.expose_secret())])
            .await
            .unwrap();
        assert!(!theirs.opens(&sealer.describe()));
        let offline = unsealer(&[("recipients", &key.public)]).await.unwrap();
        assert!(!offline.has_key());
        for unsealer in [theirs, offline, Unsealer::default()] {
            let error = unsealed(&unsealer, &sealer, &stored).unwrap_err();
            assert_eq!(error.class(), ErrorClass::Credentials);
            assert!(error.to_string().contains(&key.public), "{error}");
        }
    });
}

#[test]
fn keys_that_are_none_are_refused_before_anything_begins() {
    block_on(async {
        let secret_key = "AGE-SECRET-KEY-1NOTAKEYBUTSECRET";
        for (pairs, expected) in [
            (vec![], "has no key 'recipients'"),
            (vec![("recipients", "  \n# nothing\n")], "holds no key"),
            (
                vec![("recipients", "ssh-ed25519 AAAA")],
                "line 1 of secret 'backup-key', key 'recipients'",
            ),
            (
                vec![("identities", secret_key)],
                "line 1 of secret 'backup-key', key 'identities'",
            ),
            (vec![("passphrase", " \n")], "holds no key"),
        ] {
            let error = sealer(&pairs, Compression::Zstd).await.err().unwrap();
            assert_eq!(error.class(), ErrorClass::Credentials);
            let words = format!("{error} {error:?}");
            assert!(words.contains(expected), "{words}");
            assert!(!words.contains(secret_key), "{words}");
        }
        let kms = Encryption {
            kms_key_id: Some("arn:aws:kms:x".to_owned()),
            ..encryption()
        };
        let refused = Sealer::resolve(Some(&kms), Compression::Zstd, "ns", &secret(&[])).await;
        assert_eq!(refused.err().unwrap().class(), ErrorClass::Refused);
        let off = Encryption {
            enabled: false,
            ..encryption()
        };
        let open = Sealer::resolve(Some(&off), Compression::Zstd, "ns", &secret(&[]))
            .await
            .unwrap();
        assert_eq!(open.describe(), Seal::default());
    });
}

#[test]
fn damage_and_truncation_anywhere_are_found() {
    block_on(async {
        let key = generate();
        let pairs = [("identities", key.identity_file.expose_secret())];
        let unsealer = unsealer(&pairs).await.unwrap();
        let plain = text();
        let sealers = [
            sealer(&pairs, Compression::Zstd).await.unwrap(),
            sealer(&pairs, Compression::None).await.unwrap(),
            Sealer::open(Compression::Zstd),
        ];
        for sealer in sealers {
            let stored = sealed(&sealer, &plain);
            let step = (stored.len() / 40).max(1);
            for at in (0..stored.len()).step_by(step) {
                let error = unsealed(&unsealer, &sealer, &stored[..at]).unwrap_err();
                assert_eq!(
                    error.class(),
                    ErrorClass::VerificationFailed,
                    "cut at {at}: {error}"
                );
                let mut broken = stored.clone();
                broken[at] ^= 0x20;
                match unsealed(&unsealer, &sealer, &broken) {
                    // Bits that carry nothing may flip; what comes out must then be right.
                    Ok(bytes) => assert_eq!(bytes, plain, "flip at {at}"),
                    Err(error) => assert!(
                        matches!(
                            error,
                            SealError::Damaged { .. } | SealError::KeyWrong { .. }
                        ),
                        "flip at {at}: {error}"
                    ),
                }
            }
        }
    });
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the line went dead"))
    }
}

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_broken_stream_is_not_called_damage() {
    let sealer = Sealer::open(Compression::Zstd);
    let stored = sealed(&sealer, &text());
    let unsealer = Unsealer::default();
    let seal = Seal::default();
    let read = unsealer.unseal(&seal, Compression::Zstd, &mut Broken, &mut Vec::new());
    assert!(matches!(read, Err(SealError::Io { action: "read", .. })));
    let written = unsealer.unseal(&seal, Compression::Zstd, &mut &stored[..], &mut Broken);
    assert!(matches!(
        written,
        Err(SealError::Io {
            action: "written",
            ..
        })
    ));
    assert!(matches!(
        sealer.seal(&mut Broken, &mut Vec::new()),
        Err(SealError::Io { action: "read", .. })
    ));
    assert!(matches!(
        sealer.seal(&mut &text()[..], &mut Broken),
        Err(SealError::Io {
            action: "written",
            ..
        })
    ));
}

#[test]
fn what_broke_off_while_it_was_sealed_does_not_open() {
    let key = generate();
    let pairs = [("identities", key.identity_file.expose_secret())];
    for compression in [Compression::None, Compression::Zstd] {
        let (sealer, unsealer) = block_on(async {
            let sealer = sealer(&pairs, compression).await.unwrap();
            (sealer, unsealer(&pairs).await.unwrap())
        });
        // Several pieces, which nothing compresses.
        let mut noise = vec![0; 8 << 20];
        ring::rand::SystemRandom::new().fill(&mut noise).unwrap();
        let mut stored = Vec::new();
        let broken = sealer.seal(&mut (&noise[..]).chain(Broken), &mut stored);
        assert!(matches!(broken, Err(SealError::Io { action: "read", .. })));
        assert!(
            stored.len() > 100_000,
            "some of it was written: {}",
            stored.len()
        );
        let opened = unsealed(&unsealer, &sealer, &stored);
        assert!(
            matches!(opened, Err(SealError::Damaged { .. })),
            "{opened:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn what_is_sealed_comes_back(plain in proptest::collection::vec(any::<u8>(), 0..200_000), none: bool) {
        let compression = if none { Compression::None } else { Compression::Zstd };
        let key = generate();
        let pairs = [("identities", key.identity_file.expose_secret())];
        let (sealer, unsealer) = block_on(async {
            (sealer(&pairs, compression).await.unwrap(), unsealer(&pairs).await.unwrap())
        });
        let stored = sealed(&sealer, &plain);
        prop_assert_eq!(unsealed(&unsealer, &sealer, &stored).unwrap(), plain);
    }
}
