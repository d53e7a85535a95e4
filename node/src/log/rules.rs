//! Who may vote: the site rule, and which learners become voters together.
//!
//! The log commits on a majority of voters and knows no sites. Where voters are in two or more sites, none of these may
//! hold a majority: then every commit is on two sites, whichever voters made it.

use super::planted::{Bug, planted};
use super::types::Member;
use std::collections::{BTreeMap, BTreeSet};

/// Voters by site.
fn by_site<'a>(members: &'a BTreeMap<u64, Member>, voters: &BTreeSet<u64>) -> BTreeMap<&'a str, usize> {
    let mut sites = BTreeMap::new();
    for site in voters
        .iter()
        .filter_map(|id| members.get(id))
        .map(|member| &member.site)
    {
        *sites.entry(site.as_str()).or_insert(0) += 1;
    }
    sites
}

/// The site that holds a majority although there are others, with its number of voters.
pub fn site_with_majority(members: &BTreeMap<u64, Member>, voters: &BTreeSet<u64>) -> Option<(String, usize)> {
    let sites = by_site(members, voters);
    if sites.len() < 2 || planted(Bug::SkipSiteRule) {
        return None;
    }
    let found = sites.into_iter().find(|(_, count)| count * 2 > voters.len());
    found.map(|(site, count)| (site.to_owned(), count))
}

/// The voters there should be once these learners have caught up: as many of them as the site rule lets in, `None` when
/// that is no more than now.
pub fn promoted(
    members: &BTreeMap<u64, Member>,
    voters: &BTreeSet<u64>,
    ready: &BTreeSet<u64>,
) -> Option<BTreeSet<u64>> {
    let mut wanted: BTreeSet<u64> = voters.union(ready).copied().collect();
    while let Some((site, _)) = site_with_majority(members, &wanted) {
        let too_many = wanted
            .iter()
            .rev()
            .find(|id| !voters.contains(id) && members.get(id).is_some_and(|member| member.site == site))
            .copied()?;
        wanted.remove(&too_many);
    }
    (wanted.len() > voters.len()).then_some(wanted)
}

/// Why `member` may not come in with the number `id`, or be what it says it is now; `None` when it may. `before` is the data
/// folder that the number belonged to, if it ever was a member's.
pub fn cannot_enter(
    members: &BTreeMap<u64, Member>,
    voters: &BTreeSet<u64>,
    before: Option<u128>,
    id: u64,
    member: &Member,
) -> Option<String> {
    let known = members.get(&id);
    if before.is_some_and(|before| before != member.incarnation) {
        return Some(format!(
            "number {id} belonged to another data folder, whose votes must not be given twice; give this node a [node] id that \
             was never used"
        ));
    }
    if known.is_none() && before.is_some() {
        return Some(format!(
            "node {id} left the cluster; give it a new number and a new data folder"
        ));
    }
    if let Some((other, _)) = members.iter().find(|(other, m)| **other != id && m.name == member.name) {
        return Some(format!("node {other} has the name {} already", member.name));
    }
    if member.address.is_empty() {
        return Some("the node has no [cluster] address".to_owned());
    }
    if known.is_none_or(|known| known.site == member.site) || !voters.contains(&id) {
        return None;
    }
    let mut moved = members.clone();
    moved.insert(id, member.clone());
    site_with_majority(&moved, voters).map(|(site, count)| {
        format!(
            "with node {id} in site {site} that site would hold {count} of {} voters, a majority: writes could be \
             acknowledged on one site alone. Give the node its old [node] site, or let a voter of another site join first",
            voters.len()
        )
    })
}

/// Why `id` may not be taken out; `None` when it may.
pub fn cannot_leave(members: &BTreeMap<u64, Member>, voters: &BTreeSet<u64>, id: u64) -> Option<String> {
    if !members.contains_key(&id) {
        return Some(format!("node {id} is no member"));
    }
    if !voters.contains(&id) {
        return None;
    }
    let mut left = voters.clone();
    left.remove(&id);
    if left.is_empty() {
        return Some(format!("node {id} is the only voter; let another one join first"));
    }
    site_with_majority(members, &left).map(|(site, count)| {
        format!(
            "without node {id} site {site} would hold {count} of {} voters, a majority: writes could be acknowledged on one \
             site alone. Let its replacement join first, or take a voter of {site} out before",
            left.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `"AABW"`: members 1, 2 in A, 3 in B, 4 in W.
    fn members(sites: &str) -> BTreeMap<u64, Member> {
        let member = |site: char| Member {
            site: site.to_string(),
            ..Member::default()
        };
        (1..).zip(sites.chars().map(member)).collect()
    }

    fn set(ids: &[u64]) -> BTreeSet<u64> {
        ids.iter().copied().collect()
    }

    #[test]
    fn one_site_may_hold_all_and_of_several_none_a_majority() {
        assert_eq!(site_with_majority(&members("AAA"), &set(&[1, 2, 3])), None);
        assert_eq!(site_with_majority(&members("ABW"), &set(&[1, 2, 3])), None);
        assert_eq!(site_with_majority(&members("AB"), &set(&[1, 2])), None);
        assert_eq!(site_with_majority(&members("AABBW"), &set(&[1, 2, 3, 4, 5])), None);
        let found = site_with_majority(&members("AAB"), &set(&[1, 2, 3]));
        assert_eq!(found, Some(("A".to_owned(), 2)));
    }

    #[test]
    fn learners_become_voters_together_and_never_against_the_rule() {
        assert_eq!(
            promoted(&members("ABW"), &set(&[1]), &set(&[2, 3])),
            Some(set(&[1, 2, 3]))
        );
        assert_eq!(promoted(&members("AAB"), &set(&[1]), &set(&[2, 3])), Some(set(&[1, 3])));
        assert_eq!(promoted(&members("AAB"), &set(&[1, 3]), &set(&[2])), None);
        assert_eq!(
            promoted(&members("AABW"), &set(&[1]), &set(&[2, 3, 4])),
            Some(set(&[1, 2, 3, 4]))
        );
        assert_eq!(promoted(&members("AA"), &set(&[1]), &set(&[2])), Some(set(&[1, 2])));
        assert_eq!(promoted(&members("ABW"), &set(&[1, 2, 3]), &set(&[])), None);
    }

    #[test]
    fn a_site_with_two_voters_lets_none_of_the_other_go() {
        let five = members("AABBW");
        let all = set(&[1, 2, 3, 4, 5]);
        assert_eq!(cannot_leave(&five, &all, 5), None);
        assert_eq!(cannot_leave(&five, &all, 1), None);
        assert!(cannot_leave(&members("AABW"), &set(&[1, 2, 3, 4]), 3).is_some());
        assert!(cannot_leave(&members("A"), &set(&[1]), 1).is_some());
        assert!(cannot_leave(&members("A"), &set(&[1]), 9).is_some());
        assert_eq!(cannot_leave(&members("AB"), &set(&[1]), 2), None);
        assert_eq!(cannot_leave(&members("AB"), &set(&[1, 2]), 2), None);
    }
}
