//! An export of what changed since another one: every kind is watched from the resourceVersion where that ended to one that is read now.
//! A kind that cannot be watched, or whose changes the server has forgotten, is listed anew and is whole in the bundle; the chain goes on.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use futures::{StreamExt, stream};
use kube::Client;

use super::ExportError;
use super::bundle::{About, Gone, KindCount, Parent, Writer};
use super::changes::{Changed, Net, changes};
use super::list::{Listed, list};
use super::proxy::{about, skip, wanted};
use super::resources::Selection;

/// Kinds that are watched at once. They wait for the server rather than work it: most have nothing to tell.
const AT_ONCE: usize = 24;

/// The export that is continued.
#[derive(Debug, Clone)]
pub struct Since {
    /// It.
    pub parent: Parent,
    /// The resources in it, and the API version in which each was listed.
    pub kinds: BTreeMap<String, String>,
}

/// What came of it.
pub enum Increment<W> {
    /// The changes.
    Made(W, Box<About>),
    /// Of no kind could they be told, and why, so that all are in it as they are now: it builds on nothing.
    Whole(W, Box<About>, String),
    /// Nothing was written, and why: everything must be exported.
    Promoted(String),
}

/// Writes what changed since an export to a bundle.
///
/// # Errors
/// As [`super::proxy::export`].
pub async fn export_changes<W: Write>(
    client: &Client,
    selection: &Selection,
    since: &Since,
    out: W,
    scratch: Option<&Path>,
    progress: &(dyn Fn(&str, u64) + Send + Sync),
) -> Result<Increment<W>, ExportError> {
    let written = |source| ExportError::Bundle {
        action: "write",
        source,
    };
    let mut about = about(client).await?;
    let from = since.parent.resource_version.parse::<u64>();
    let to = about.resource_version.parse::<u64>();
    let (Ok(from), Ok(to)) = (from, to) else {
        let why = "the server's resourceVersions are no numbers, so that nothing can be told apart by them";
        return Ok(Increment::Promoted(why.to_owned()));
    };
    if to < from {
        let why = format!(
            "the server is at resourceVersion {to}, before the exported {from}: it was restored"
        );
        return Ok(Increment::Promoted(why));
    }
    about.parent = Some(since.parent.clone());
    let pin = about.resource_version.clone();
    let mut writer = Writer::new(out, about).map_err(written)?;
    let kinds = wanted(client, selection, &mut writer).await?;
    let pin = pin.as_str();
    let mut all = stream::iter(kinds)
        .map(|(name, kind)| async move {
            let known = since.kinds.get(&name) == Some(&kind.resource.api_version);
            let changed = match known {
                // Not a single write since then.
                true if from == to => Ok(Changed::Net(Net::empty())),
                true => changes(client, &kind, &selection.namespaces, (from, to), scratch).await,
                false => {
                    let why = "it came since, or is listed in another version now";
                    Ok(Changed::Unknown(why.to_owned()))
                }
            };
            let listed = match &changed {
                Ok(Changed::Unknown(why)) => {
                    tracing::info!(resource = name, why, "listed anew");
                    Some(list(client, &kind, &selection.namespaces, pin, scratch).await)
                }
                _ => None,
            };
            (name, kind, changed, listed)
        })
        .buffered(AT_ONCE);
    // Whether the changes of any kind were told, and why not those of the first one that was listed anew.
    let (mut told, mut untold) = (false, None);
    while let Some((name, kind, changed, listed)) = all.next().await {
        let mut count = KindCount {
            api_version: kind.resource.api_version,
            kind: kind.resource.kind,
            pinned: true,
            ..KindCount::default()
        };
        match (changed?, listed.transpose()?) {
            (Changed::Net(net), _) => {
                told = true;
                let gone: Vec<Gone> = net
                    .gone()
                    .map(|(namespace, name)| Gone {
                        namespace: namespace.clone(),
                        name: name.clone(),
                    })
                    .collect();
                writer.about().kinds.insert(name.clone(), count);
                if !gone.is_empty() {
                    writer.about().deleted.insert(name.clone(), gone);
                }
                let shown =
                    net.show(|namespace, one, json| writer.add(&name, namespace, one, json));
                progress(&name, shown.map_err(written)?);
            }
            (Changed::Unknown(why), Some(Listed::Whole { spool, pinned })) => {
                untold.get_or_insert_with(|| format!("{name}: {why}"));
                count.pinned = pinned;
                count.whole = true;
                writer.about().kinds.insert(name.clone(), count);
                let shown =
                    spool.show(|namespace, one, json| writer.add(&name, namespace, one, json));
                progress(&name, shown.map_err(written)?);
            }
            (Changed::Unknown(_), Some(Listed::Skipped(reason))) => {
                skip(&mut writer, &name, &reason);
            }
            (Changed::Unknown(_), None) => {}
        }
    }
    drop(all);
    let untold = untold.filter(|_| !told);
    if untold.is_some() {
        let about = writer.about();
        about.parent = None;
        about.kinds.values_mut().for_each(|kind| kind.whole = false);
    }
    let (out, about) = writer.finish().map_err(written)?;
    let about = Box::new(about);
    Ok(match untold {
        None => Increment::Made(out, about),
        Some(why) => Increment::Whole(
            out,
            about,
            format!(
                "the server cannot tell what changed of any kind since resourceVersion {from} ({why})"
            ),
        ),
    })
}
