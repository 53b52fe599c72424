//! Names of topics that would be the same if '.' were '_'. Pure.
//!
//! Metrics' names take both for the same, so Kafka refuses a topic whose name differs from another's in nothing else.

use std::collections::BTreeMap;

/// A set of names that finds one that collides in one step, however many there are.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct FoldedNames {
    /// By the name with '_' for '.'; only names that have either.
    names: BTreeMap<String, String>,
}

fn folded(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

impl FoldedNames {
    pub(crate) fn insert(&mut self, name: &str) {
        if let Some(folded) = folded(name) {
            self.names.insert(folded, name.to_owned());
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if let Some(folded) = folded(name) {
            self.names.remove(&folded);
        }
    }

    /// The name that is the same but for '.' and '_', if one is there.
    pub(crate) fn find(&self, name: &str) -> Option<&str> {
        self.names.get(&folded(name)?).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_that_differ_in_dots_and_underscores_alone() {
        let mut names = FoldedNames::default();
        for name in ["a.b", "ab", "c_d_e"] {
            names.insert(name);
        }
        assert_eq!(names.find("a_b"), Some("a.b"));
        assert_eq!(names.find("c.d_e"), Some("c_d_e"));
        assert_eq!(names.find("a-b"), None);
        assert_eq!(names.find("ab"), None);
        names.remove("a.b");
        assert_eq!(names.find("a_b"), None);
    }
}
