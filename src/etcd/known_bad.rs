//! Releases of etcd whose data cannot be trusted without a second look, named as warnings (etcd-format.md §1.6 and §7).

/// Why a release is a bad source of backups; empty for a good one.
pub fn known_problems(version: &str) -> Vec<String> {
    let Some(release) = parse(version) else {
        return vec![format!(
            "'{version}' is no etcd release that this program knows"
        )];
    };
    let mut problems = Vec::new();
    let mut add = |problem: &str, mended: &str| {
        problems.push(format!(
            "etcd {version} {problem}: upgrade to {mended} or newer"
        ));
    };
    if release < (3, 4, 0) {
        add("is older than anything that is tested here", "3.4.34");
    }
    if ((3, 5, 0)..(3, 5, 3)).contains(&release) {
        add(
            "can lose or change data when it crashes (etcd issue 13766)",
            "3.5.3",
        );
    }
    if ((3, 5, 3)..(3, 5, 6)).contains(&release) {
        add(
            "can become inconsistent when it crashes during a defragmentation",
            "3.5.6",
        );
    }
    if ((3, 5, 0)..(3, 5, 14)).contains(&release) || ((3, 4, 0)..(3, 4, 32)).contains(&release) {
        let mended = if release.1 == 4 { "3.4.32" } else { "3.5.14" };
        add(
            "can go back to an older revision when it crashes during a compaction",
            mended,
        );
    }
    if ((3, 5, 0)..(3, 5, 20)).contains(&release) {
        add(
            "does not keep a learner's promotion in its database, so an upgrade to 3.6 can fail",
            "3.5.20",
        );
    }
    let mended = match (release.0, release.1) {
        (3, 4) => Some("3.4.38"),
        (3, 5) => Some("3.5.23"),
        (3, 6) => Some("3.6.5"),
        _ => None,
    };
    let mended = mended.filter(|mended| parse(mended).is_some_and(|first| release < first));
    if let Some(mended) = mended {
        add(
            "can damage a member's database that is defragmented while it takes in its leader's snapshot",
            mended,
        );
    }
    problems
}

/// Major, minor and patch; a suffix as `-rc.0` is ignored.
fn parse(version: &str) -> Option<(u16, u16, u16)> {
    let plain = version.split(['-', '+']).next()?;
    let mut numbers = plain.split('.').map(str::parse::<u16>);
    let release = (
        numbers.next()?.ok()?,
        numbers.next()?.ok()?,
        numbers.next()?.ok()?,
    );
    numbers.next().is_none().then_some(release)
}

#[cfg(test)]
mod tests {
    use super::known_problems;

    #[test]
    fn bad_releases_are_named_and_good_ones_are_not() {
        let cases = [
            ("3.3.27", 1),
            ("3.4.23", 2),
            ("3.4.32", 1),
            ("3.4.38", 0),
            ("3.5.0", 4),
            ("3.5.2", 4),
            ("3.5.3", 4),
            ("3.5.9", 3),
            ("3.5.14", 2),
            ("3.5.20", 1),
            ("3.5.23", 0),
            ("3.6.0-rc.1", 1),
            ("3.6.5", 0),
            ("3.7.3", 0),
            ("", 1),
            ("3.5", 1),
        ];
        for (version, count) in cases {
            assert_eq!(known_problems(version).len(), count, "{version}");
        }
    }
}
