//! What sources.txt says is to be compiled.

const SOURCES: &str = include_str!("sources.txt");

/// A source, from the root of the crate, and the flags that it has to itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    pub path: &'static str,
    pub flags: Vec<&'static str>,
}

/// The lines of words, without comments.
fn lines() -> impl Iterator<Item = std::str::SplitWhitespace<'static>> {
    let lines = SOURCES.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.map(str::split_whitespace)
}

/// The sources of these groups.
pub fn of(groups: &[&str]) -> impl Iterator<Item = Source> {
    lines().filter_map(move |mut words| {
        let group = words.next()?;
        groups.contains(&group).then(|| {
            let path = words.next().expect("build/sources.txt: a group stands before a source");
            Source { path, flags: words.collect() }
        })
    })
}

/// The flags of every source of this group.
pub fn flags(group: &str) -> impl Iterator<Item = &'static str> {
    let of_group = move |words: &std::str::SplitWhitespace<'_>| {
        let mut words = words.clone();
        words.next() == Some("flags") && words.next() == Some(group)
    };
    lines().filter(of_group).flat_map(|words| words.skip(2))
}
