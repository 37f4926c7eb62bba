//! Which member is asked: a pure choice from what the members say of themselves.

use super::MemberStatus;

/// A follower this many revisions behind the furthest one is asked only when nobody better is there.
const LAGGING_REVISIONS: i64 = 1_000;

/// The order in which members are asked for a snapshot or a hash: healthy followers, which nobody waits for, then the leader,
/// then learners and members that lag, have lost the leader or report corruption. Ties go to the one furthest ahead.
pub(super) fn asking_order(members: &[MemberStatus]) -> Vec<usize> {
    let newest = members
        .iter()
        .map(|member| member.revision)
        .max()
        .unwrap_or_default();
    let rank = |member: &MemberStatus| {
        let corrupt = member.errors.iter().any(|error| error.contains("CORRUPT"));
        let lags = newest.saturating_sub(member.revision) > LAGGING_REVISIONS;
        match () {
            () if corrupt => 5,
            () if member.leader == 0 => 4,
            () if lags => 3,
            // Learners serve snapshots only since 3.4.28 and 3.5.0.
            () if member.is_learner => 2,
            () if member.leader == member.member_id => 1,
            () => 0,
        }
    };
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|&index| {
        let member = &members[index];
        (rank(member), std::cmp::Reverse(member.revision))
    });
    order
}

/// The member that is furthest ahead.
pub(super) fn furthest(members: Vec<MemberStatus>) -> Option<MemberStatus> {
    members
        .into_iter()
        .max_by_key(|member| (member.leader != 0, member.revision, member.applied_index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, revision: i64) -> MemberStatus {
        MemberStatus {
            endpoint: format!("http://m{id}:2379"),
            member_id: id,
            ..MemberStatus::alone_at(revision)
        }
    }

    #[test]
    fn a_healthy_follower_goes_before_the_leader_and_the_rest_after() {
        let leader = member(1, 5_000);
        let follower = member(2, 4_999);
        let lagging = member(3, 100);
        let learner = MemberStatus {
            is_learner: true,
            ..member(4, 5_000)
        };
        let lost = MemberStatus {
            leader: 0,
            ..member(5, 5_000)
        };
        let corrupt = MemberStatus {
            errors: vec!["memberID:6 alarm:CORRUPT ".to_owned()],
            ..member(6, 5_000)
        };
        let all = [corrupt, lost, learner, lagging, leader, follower];
        assert_eq!(asking_order(&all), vec![5, 4, 2, 3, 1, 0]);
        assert_eq!(asking_order(&[]), Vec::<usize>::new());
    }

    #[test]
    fn of_two_followers_the_newer_one_is_asked() {
        let all = [member(2, 10), member(3, 12), member(1, 12)];
        assert_eq!(asking_order(&all), vec![1, 0, 2]);
        assert_eq!(furthest(all.to_vec()).map(|m| m.revision), Some(12));
    }
}
