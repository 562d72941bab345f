//! What the scoring policies say about the nodes that can take a pod, and which of these are best.

use longshore_core::scheduling::cluster::{Change, Cluster};
use longshore_core::scheduling::{NodeId, NodeSet, Reach, Score, Update};

use super::best::Podium;
use super::cached::{COLD_ABOVE, Question};
use super::column::Column;
use super::groups::{Groups, parts_few};

/// Which nodes are in the race.
#[derive(Clone, Copy)]
pub(super) struct News<'n> {
    /// Nodes that pass the filters that are asked about each node.
    pub(super) base: &'n NodeSet,
    /// Those of them that all filters let pass.
    pub(super) feasible: &'n NodeSet,
    /// By group: whether its nodes may pass. Empty without groups.
    pub(super) open: &'n [bool],
}

impl News<'_> {
    /// The nodes about which a policy is asked one by one. What depends on a node alone is kept for nodes of closed groups
    /// too, so that nothing is to be done when the group opens.
    fn asked(&self, policy: &dyn Score) -> &NodeSet {
        if matches!(policy.reach(), Reach::Node | Reach::Nodes) { self.base } else { self.feasible }
    }
}

/// One column for each scoring policy, and the tournament of their weighted sums.
#[derive(Debug, Default)]
pub(super) struct Ranking {
    /// By place in the profile.
    columns: Vec<Column>,
    /// Whether the columns say anything: no policy is asked while no node can take the pod.
    scored: bool,
    /// Memory for the sums of weight times score.
    totals: Vec<i64>,
    pub(super) best: Podium,
}

impl Ranking {
    /// Starts anew, with no node in the race.
    pub(super) fn reset(&mut self, policies: usize, width: usize) {
        self.columns.resize_with(policies, Column::default);
        self.columns.iter_mut().for_each(Column::forget);
        self.scored = false;
        self.totals.clear();
        self.totals.resize(width, 0);
        self.best.reset(&mut self.totals, &NodeSet::new(), None);
    }

    /// Whether a policy has something to say that depends on more than the cluster.
    pub(super) fn reads_outside(&self, question: Question<'_>) -> bool {
        let active = |place: usize| self.columns.get(place).is_some_and(|column| column.active);
        question.profile.scores().any(|(place, score)| active(place) && score.reach() == Reach::Outside)
    }

    /// A policy's score of a node, after normalising; `None` if it has nothing to say about the pod.
    pub(super) fn score(&self, place: usize, node: NodeId, groups: Option<&Groups>) -> Option<i64> {
        let column = self.columns.get(place).filter(|column| column.active)?;
        match groups.filter(|_| column.grouped) {
            Some(groups) => column.by_group.get(groups.of(node)).copied(),
            None => Some(column.score.get(node)),
        }
    }

    /// Has all policies look at the pod. Returns the labels on which the scores of some depend, if these are few.
    pub(super) fn pre_score_all(
        &mut self,
        question: Question<'_>,
        cluster: &Cluster,
        feasible: &NodeSet,
    ) -> Vec<String> {
        let mut keys = Vec::new();
        if feasible.is_empty() {
            return keys;
        }
        for (place, policy) in question.profile.scores() {
            let column = &mut self.columns[place];
            column.pre_score(question, cluster, policy, feasible);
            keys.extend(few_labels(column, policy, cluster).into_iter().flatten().map(str::to_owned));
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Scores everything, after [`Ranking::pre_score_all`].
    pub(super) fn score_all(
        &mut self,
        question: Question<'_>,
        cluster: &Cluster,
        groups: Option<&Groups>,
        news: News<'_>,
    ) {
        if news.feasible.is_empty() {
            return;
        }
        self.scored = true;
        for (place, policy) in question.profile.scores() {
            let column = &mut self.columns[place];
            let labels = few_labels(column, policy, cluster);
            column.grouped = labels.zip(groups).is_some_and(|(labels, groups)| groups.cover(&labels));
            if column.active && !column.grouped {
                column.score_all(question, cluster, policy, news.asked(policy), news.feasible);
            }
        }
        self.total_all(question, cluster, news.base, groups);
        self.score_groups(question, cluster, groups, news);
    }

    /// Looks at what changed only; `false` if that is not possible.
    pub(super) fn score_again(
        &mut self,
        question: Question<'_>,
        cluster: &Cluster,
        groups: Option<&Groups>,
        news: News<'_>,
        (affected, nodes_changed, flipped, changes): (&NodeSet, bool, bool, &[Change]),
    ) -> bool {
        if news.feasible.is_empty() {
            if self.scored {
                self.reset(self.columns.len(), cluster.width());
            }
            return true;
        }
        if !self.scored {
            let keys = self.pre_score_all(question, cluster, news.feasible);
            let covered = |key: &String| groups.is_some_and(|groups| groups.cover(&[key]));
            if !keys.iter().all(covered) {
                return false;
            }
            self.score_all(question, cluster, groups, news);
            return true;
        }
        let mut touched = affected.clone();
        let mut all_moved = false;
        for (place, policy) in question.profile.scores() {
            let column = &mut self.columns[place];
            let was_active = column.active;
            let mut own = None;
            let anew = match policy.reach() {
                Reach::Nodes => nodes_changed,
                Reach::Cluster => {
                    let more = own.insert(if column.grouped { NodeSet::new() } else { affected.clone() });
                    let cycle = question.cycle(cluster);
                    let updated = policy.update(cycle, &mut column.state, changes, news.feasible, more);
                    if column.grouped {
                        let covered =
                            |groups: &Groups| policy.labels(&column.state).is_some_and(|labels| groups.cover(&labels));
                        if updated == Update::Recompute || !groups.is_some_and(covered) {
                            return false;
                        }
                    }
                    // A policy that sees which nodes are feasible may score all of them otherwise once that changed much.
                    updated == Update::Recompute || (was_active && !column.grouped && flipped)
                }
                // Whether such a policy cares depends on the pod alone.
                Reach::Node | Reach::Outside => false,
            };
            if column.grouped {
                continue;
            }
            let asked = news.asked(policy);
            if anew {
                column.pre_score(question, cluster, policy, news.feasible);
                // The nodes may be parted by what it depends on now.
                if few_labels(column, policy, cluster).is_some_and(|labels| !labels.is_empty()) {
                    return false;
                }
                if column.active {
                    column.score_all(question, cluster, policy, asked, news.feasible);
                }
                all_moved |= was_active || column.active;
            } else if was_active {
                let again = own.as_ref().unwrap_or(affected);
                let before: NodeSet = again.iter().filter(|node| self.best.has(*node)).collect();
                let race = (asked, news.feasible);
                column.score_again(question, cluster, policy, race, (again, &before, flipped), &mut touched);
                touched.union(again);
            }
        }
        if all_moved || !news.base.has(touched.len() * COLD_ABOVE) {
            self.total_all(question, cluster, news.base, groups);
        } else {
            for node in touched.iter() {
                let total = news.base.contains(node).then(|| self.total(question, node));
                self.best.set(node, total, groups);
            }
        }
        self.score_groups(question, cluster, groups, news);
        true
    }

    /// Scores one node of each group for all, and closes groups that are not open.
    fn score_groups(&mut self, question: Question<'_>, cluster: &Cluster, groups: Option<&Groups>, news: News<'_>) {
        let Some(groups) = groups else { return };
        let representative = |group: usize| {
            let first = groups.firsts()[group];
            if news.feasible.contains(first) {
                return Some(first);
            }
            if !news.open[group] {
                return None;
            }
            groups.members(group).intersection(news.feasible).first()
        };
        let nodes: Vec<Option<NodeId>> = (0..groups.len()).map(representative).collect();
        let mut bonus: Vec<Option<i64>> = nodes.iter().map(|node| node.map(|_| 0)).collect();
        for (place, policy) in question.profile.scores() {
            let column = &mut self.columns[place];
            if !column.active || !column.grouped {
                continue;
            }
            column.score_groups(question, cluster, policy, &nodes);
            let weight = question.profile.policies()[place].weight();
            for (bonus, score) in bonus.iter_mut().zip(&column.by_group) {
                if let Some(bonus) = bonus {
                    *bonus += weight * score;
                }
            }
        }
        for (group, bonus) in bonus.into_iter().enumerate() {
            self.best.set_bonus(group, bonus);
        }
    }

    /// The sum of weight times score, as far as nodes are scored one by one.
    fn total(&self, question: Question<'_>, node: NodeId) -> i64 {
        let weighted = question.profile.policies().iter().zip(&self.columns);
        let weighted = weighted.filter(|(_, column)| column.active && !column.grouped);
        weighted.map(|(enabled, column)| enabled.weight() * column.score.get(node)).sum()
    }

    fn total_all(&mut self, question: Question<'_>, cluster: &Cluster, nodes: &NodeSet, groups: Option<&Groups>) {
        // Column by column, nodes that are out of the race included: that is quicker than to pick.
        let policies = question.profile.policies();
        let weighted = || policies.iter().zip(&self.columns).filter(|(_, column)| column.active && !column.grouped);
        let same = weighted().filter_map(|(enabled, column)| Some(enabled.weight().wrapping_mul(column.same?)));
        let base = same.fold(0, i64::wrapping_add);
        self.totals.clear();
        self.totals.resize(cluster.width(), base);
        for (enabled, column) in weighted().filter(|(_, column)| column.same.is_none()) {
            let each = self.totals.iter_mut().zip(column.score.as_slice());
            match enabled.weight() {
                // Mostly it is this, and vectors of 64-bit integers are slow to multiply.
                1 => each.for_each(|(total, score)| *total = total.wrapping_add(*score)),
                weight => each.for_each(|(total, score)| *total = total.wrapping_add(weight.wrapping_mul(*score))),
            }
        }
        self.best.reset(&mut self.totals, nodes, groups);
    }
}

/// The labels on which a policy's scores depend alone, if that is so and they part the nodes into few groups.
fn few_labels<'c>(column: &'c Column, policy: &dyn Score, cluster: &Cluster) -> Option<Vec<&'c str>> {
    let labels = policy.labels(&column.state).filter(|_| column.active)?;
    labels.iter().all(|key| parts_few(cluster, key)).then_some(labels)
}
