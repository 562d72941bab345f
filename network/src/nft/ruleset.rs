//! A table of nftables as a value, and the commands that lead from one to another.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Everything in one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    /// Sets and maps by name.
    pub(crate) sets: BTreeMap<String, Set>,
    /// Chains by name.
    pub(crate) chains: BTreeMap<String, Chain>,
}

/// A set or a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Set {
    /// `set` or `map`.
    pub(crate) word: &'static str,
    /// What stands between its braces.
    pub(crate) declaration: String,
    /// Keys, and in a map their values. What packets add is not among them.
    pub(crate) elements: BTreeMap<String, String>,
}

/// A chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    /// What stands between its braces; empty for a chain that is only jumped to.
    pub(crate) hook: String,
    pub(crate) rules: Vec<String>,
}

impl Ruleset {
    pub(crate) fn set(&mut self, word: &'static str, name: &str, declaration: impl Into<String>) {
        let set = Set { word, declaration: declaration.into(), elements: BTreeMap::new() };
        self.sets.insert(name.to_owned(), set);
    }

    pub(crate) fn element(&mut self, set: &str, key: impl Into<String>, value: impl Into<String>) {
        let set = self.sets.get_mut(set).expect("sets are declared before they are filled");
        set.elements.insert(key.into(), value.into());
    }

    pub(crate) fn rule(&mut self, chain: &str, rule: impl Into<String>) {
        self.chains.entry(chain.to_owned()).or_default().rules.push(rule.into());
    }

    /// Commands that make the table, named with its family, this one, whatever it was.
    pub(crate) fn whole(&self, table: &str) -> String {
        // Adding first makes removing possible where there is none.
        let mut commands = format!("add table {table}\ndelete table {table}\nadd table {table}\n");
        commands.push_str(&Self::default().difference(self, table));
        commands
    }

    /// Commands that make the table `new`, if it is this one; none if they are equal.
    pub(crate) fn difference(&self, new: &Self, table: &str) -> String {
        let mut out = String::new();
        let mut say = |command: std::fmt::Arguments<'_>| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{command}");
        };
        let kept = |name: &String, set: &Set| {
            self.sets.get(name).is_some_and(|old| (old.word, &old.declaration) == (set.word, &set.declaration))
        };
        // A rule needs the set that it names, an element the chain that it leads to: first what is new is made, empty…
        for (name, set) in new.sets.iter().filter(|(name, _)| !self.sets.contains_key(*name)) {
            say(format_args!("add {} {table} {name} {{ {} }}", set.word, set.declaration));
        }
        for (name, chain) in new.chains.iter().filter(|(name, _)| !self.chains.contains_key(*name)) {
            match chain.hook.as_str() {
                "" => say(format_args!("add chain {table} {name}")),
                hook => say(format_args!("add chain {table} {name} {{ {hook} }}")),
            }
        }
        // … then what refers to something is changed …
        for (name, old) in &self.sets {
            let Some(set) = new.sets.get(name) else { continue };
            debug_assert!(kept(name, set), "a set's declaration follows from its name");
            let gone = old.elements.iter().filter(|(key, value)| set.elements.get(*key) != Some(value));
            if let Some(elements) = elements(gone) {
                say(format_args!("delete element {table} {name} {{ {elements} }}"));
            }
        }
        for (name, old) in &self.chains {
            if new.chains.get(name).is_none_or(|chain| chain.rules != old.rules) && !old.rules.is_empty() {
                say(format_args!("flush chain {table} {name}"));
            }
        }
        for (name, chain) in &new.chains {
            if self.chains.get(name).is_none_or(|old| chain.rules != old.rules) {
                for rule in &chain.rules {
                    say(format_args!("add rule {table} {name} {rule}"));
                }
            }
        }
        for (name, set) in &new.sets {
            let old = self.sets.get(name).map(|old| &old.elements);
            let added = set.elements.iter().filter(|(key, value)| old.and_then(|old| old.get(*key)) != Some(value));
            if let Some(elements) = elements(added) {
                say(format_args!("add element {table} {name} {{ {elements} }}"));
            }
        }
        // … and last goes what nothing refers to any more.
        for name in self.chains.keys().filter(|name| !new.chains.contains_key(*name)) {
            say(format_args!("delete chain {table} {name}"));
        }
        for (name, set) in self.sets.iter().filter(|(name, _)| !new.sets.contains_key(*name)) {
            say(format_args!("delete {} {table} {name}", set.word));
        }
        out
    }

    /// Whether a listing of the table, without what sets hold, has everything that is in here.
    pub(crate) fn matches(&self, listing: &str) -> bool {
        let mut rules: BTreeMap<&str, usize> = BTreeMap::new();
        let mut sets = 0;
        let mut chain = None;
        for line in listing.lines().map(str::trim) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["chain", name, "{"] => {
                    chain = Some(*name);
                    rules.insert(*name, 0);
                }
                ["set" | "map", _, "{"] => sets += 1,
                ["}"] => chain = None,
                ["type", _, "hook", ..] | [] => {}
                _ => {
                    if let Some(count) = chain.and_then(|chain| rules.get_mut(chain)) {
                        *count += 1;
                    }
                }
            }
        }
        let wanted = self.chains.iter().map(|(name, chain)| (name.as_str(), chain.rules.len()));
        sets == self.sets.len() && wanted.eq(rules)
    }
}

fn elements<'a>(entries: impl Iterator<Item = (&'a String, &'a String)>) -> Option<String> {
    let text: Vec<String> =
        entries.map(|(key, value)| if value.is_empty() { key.clone() } else { format!("{key} : {value}") }).collect();
    (!text.is_empty()).then(|| text.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruleset(elements: &[(&str, &str)], chains: &[(&str, &[&str])]) -> Ruleset {
        let mut ruleset = Ruleset::default();
        ruleset.set("map", "m", "type inet_service : verdict ;");
        for (key, value) in elements {
            ruleset.element("m", *key, *value);
        }
        for (chain, rules) in chains {
            let rules = rules.iter().map(|rule| (*rule).to_owned()).collect();
            ruleset.chains.insert((*chain).to_owned(), Chain { hook: String::new(), rules });
        }
        ruleset
    }

    #[test]
    fn only_what_differs_is_sent() {
        let old = ruleset(&[("80", "goto a"), ("81", "goto b")], &[("a", &["accept"]), ("b", &["accept"])]);
        assert_eq!(old.difference(&old, "ip t"), "");
        let changed = ruleset(&[("80", "goto a"), ("81", "goto b")], &[("a", &["accept"]), ("b", &["drop"])]);
        assert_eq!(old.difference(&changed, "ip t"), "flush chain ip t b\nadd rule ip t b drop\n");
    }

    #[test]
    fn what_refers_goes_before_what_is_referred_to() {
        let old = ruleset(&[("80", "goto a")], &[("a", &["accept"])]);
        let new = ruleset(&[("80", "goto b"), ("81", "goto b")], &[("b", &["drop"])]);
        assert_eq!(
            old.difference(&new, "ip t"),
            "add chain ip t b\n\
             delete element ip t m { 80 : goto a }\n\
             flush chain ip t a\n\
             add rule ip t b drop\n\
             add element ip t m { 80 : goto b, 81 : goto b }\n\
             delete chain ip t a\n"
        );
        assert!(old.whole("ip t").starts_with("add table ip t\ndelete table ip t\nadd table ip t\nadd map ip t m {"));
    }

    #[test]
    fn a_listing_that_lacks_something_does_not_match() {
        let ruleset = ruleset(&[], &[("a", &["accept", "drop"]), ("b", &[])]);
        let listing = "table ip t {\n\tmap m {\n\t\ttype inet_service : verdict\n\t}\n\n\tchain a {\n\t\taccept\n\t\tdrop\n\t}\n\n\tchain b {\n\t}\n}\n";
        assert!(ruleset.matches(listing));
        assert!(!ruleset.matches(&listing.replace("\t\tdrop\n", "")));
        assert!(!ruleset.matches(&listing.replace("\tchain b {\n\t}\n", "")));
        assert!(!ruleset.matches(""));
    }
}
